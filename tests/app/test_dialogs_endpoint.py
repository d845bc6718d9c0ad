"""Creating and editing an endpoint: what is typed, what is asked, what is sent, and that nothing typed is ever lost."""

from __future__ import annotations

from typing import Any

import pytest
from textual.widgets import Button

from app.messages import Dialog
from app.screens.dialogs.create import CreateDialog
from app.screens.dialogs.endpoint_fields import EndpointFields, Fold
from app.screens.dialogs.fields import Choice, Field, ListChoice, TextInput, TextLines
from app.screens.dialogs.top_up import TopUpDialog
from orchestrator.contract.base import DOLLAR_U
from orchestrator.contract.command import Command, CreateEndpoint, RefusalCode
from orchestrator.contract.endpoint import EndpointSpec, RequestCount, Visibility
from orchestrator.contract.query import AskQuote, Query
from orchestrator.contract.snapshot import EngineKind, EngineView
from tests.app import fakes
from tests.app.dialog_stage import SMALL, WIDE, HeldClient, refusing, silent, stage
from tests.waiting import until

START = EndpointSpec(slug="sketch-2", model="sketch", gpu_type="L40", baseline=1, maximum=2)


def asked(client: fakes.FakeClient) -> list[EndpointSpec]:
    return [query.spec for query in client.asked if isinstance(query, AskQuote)]


@pytest.mark.parametrize("size", [SMALL, WIDE])
async def test_creating_with_the_defaults_takes_one_key(size: tuple[int, int]) -> None:
    async with stage(Dialog.CREATE, size=size) as held:
        await held.shows("$17.93/h")
        await held.shows("✔ credit ok")
        await held.press("ctrl+s")
        command = await held.sent()
        assert isinstance(command, CreateEndpoint)
        assert command.spec == START
        assert len(command.id) == 32
        await until(lambda: not isinstance(held.top, CreateDialog), what="the dialog to close")


async def test_every_field_reaches_the_command() -> None:
    async with stage(Dialog.CREATE) as held:
        await held.choose("model", "echo")
        await held.choose("gpu_type", "H100")
        await held.type("slug", "my-echo")
        await held.choose("preset", "production")
        await held.type("maximum", "6")
        await held.choose("policy", "request_count")
        await held.type("threshold", "9")
        await held.type("idle_timeout_s", "30")
        held.top.query_one(Fold).action_turn()
        await held.pilot.pause()
        for name, value in (
            ("execution_timeout_s", "20"), ("queue_timeout_s", "21"), ("startup_deadline_s", "22"),
            ("queue_limit", "23"), ("concurrency", "24"),
        ):  # fmt: skip
            await held.type(name, value)
        await held.choose("visibility", "public")
        held.top.query_one("#env", TextLines).focus()
        await held.press("A", "equals_sign", "1", "enter", "B", "equals_sign")
        await held.press("ctrl+s")
        command = await held.sent()
        assert command.spec == EndpointSpec(
            slug="my-echo", model="echo", gpu_type="H100", baseline=2, maximum=6, policy=RequestCount(value=9),
            idle_timeout_s=30, execution_timeout_s=20, queue_timeout_s=21, startup_deadline_s=22, queue_limit=23,
            concurrency=24, visibility=Visibility.PUBLIC, env={"A": "1", "B": ""},
        )  # fmt: skip


async def test_the_keyboard_alone_reaches_everything_at_80x24() -> None:
    async with stage(Dialog.CREATE) as held:
        form = held.dialog(CreateDialog)
        visited: list[str] = []
        for _ in range(30):
            focused = form.focused
            assert focused is not None
            region, screen = focused.region, form.region
            assert screen.contains_region(region), f"{focused} is out of view at {region}"
            visited.append(focused.id or type(focused).__name__)
            if focused.id == "do-submit":
                break
            await held.press("tab")
        assert visited == [
            "model", "gpu_type", "slug", "preset", "baseline", "maximum", "policy", "threshold", "idle_timeout_s",
            "Fold", "do-cancel", "do-submit",
        ]  # fmt: skip
        await held.press("enter")
        assert (await held.sent()).spec == START


