"""The screens behind the dashboard: endpoint, logs, help, palette."""

from __future__ import annotations

from textual.widgets import OptionList

from app.actions import ACTIONS, Where
from app.present.text import text
from app.screens.dashboard import DashboardScreen
from app.screens.endpoint_detail import EndpointScreen
from app.screens.help import HelpPanel, HelpScreen
from app.screens.live import LAB_ACTIONS
from app.screens.logs import LogPanel, LogsScreen
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.ended import AskEnded, EndedWorker, EndedWorkers
from orchestrator.contract.query import AskLogs, Query
from orchestrator.contract.snapshot import EndpointState
from tests.app.driving import running
from tests.app.fakes import NOW_NS, example_answer, rich, sketch
from tests.app.pictures import screen_text
from tests.waiting import until


async def test_endpoint_screen_follows_the_feed_and_survives_deletion() -> None:
    async with running(rich(seq=1)) as (app, client, pilot):
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, EndpointScreen))
        await pilot.pause()
        shown = screen_text(app)
        for wanted in (
            "oldest waiter 4.1 s is over the 4 s",
            "A autoscale",
            "first byte",
            "queue delay 4 s",
        ):
            assert wanted in shown
        disabled = sketch().model_copy(update={"state": EndpointState.DISABLED, "workers": ()})
        client.push(rich(seq=2, endpoints=(disabled,)))
        await until(lambda: "· disabled" in screen_text(app))
        client.push(rich(seq=3, endpoints=()))
        await until(lambda: "sketch no longer exists" in screen_text(app))
        await pilot.press("escape")
        assert isinstance(app.screen, DashboardScreen)


async def test_workers_that_are_over_stand_below_those_that_run_with_what_they_cost() -> None:
    over = EndedWorker(
        worker_id="sketch-w4", label="w4", gpu_type="L40", started_ns=NOW_NS - 200 * SECOND_NS,
        ended_ns=NOW_NS - 80 * SECOND_NS, cause="oom", detail="killed\x1b[2J [b]hard[/b]", amount_u=508_800,
        absorbed_u=0, interval_ids=("i1",), requests=321,
    )  # fmt: skip
    here = over.model_copy(update={"worker_id": "sketch-w1", "label": "w1"})

    def answer(query: Query) -> object:
        if isinstance(query, AskEnded):
            return EndedWorkers(slug="sketch", total=9, workers=(here, over))
        return example_answer(query)

    async with running(rich(), size=(200, 50)) as (app, client, pilot):
        client.answer = answer
        await pilot.press("enter")
        await until(lambda: "· over" in screen_text(app))
        shown = screen_text(app)
        row = next(line for line in shown.splitlines() if "w4" in line and "over" in line)
        for wanted in ("L40", "321", "$0.50", "2 m 00 s", "killed [b]hard[/b]"):
            assert wanted in row
        assert shown.count("· over") == 1, "one that is still there is not over"
        assert "7 more are over; m opens the ledger" in shown
        asked = sum(isinstance(query, AskEnded) for query in client.asked)
        assert asked == 1
        client.push(rich(seq=2))
        fewer = sketch().model_copy(update={"workers": sketch().workers[:1]})
        client.push(rich(seq=3, endpoints=(fewer,)))
        await until(lambda: sum(isinstance(query, AskEnded) for query in client.asked) == 2)


async def test_copied_curl_is_on_the_clipboard() -> None:
    async with running(rich()) as (app, _, pilot):
        await pilot.press("y")
        assert app.clipboard.startswith("curl -sS http://127.0.0.1:8600/v1/sketch ")
        assert "$GPUDECK_KEY" in app.clipboard


async def test_logs_are_asked_for_shown_plain_and_filtered() -> None:
    async with running(rich()) as (app, client, pilot):
        await pilot.press("l")
        await until(lambda: isinstance(app.screen, LogsScreen) and "[bold]warm-up[/bold]" in screen_text(app))
        assert client.asked[0] == AskLogs(slug="sketch", worker=None, tail=400)
        assert "\x1b" not in screen_text(app)
        asked = len(client.asked)
        assert isinstance(app.screen, LogsScreen)
        app.screen.ask()
        await until(lambda: len(client.asked) > asked)
        await pilot.press("right_square_bracket")
        await until(lambda: any(isinstance(q, AskLogs) and q.worker == "sketch-w1" for q in client.asked))
        await until(lambda: "sketch · w1 · following" in screen_text(app))
        await pilot.press("slash", *"slow", "enter")
        await pilot.pause()
        panel = app.screen.query_one(LogPanel)
        assert [text(each) for each in panel.lines(100, 20)] == ["WARNING slow client: 2.1 s to read the reply"]
        await pilot.press("escape", "escape")
        assert isinstance(app.screen, DashboardScreen)


async def test_logs_that_cannot_be_had_say_why() -> None:
    async with running(rich()) as (app, client, pilot):
        client.unreachable = "connection refused"
        await pilot.press("l")
        await until(lambda: "no answer from the orchestrator: connection refused" in screen_text(app))


async def test_help_lists_every_action_of_the_screen_behind() -> None:
    async with running(rich()) as (app, _, pilot):
        await pilot.press("question_mark")
        await until(lambda: isinstance(app.screen, HelpScreen))
        await pilot.pause()
        whole = " ".join(text(each) for each in app.screen.query_one(HelpPanel).lines(60, 100))
        for action in ACTIONS:
            if action.where & {Where.APP, Where.DASHBOARD} and action.id not in {"go_back", *LAB_ACTIONS}:
                assert action.help.split()[0] in whole, action.id
        assert "Logs of the next worker" not in whole
        assert "clock of a lab" not in whole, "this is none"
        await pilot.press("escape")
        assert isinstance(app.screen, DashboardScreen)


async def test_the_name_of_an_action_comes_before_mentions_of_the_word() -> None:
    async with running(rich()) as (app, _, pilot):
        await pilot.press("colon")
        await until(lambda: len(app.screen_stack) > 2)
        await pilot.press(*"settings")
        found = app.screen.query_one(OptionList)
        await until(lambda: found.option_count > 1 and "Settings" in str(found.get_option_at_index(0).prompt))


async def test_palette_runs_an_action() -> None:
    async with running(rich()) as (app, _, pilot):
        await pilot.press("colon")
        await until(lambda: len(app.screen_stack) > 2)
        await pilot.press(*"open the sel")
        await until(lambda: app.screen.query("OptionList").first().option_count > 0)  # type: ignore[attr-defined]
        await pilot.pause()
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, EndpointScreen))
