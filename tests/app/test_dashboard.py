"""The app over a scripted client: feed, cursor, keys, commands, the four states, and leaving."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.actions import ACTIONS, Where, bindings
from app.app import GpudeckApp
from app.feed import RETRY_FIRST_S, RETRY_MAX_S, follow
from app.messages import Dialog, FeedLost, QuestionAnswered, QuestionAsked, SnapshotArrived
from app.preferences import Preferences
from app.present.condition import Kind
from app.screens.dashboard import DashboardScreen
from app.screens.endpoint_detail import EndpointScreen
from app.screens.logs import LogsScreen
from app.widgets.endpoint_table import EndpointTable
from app.widgets.panel import Panel
from app.widgets.panels import EventLog, TrafficPanel
from orchestrator.contract.command import EnableEndpoint, RefusalCode, Refused, UpdateEndpoint
from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.contract.query import AskQuote
from orchestrator.contract.snapshot import EndpointView
from tests.app.driving import chosen, dialogs_wanted, running
from tests.app.fakes import FakeClient, bare, rich
from tests.app.pictures import screen_text
from tests.waiting import until


async def test_newest_snapshot_wins_and_reaches_every_panel() -> None:
    async with running(rich(seq=1), rich(seq=2), rich(seq=3)) as (app, _, _):
        assert app.snapshot is not None
        assert app.snapshot.seq == 3
        assert {panel.condition.kind for panel in app.screen.query(Panel)} == {Kind.LIVE}
        shown = screen_text(app)
        for wanted in ("sketch", "● serving", "w5 A busy", "38.2/45.0 GiB", "$642.37", "gave up after 3 failed starts"):
            assert wanted in shown


async def test_snapshots_replace_each_other_while_they_wait() -> None:
    first, second = SnapshotArrived(rich(seq=1)), SnapshotArrived(rich(seq=2))
    assert second.can_replace(first)
    assert not second.can_replace(FeedLost("gone"))


async def test_loading_before_the_first_frame() -> None:
    async with running() as (app, _, _):
        assert {panel.condition.kind for panel in app.screen.query(Panel)} == {Kind.LOADING}
        assert "waiting for the orchestrator" in screen_text(app)
        assert "connecting" in screen_text(app)


async def test_failed_when_the_first_connection_cannot_be_made() -> None:
    async with running() as (app, client, pilot):
        client.break_feed("no socket at /run/x")
        await until(lambda: app.feed.reason is not None)
        await pilot.pause()
        assert {panel.condition.kind for panel in app.screen.query(Panel)} == {Kind.FAILED}
        assert "Cannot reach the orchestrator: no socket at /run/x" in screen_text(app)


async def test_lost_feed_shows_age_keeps_the_picture_and_heals_by_itself() -> None:
    async with running(rich(seq=1)) as (app, client, pilot):
        client.break_feed("pid 39900 is gone")
        await until(lambda: app.feed.reason is not None)
        for _ in range(12):
            app.tick()
        await pilot.pause()
        shown = screen_text(app)
        assert "disconnected 12 s" in shown
        assert "Connection lost: pid 39900 is gone" in shown
        assert "sketch" in shown
        assert {panel.condition.kind for panel in app.screen.query(Panel)} == {Kind.STALE}
        client.push(rich(seq=2))
        await until(lambda: app.snapshot is not None and app.snapshot.seq == 2)
        await pilot.pause()
        assert client.opened == 2
        assert {panel.condition.kind for panel in app.screen.query(Panel)} == {Kind.LIVE}
        assert "Connection lost" not in screen_text(app)


async def test_a_silent_feed_becomes_stale_without_an_error() -> None:
    async with running(rich()) as (app, _, pilot):
        for _ in range(4):
            app.tick()
        await pilot.pause()
        assert "◌ stale 4 s" in screen_text(app)


async def test_feed_waits_longer_after_each_failure_and_starts_anew_after_a_frame() -> None:
    client, posted, pauses = FakeClient(), [], []
    for _ in range(6):
        client.break_feed("refused")
    client.push(rich())
    client.break_feed("again")

    async def pause(delay_s: float) -> None:
        pauses.append(delay_s)
        if len(pauses) == 7:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await follow(client, posted.append, pause)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, RETRY_MAX_S, RETRY_FIRST_S]
    assert [type(message) for message in posted] == [FeedLost] * 6 + [SnapshotArrived, FeedLost]


async def test_the_next_frame_is_asked_for_when_the_last_one_is_drawn() -> None:
    client, posted, painting = FakeClient(rich(seq=1), rich(seq=2)), [], asyncio.Event()

    async def drawn() -> None:
        if posted:
            await painting.wait()

    following = asyncio.create_task(follow(client, posted.append, asyncio.sleep, drawn=drawn))
    await until(lambda: posted)
    assert client.waiting == 1, "the second frame stays where it is"
    painting.set()
    await until(lambda: len(posted) == 2)
    following.cancel()


async def test_cursor_moves_and_traffic_follows_it() -> None:
    async with running(rich()) as (app, _, pilot):
        assert chosen(app) == "sketch"
        await pilot.press("j")
        assert chosen(app) == "thumbs"
        view = app.screen.query_one(TrafficPanel).view
        assert isinstance(view, EndpointView)
        assert view.spec.slug == "thumbs"
        await pilot.press("G")
        assert chosen(app) == "llama-70b"
        await pilot.press("down")
        assert chosen(app) == "llama-70b"
        await pilot.press("g", "k")
        assert chosen(app) == "sketch"


async def test_cursor_stays_on_its_endpoint_when_rows_come_and_go() -> None:
    async with running(rich(seq=1)) as (app, client, pilot):
        await pilot.press("j")
        client.push(rich(seq=2, endpoints=rich().endpoints[1:]))
        await until(lambda: app.snapshot is not None and app.snapshot.seq == 2)
        await pilot.pause()
        assert chosen(app) == "thumbs"
        client.push(rich(seq=3, endpoints=rich().endpoints[:1]))
        await until(lambda: app.snapshot is not None and app.snapshot.seq == 3)
        await pilot.pause()
        assert chosen(app) == "sketch"


async def test_click_selects_and_double_click_opens() -> None:
    async with running(rich()) as (app, _, pilot):
        await pilot.click(EndpointTable, offset=(10, 3))
        assert chosen(app) == "thumbs"
        await pilot.click(EndpointTable, offset=(10, 3), times=2)
        await until(lambda: isinstance(app.screen, EndpointScreen))


async def test_plus_and_minus_change_the_maximum() -> None:
    async with running(rich()) as (_, client, pilot):
        await pilot.press("plus")
        await until(lambda: client.sent)
        (command,) = client.sent
        assert isinstance(command, UpdateEndpoint)
        assert (command.slug, command.changes.maximum, command.changes.baseline) == ("sketch", 6, None)


async def test_baseline_and_maximum_stay_in_their_bounds() -> None:
    async with running(rich()) as (app, client, pilot):
        await pilot.press("G", "minus", "B")
        await pilot.press("k", "b")
        await pilot.pause()
        assert client.sent == []
        assert len(app._notifications) == 3


async def test_enable_is_sent_at_once_and_disable_asks() -> None:
    async with running(rich()) as (app, client, pilot):
        await pilot.press("d")
        await until(lambda: (Dialog.DISABLE, "sketch") in dialogs_wanted(app))
        assert client.sent == []
        await pilot.press("G", "d")
        await until(lambda: client.sent)
        assert isinstance(client.sent[0], EnableEndpoint)
        assert client.sent[0].slug == "llama-70b"


@pytest.mark.parametrize(
    ("key", "wanted"),
    [("n", (Dialog.CREATE, None)), ("e", (Dialog.EDIT, "sketch")), ("x", (Dialog.DELETE, "sketch")),
     ("t", (Dialog.TOP_UP, None)), ("a", (Dialog.KEYS, None))],
)  # fmt: skip
async def test_keys_ask_for_dialogs(key: str, wanted: tuple[Dialog, str | None]) -> None:
    async with running(rich()) as (app, client, pilot):
        await pilot.press(key)
        await until(lambda: dialogs_wanted(app) == [wanted])
        assert client.sent == []


async def test_refusal_and_silence_are_shown_as_errors() -> None:
    async with running(rich()) as (app, client, pilot):
        client.outcome = lambda command: Refused(
            id=command.id, code=RefusalCode.CREDIT, message="balance: [b]$5.00[/b] is below $64.08", field="balance"
        )
        await pilot.press("plus")
        await until(lambda: len(app._notifications) == 1)
        client.unreachable = "connection reset"
        await pilot.press("plus")
        await until(lambda: len(app._notifications) == 2)
        refused, silent = app._notifications
        assert (refused.title, refused.severity) == ("Refused", "error")
        assert refused.message == "balance: [b]$5.00[/b] is below $64.08"
        assert not refused.markup
        assert silent.title == "Not sent"
        assert "connection reset" in silent.message


async def test_quotes_come_back_to_whoever_is_on_the_stack() -> None:
    async with running(rich()) as (app, client, _):
        spec = EndpointSpec(slug="new", model="sketch", gpu_type="L40", baseline=1, maximum=2)
        app.screen.post_message(QuestionAsked(AskQuote(spec=spec)))
        posted: list[Any] = app.posted  # type: ignore[attr-defined]
        await until(lambda: any(isinstance(message, QuestionAnswered) for message in posted))
        answer = next(message for message in posted if isinstance(message, QuestionAnswered))
        assert answer.query == AskQuote(spec=spec)
        assert answer.answer.baseline_per_hour_u == 2_670_000
        assert len(client.asked) == 1


async def test_readonly_hides_and_refuses_every_change() -> None:
    async with running(rich(), readonly=True) as (app, client, pilot):
        await pilot.press("n", "e", "d", "x", "plus", "minus", "B", "b", "t", "a")
        await pilot.pause()
        assert dialogs_wanted(app) == []
        assert client.sent == []
        assert "READ-ONLY" in screen_text(app)
        assert "n New" not in screen_text(app)


async def test_pause_holds_the_picture_and_goes_on_with_the_newest() -> None:
    async with running(rich(seq=1)) as (app, client, pilot):
        await pilot.press("space")
        client.push(rich(seq=2))
        client.push(rich(seq=3))
        await until(lambda: app._newest is not None and app._newest.seq == 3)
        assert app.snapshot is not None
        assert app.snapshot.seq == 1
        assert "paused" in screen_text(app)
        await pilot.press("space")
        assert app.snapshot.seq == 3


async def test_filter_narrows_endpoints_and_events_and_esc_clears_it() -> None:
    async with running(rich()) as (app, _, pilot):
        await pilot.press("slash", *"thumb", "enter")
        await pilot.pause()
        assert chosen(app) == "thumbs"
        assert "sketch" not in screen_text(app).split("3 GPUs")[0]
        log = app.screen.query_one(EventLog)
        assert len(log.view) == 2  # type: ignore[arg-type]
        assert app.focused is app.screen.query_one(EndpointTable)
        await pilot.press("escape")
        await pilot.pause()
        assert "llama-70b" in screen_text(app)


async def test_numbers_and_tab_reach_every_panel_and_zoom_fills_the_screen() -> None:
    async with running(rich()) as (app, _, pilot):
        for number in range(1, 7):
            await pilot.press(str(number))
            assert isinstance(app.focused, Panel)
            assert number == app.focused.NUMBER
        await pilot.press("6", "z")
        await pilot.pause()
        assert app.screen.maximized is app.screen.query_one(EventLog)
        await pilot.press("escape")
        assert app.screen.maximized is None


@pytest.mark.parametrize("size", [(59, 24), (80, 19), (20, 5)])
async def test_too_small_says_so_and_goes_on(size: tuple[int, int]) -> None:
    async with running(rich(seq=1), size=size) as (app, client, pilot):
        assert "terminal too small" in screen_text(app)
        client.push(rich(seq=2))
        await until(lambda: app.snapshot is not None and app.snapshot.seq == 2)
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "● serving" in screen_text(app)


async def test_no_endpoints_invites_to_create_one() -> None:
    async with running(bare()) as (app, _, pilot):
        assert "Press n to create one." in screen_text(app)
        assert "SIMULATED" in screen_text(app)
        await pilot.press("e", "l", "y", "enter")
        assert isinstance(app.screen, DashboardScreen)
        assert {notification.message for notification in app._notifications} == {"No endpoint is selected."}


async def test_every_bound_action_has_a_method_and_no_key_is_bound_twice() -> None:
    for where, owner in (
        (Where.APP, GpudeckApp),
        (Where.DASHBOARD, DashboardScreen),
        (Where.ENDPOINT, EndpointScreen),
        (Where.LOGS, LogsScreen),
    ):
        keys = [key for action in ACTIONS if where in action.where for key in action.keys]
        assert len(keys) == len(set(keys)), where
        for action in ACTIONS:
            if where in action.where:
                assert hasattr(owner, f"action_{action.id}"), action.id
        assert len(bindings(where)) > 0


async def test_quit_leaves_at_once_when_nothing_can_be_asked() -> None:
    async with running(rich(), readonly=True) as (app, _, pilot):
        await pilot.press("q")
        await pilot.pause()
        assert app.return_value is None
        assert not app.is_running or app._exit


async def test_quit_asks_when_connected() -> None:
    async with running(rich()) as (app, _, pilot):
        await pilot.press("q")
        await until(lambda: (Dialog.QUIT, None) in dialogs_wanted(app))


@pytest.mark.parametrize("theme", ["gpudeck-dark", "gpudeck-light", "gpudeck-contrast"])
async def test_themes_paint_the_same_text(theme: str) -> None:
    async with running(rich(), preferences=Preferences(theme=theme.removeprefix("gpudeck-"))) as (app, _, _):
        assert app.theme == theme
        assert "● w1 B busy" in screen_text(app)