async def test_the_advanced_part_opens_by_key_and_scrolls_into_view() -> None:
    async with stage(Dialog.CREATE) as held:
        held.top.query_one(Fold).focus()
        await held.press("enter", *["tab"] * 7)
        env = held.top.query_one("#env", TextLines)
        assert env.has_focus
        await until(lambda: held.top.query_one("#fields").region.contains_region(env.region), what="the field in view")
        await held.press("shift+tab", *["shift+tab"] * 6, "enter")
        assert not held.top.query_one(EndpointFields).unfolded


async def test_up_down_and_enter_walk_through_the_lines() -> None:
    async with stage(Dialog.CREATE) as held:
        held.top.query_one("#baseline").focus()
        await held.press("down")
        assert held.top.focused.id == "maximum"
        await held.press("up", "enter")
        assert held.top.focused.id == "maximum"
        assert held.client.sent == []


async def test_only_the_label_of_the_focused_field_is_lit() -> None:
    async with stage(Dialog.CREATE) as held:
        for expected in ("model", "gpu_type", "slug"):
            lit = [field.names[0] for field in held.top.query(Field) if field.has_class("-focused")]
            assert lit == [expected]
            await held.press("tab")


async def test_the_mouse_chooses_and_presses() -> None:
    async with stage(Dialog.CREATE, size=WIDE) as held:
        await held.shows("$17.93/h")
        await held.pilot.click("#model", offset=(4, 1))
        assert held.top.query_one("#model", Choice).chosen == "echo"
        await held.pilot.click("#preset", offset=(15, 0))
        assert held.top.query_one("#preset", Choice).chosen == "dev"
        await held.pilot.click(Fold)
        assert held.top.query_one(EndpointFields).unfolded
        await held.pilot.click("#do-submit")
        command = await held.sent()
        assert (command.spec.model, command.spec.setup, command.spec.slug) == ("echo", "0-1", "echo")


async def test_escape_and_the_cancel_button_send_nothing() -> None:
    async with stage(Dialog.CREATE) as held:
        await held.press("escape")
        assert not isinstance(held.top, CreateDialog)
        assert held.client.sent == []


async def test_presets_write_the_numbers_and_numbers_undo_the_preset() -> None:
    async with stage(Dialog.CREATE) as held:
        preset = held.top.query_one("#preset", Choice)
        assert preset.chosen == "start"
        preset.focus()
        await held.press("right", "right", "right")
        assert preset.chosen == "production"
        assert (held.top.query_one("#baseline", TextInput).value, held.top.query_one("#maximum", TextInput).value) == (
            "2",
            "5",
        )
        await held.type("maximum", "7")
        assert preset.chosen is None
        await held.shows("your own setup")


async def test_the_slug_follows_the_model_until_it_is_typed() -> None:
    async with stage(Dialog.CREATE) as held:
        slug = held.top.query_one("#slug", TextInput)
        await held.choose("model", "echo")
        assert slug.value == "echo"
        await held.type("slug", "mine")
        await held.choose("model", "sketch")
        assert slug.value == "mine"


@pytest.mark.parametrize(
    ("typed", "said"),
    [("sketch", "exists already"), ("Bad", "a-z, 0-9")],
)
async def test_the_slug_is_judged_while_it_is_typed(typed: str, said: str) -> None:
    async with stage(Dialog.CREATE) as held:
        assert held.problem("slug") == ""
        await held.type("slug", typed)
        assert said in held.problem("slug")
        await held.shows("The price appears once the marked fields are right.")
        await held.press("ctrl+s")
        assert held.client.sent == []
        assert held.top.focused.id == "slug"
        await held.type("slug", "fine")
        assert held.problem("slug") == ""


async def test_a_hidden_problem_speaks_from_the_fold_and_submitting_opens_it() -> None:
    async with stage(Dialog.CREATE) as held:
        fields = held.top.query_one(EndpointFields)
        held.top.query_one("#queue_limit", TextInput).value = "many"
        await held.shows("▸ Advanced ✖ queue limit: 'many' is not a whole number")
        await held.press("ctrl+s")
        assert fields.unfolded
        assert held.top.focused.id == "queue_limit"
        assert held.client.sent == []


