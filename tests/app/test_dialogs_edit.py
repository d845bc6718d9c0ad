"""Editing an endpoint: the same form, filled in, and only what changed is sent."""

from __future__ import annotations

from app.messages import Dialog
from app.screens.dialogs.edit import EditDialog, GoneDialog
from app.screens.dialogs.endpoint_fields import EndpointFields
from app.screens.dialogs.fields import Choice, TextInput
from orchestrator.contract.command import RefusalCode, UpdateEndpoint
from orchestrator.contract.endpoint import EndpointChanges
from orchestrator.contract.query import AskQuote
from tests.app import fakes
from tests.app.dialog_stage import WIDE, refusing, stage
from tests.waiting import until


async def test_editing_shows_old_and_new_and_sends_only_what_changed() -> None:
    async with stage(Dialog.EDIT, "sketch", size=WIDE) as held:
        assert held.top.focused.id == "baseline"
        assert not held.top.query("#slug")
        await held.shows("Nothing has changed yet.")
        await held.press("ctrl+s")
        await held.shows("Nothing has changed yet; esc leaves it as it is.")
        assert held.client.sent == []
        await held.type("baseline", "3")
        await held.shows("✔ baseline 2 → 3")
        await held.shows("✔ applies at once, the workers go on.")
        await held.choose("model", "echo")
        await held.shows("↻ model sketch → echo")
        await held.shows("↻ rolls the workers")
        await held.press("ctrl+s")
        command = await held.sent()
        assert isinstance(command, UpdateEndpoint)
        assert command.slug == "sketch"
        assert command.changes == EndpointChanges(baseline=3, model="echo")


async def test_an_edit_opens_with_what_there_is() -> None:
    async with stage(Dialog.EDIT, "thumbs") as held:
        texts = held.top.query_one(EndpointFields).texts()
        assert (texts.slug, texts.baseline, texts.maximum, texts.policy) == ("thumbs", "0", "5", "request_count")
        assert held.top.query_one("#preset", Choice).chosen == "serverless"
        assert [query.spec.slug for query in held.client.asked if isinstance(query, AskQuote)] == ["thumbs"]


async def test_a_refused_edit_keeps_what_was_typed() -> None:
    client = fakes.FakeClient(fakes.rich())
    client.outcome = refusing("baseline: 4 x L40 wanted, at most 2 are left", "baseline", RefusalCode.GPU)
    async with stage(Dialog.EDIT, "sketch", client=client) as held:
        await held.type("baseline", "4")
        await held.press("ctrl+s")
        await until(lambda: held.problem("baseline"), what="the refusal")
        assert held.dialog(EditDialog).query_one("#baseline", TextInput).value == "4"


async def test_editing_an_endpoint_that_is_gone_says_so() -> None:
    async with stage(Dialog.EDIT, "ghost") as held:
        assert isinstance(held.top, GoneDialog)
        await held.shows("ghost no longer exists.")
        await held.press("escape")
        assert not isinstance(held.top, GoneDialog)
