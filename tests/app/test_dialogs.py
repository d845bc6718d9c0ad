"""Confirming and quitting: what is said, what is sent, and what happens to the answer."""

from __future__ import annotations

from typing import Any

import pytest

from app.messages import Dialog
from app.screens.dialogs import DIALOGS
from app.screens.dialogs.confirm import DeleteDialog, DisableDialog
from app.screens.dialogs.dialog import DialogScreen
from app.screens.dialogs.quit import QuitDialog
from orchestrator.contract.command import DeleteEndpoint, DisableEndpoint, Shutdown
from tests.app import fakes
from tests.app.dialog_stage import HeldClient, refusing, silent, stage
from tests.waiting import until


def test_every_dialog_has_a_factory() -> None:
    assert set(DIALOGS) == set(Dialog)


@pytest.mark.parametrize(
    ("dialog", "kind", "command"),
    [(Dialog.DELETE, DeleteDialog, DeleteEndpoint), (Dialog.DISABLE, DisableDialog, DisableEndpoint)],
)
async def test_stopping_says_what_happens_and_y_does_it(dialog: Dialog, kind: Any, command: Any) -> None:
    async with stage(dialog, "sketch") as held:
        await held.shows("drains: 3 running requests, 4 queued may finish first")
        await held.shows("stops 4 workers, which cost $35.86/h now")
        await held.shows("its bill so far stays: $212.41 in all, $61.84 today")
        assert held.top.focused.id == "do-cancel"
        await held.press("y")
        await held.gone(kind)
        assert [(type(sent), sent.slug) for sent in held.client.sent] == [(command, "sketch")]
        assert [note.message for note in held.app._notifications] == ["done"]


@pytest.mark.parametrize("key", ["n", "escape", "enter"])
async def test_not_stopping_sends_nothing(key: str) -> None:
    async with stage(Dialog.DELETE, "sketch") as held:
        await held.press(key)
        await held.gone(DeleteDialog)
        assert held.client.sent == []


async def test_arrows_walk_between_the_buttons_and_the_mouse_presses() -> None:
    async with stage(Dialog.DISABLE, "thumbs") as held:
        await held.shows("nothing to drain: no request is running")
        await held.press("right")
        assert held.top.focused.id == "do-confirm"
        await held.press("right", "left")
        assert held.top.focused.id == "do-cancel"
        await held.pilot.click("#do-confirm")
        await held.gone(DisableDialog)
        assert isinstance(held.client.sent[0], DisableEndpoint)


async def test_the_figures_of_a_confirmation_stay_fresh() -> None:
    async with stage(Dialog.DELETE, "sketch") as held:
        busier = fakes.sketch().model_copy(
            update={"traffic": fakes.sketch().traffic.model_copy(update={"running": 9, "queued": 0})}
        )
        held.client.push(fakes.rich(endpoints=(busier,)))
        await held.shows("drains: 9 running requests may finish first")
        held.client.push(fakes.rich(endpoints=()))
        await held.shows("sketch no longer exists.")


async def test_a_refused_delete_says_why_and_stays() -> None:
    client = fakes.FakeClient(fakes.rich())
    client.outcome = refusing("slug: no endpoint '[b]x[/b]'", "slug")
    async with stage(Dialog.DELETE, "sketch", client=client) as held:
        await held.press("y")
        await held.shows("✖ slug: no endpoint '[b]x[/b]'")
        assert isinstance(held.top, DeleteDialog)


@pytest.mark.parametrize("key", ["ctrl+r", "y"])
async def test_an_unanswered_delete_is_sent_again_with_the_same_id(key: str) -> None:
    client = fakes.FakeClient(fakes.rich())
    client.outcome = silent
    async with stage(Dialog.DELETE, "sketch", client=client) as held:
        await held.press("y")
        await held.shows("No answer: the socket is gone.")
        await held.shows("cannot happen twice")
        client.outcome = fakes.FakeClient().outcome
        await held.press(key)
        await held.gone(DeleteDialog)
        assert len(client.sent) == 2
        assert client.sent[0] == client.sent[1]


async def test_the_answer_to_a_closed_dialog_is_a_toast() -> None:
    client = HeldClient(fakes.rich())
    async with stage(Dialog.DELETE, "sketch", client=client) as held:
        await held.press("y")
        await held.shows("waiting for the orchestrator")
        await held.press("escape")
        await held.gone(DeleteDialog)
        client.gate.set()
        await until(lambda: len(held.app._notifications) == 1, what="the toast")


async def test_leaving_says_what_goes_on_and_sends_nothing() -> None:
    async with stage(Dialog.QUIT) as held:
        await held.shows("4 workers of 1 endpoint cost $35.86/h, 3 requests in flight.")
        await held.shows("4 workers go on at $35.86/h")
        assert held.top.focused.id == "do-leave"
        await held.press("enter")
        await until(lambda: held.app._exit, what="the app to end")
        assert held.client.sent == []
    assert held.app.return_value == "leave"


async def test_draining_waits_for_the_answer_and_then_ends_the_app() -> None:
    client = HeldClient(fakes.rich())
    async with stage(Dialog.QUIT, client=client) as held:
        await held.press("s")
        await held.shows("waiting for the orchestrator")
        assert not held.app._exit
        client.gate.set()
        await until(lambda: held.app._exit, what="the app to end")
        assert [(type(sent), sent.mode) for sent in client.sent] == [(Shutdown, "drain")]  # type: ignore[union-attr]
    assert held.app.return_value == "drain"


async def test_a_refused_shutdown_keeps_the_app() -> None:
    client = fakes.FakeClient(fakes.rich())
    client.outcome = refusing("a drain is under way")
    async with stage(Dialog.QUIT, client=client) as held:
        await held.press("s")
        await held.shows("✖ a drain is under way")
        assert not held.app._exit
        await held.press("escape")
        await held.gone(QuitDialog)
        assert not held.app._exit


async def test_an_unanswered_shutdown_offers_to_send_it_again() -> None:
    client = fakes.FakeClient(fakes.rich())
    client.outcome = silent
    async with stage(Dialog.QUIT, client=client) as held:
        await held.press("s")
        await held.shows("No answer")
        client.outcome = fakes.FakeClient().outcome
        await held.press("enter")
        await until(lambda: held.app._exit, what="the app to end")
        assert client.sent[0] == client.sent[1]


async def test_with_nothing_running_stopping_is_the_default() -> None:
    async with stage(Dialog.QUIT, client=fakes.FakeClient(fakes.bare())) as held:
        await held.shows("Nothing runs and nothing is billed.")
        assert held.top.focused.id == "do-drain"
        await held.press("up")
        assert held.top.focused.id == "do-leave"


async def test_the_keys_of_the_dashboard_open_the_dialogs() -> None:
    async with stage(None, bare=False) as held:
        for key, kind in (("n", "CreateDialog"), ("e", "EditDialog"), ("d", "DisableDialog"), ("x", "DeleteDialog"),
                          ("t", "TopUpDialog"), ("a", "KeysDialog"), ("q", "QuitDialog")):  # fmt: skip
            await held.press(key)
            await until(lambda kind=kind: type(held.top).__name__ == kind, what=kind)
            await held.press("escape")
            await until(lambda: not isinstance(held.top, DialogScreen), what="the dialog to close")
        assert held.client.sent == []