async def test_a_model_that_the_engine_cannot_run_is_marked_and_refused() -> None:
    host = fakes.rich(engine=EngineView(kind=EngineKind.PROCESS, ok=True, detail="local"))
    async with stage(Dialog.CREATE, client=fakes.FakeClient(host)) as held:
        await held.shows("✖ needs docker")
        held.top.query_one("#model", ListChoice).focus()
        await held.press("end")
        assert held.problem("model") == "✖ vLLM needs the docker engine; this host runs the process engine"
        await held.press("ctrl+s")
        assert held.client.sent == []


async def test_a_quote_is_asked_for_each_valid_change_one_at_a_time_and_the_newest_wins() -> None:
    client = HeldClient(fakes.rich())
    async with stage(Dialog.CREATE, client=client) as held:
        await held.shows("asking for the price")
        for digit in "3456":
            await held.type("maximum", digit)
        await held.type("maximum", "x")
        await held.type("maximum", "8")
        assert client.unanswered == 1
        client.gate.set()
        # b + 7 extra workers: only the newest price stays.
        await held.shows("$109.51/h")
        assert [spec.maximum for spec in asked(client)] == [2, 8]
        assert held.dialog(CreateDialog).offer.spec == START.model_copy(update={"maximum": 8})


async def test_no_answer_to_the_quote_is_said_and_the_next_change_asks_again() -> None:
    client = fakes.FakeClient(fakes.rich())
    client.unreachable = "[red]gone[/]"
    async with stage(Dialog.CREATE, client=client) as held:
        await held.shows("✖ no price: no answer from the orchestrator: [red]gone[/]")
        client.unreachable = None
        await held.type("maximum", "3")
        await held.shows("$33.19/h")


def poor(query: Query) -> Any:
    answer = fakes.example_answer(query)
    if isinstance(query, AskQuote):
        refusal = "credit: $64.08 needed, 30.00 dollars there"
        return answer.model_copy(update={"balance_u": 30 * DOLLAR_U, "refusal": refusal, "refusal_field": "baseline"})
    return answer


async def test_missing_credit_is_said_before_submitting_and_topping_up_asks_again() -> None:
    client = fakes.FakeClient(fakes.rich())
    client.answer = poor
    async with stage(Dialog.CREATE, client=client) as held:
        await held.shows("✖ short by $34.08")
        assert held.problem("baseline") == ""
        await held.press("ctrl+t")
        await held.front(TopUpDialog)
        client.answer = fakes.example_answer
        await held.type("amount", "50")
        await held.press("enter")
        await held.front(CreateDialog)
        await held.shows("✔ credit ok")
        assert [command.kind for command in client.sent] == ["top_up"]


async def test_the_refusal_of_a_quote_stands_beside_its_field() -> None:
    def answer(query: Query) -> Any:
        change = {"refusal": "env: model vllm needs HF_TOKEN; set it with NAME=value", "refusal_field": "env"}
        return fakes.example_answer(query).model_copy(update=change)

    client = fakes.FakeClient(fakes.rich())
    client.answer = answer
    async with stage(Dialog.CREATE, client=client) as held:
        await held.shows("▸ Advanced ✖ environment: model vllm needs HF_TOKEN")


@pytest.mark.parametrize(
    ("field", "focus"),
    [("slug", "slug"), ("env", "env"), ("gpu_type", "gpu_type")],
)
async def test_a_refusal_stands_beside_its_field_and_nothing_typed_is_lost(field: str, focus: str) -> None:
    client = fakes.FakeClient(fakes.rich())
    client.outcome = refusing(f"{field}: [bold]no[/] because of 7", field, RefusalCode.INVALID)
    async with stage(Dialog.CREATE, client=client) as held:
        await held.type("slug", "mine")
        await held.type("maximum", "9")
        before = held.top.query_one(EndpointFields).texts()
        await held.press("ctrl+s")
        await held.sent()
        await until(lambda: "[bold]no[/] because of 7" in held.problem(field), what="the refusal")
        assert held.top.query_one(EndpointFields).texts() == before
        assert held.top.focused.id == focus
        assert not held.app._notifications
        # The next try is a new command, and changing the field takes its refusal away.
        await held.press("ctrl+s")
        await held.sent(2)
        assert client.sent[0].id != client.sent[1].id


async def test_changing_the_field_takes_its_refusal_away() -> None:
    client = fakes.FakeClient(fakes.rich())
    client.outcome = refusing("maximum: 9 workers, the limit is 5", "maximum", RefusalCode.LIMIT)
    async with stage(Dialog.CREATE, client=client) as held:
        await held.type("maximum", "9")
        await held.press("ctrl+s")
        await until(lambda: held.problem("maximum"), what="the refusal")
        assert held.problem("maximum") == "✖ maximum: 9 workers, the limit is 5"
        await held.type("maximum", "5")
        assert held.problem("maximum") == ""


async def test_a_refusal_for_credit_offers_the_top_up() -> None:
    client = fakes.FakeClient(fakes.rich())
    client.outcome = refusing(
        "credit: $64.08 needed", "baseline", RefusalCode.CREDIT, needed_u=64_080_000, available_u=0
    )
    async with stage(Dialog.CREATE, client=client) as held:
        await held.press("ctrl+s")
        await held.shows("^t tops up, then send it again")
        assert held.problem("baseline") == "✖ credit: $64.08 needed"


async def test_a_refusal_without_a_field_stands_in_the_status_line() -> None:
    client = fakes.FakeClient(fakes.rich())
    client.outcome = refusing("gpudeck is stopping", None, RefusalCode.STOPPING)
    async with stage(Dialog.CREATE, client=client) as held:
        await held.press("ctrl+s")
        await held.shows("✖ gpudeck is stopping")
        assert isinstance(held.top, CreateDialog)


async def test_an_unanswered_create_is_sent_again_as_the_same_command() -> None:
    client = fakes.FakeClient(fakes.rich())
    async with stage(Dialog.CREATE, client=client) as held:
        await held.shows("$17.93/h")
        first: list[Command] = []
        client.outcome = lambda command: first.append(command) or silent(command)  # type: ignore[func-returns-value]
        await held.press("ctrl+s")
        await held.shows("No answer: the socket is gone.")
        assert isinstance(held.top, CreateDialog)
        again = held.top.query_one("#do-retry", Button)
        assert again.display
        assert again.has_focus
        assert not held.app._notifications
        client.outcome = fakes.FakeClient().outcome
        await held.press("enter")
        await until(lambda: not isinstance(held.top, CreateDialog), what="the dialog to close")
        assert client.sent[-1] == first[0]
        assert {command.id for command in client.sent} == {first[0].id}


async def test_submitting_again_unchanged_keeps_the_id_and_changed_does_not() -> None:
    client = fakes.FakeClient(fakes.rich())
    client.outcome = silent
    async with stage(Dialog.CREATE, client=client) as held:
        for count in (1, 2):
            await held.press("ctrl+s")
            await held.sent(count)
            await until(lambda: not held.top.busy, what="the silence")
        await held.type("maximum", "3")
        await held.press("ctrl+s")
        await held.sent(3)
        one, two, three = client.sent
        assert one == two
        assert three.id != one.id


async def test_a_second_submit_while_waiting_sends_nothing() -> None:
    client = HeldClient(fakes.rich())
    async with stage(Dialog.CREATE, client=client) as held:
        await held.press("ctrl+s", "ctrl+s", "ctrl+s")
        await held.shows("waiting for the orchestrator")
        client.gate.set()
        await held.sent()


async def test_a_new_snapshot_changes_the_choices_and_keeps_the_text() -> None:
    async with stage(Dialog.CREATE) as held:
        await held.type("slug", "mine")
        held.client.push(fakes.rich(capacity=fakes.rich().capacity[:1]))
        await held.shows("H100 $9.00/h on $0.0124/s extra none here")
        assert held.top.query_one("#slug", TextInput).value == "mine"


async def test_a_long_catalogue_is_shown_in_a_window_that_follows_the_choice() -> None:
    model = fakes.rich().models[0]
    many = tuple(model.model_copy(update={"name": f"m{n}", "title": f"Model {n}"}) for n in range(12))
    async with stage(Dialog.CREATE, client=fakes.FakeClient(fakes.rich(models=many))) as held:
        models = held.top.query_one("#model", ListChoice)
        assert models.size.height == 4
        await held.press("end")
        await held.shows("● m11")
        assert "m7 " not in held.text()
        await held.press("home", "down")
        assert models.chosen == "m1"
        await held.pilot.click("#model", offset=(3, 2))
        assert models.chosen == "m2"
