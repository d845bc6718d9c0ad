"""The fault console: what is asked for, and the recovery as snapshots tell it, up to the ready successor."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC
from typing import Any

import pytest

from app.present.faults import menu_rows, recovery_rows
from app.present.recovery import Recovery, follow
from app.present.text import text
from app.screens.dashboard import DashboardScreen
from app.screens.faults import FaultMenu, FaultScreen
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.faults import FaultKind, InjectFault
from orchestrator.contract.snapshot import CostView, EndpointView, EventView, Snapshot, TrafficView, WorkerState
from tests.app.driving import running
from tests.app.fakes import NOW_NS, example_events, gpu, rich, sketch, worker
from tests.app.pictures import assert_picture, screen_text
from tests.waiting import until

MS = SECOND_NS // 1_000
LAST = example_events()[-1].seq


def told(after_ms: int, what: str, label: str | None = "w1", level: Any = "warning", seq: int = 1) -> EventView:
    return EventView(
        seq=LAST + seq, at_ns=NOW_NS + after_ms * MS, level=level, text=what, endpoint="sketch",
        worker=None if label is None else f"sketch-{label}",
    )  # fmt: skip


FAULT = told(0, "fault kill: w1 is killed")
EXIT = told(110, "w1: killed by signal 9; replacing it", seq=2)


def deck(after_ms: int, *events: EventView, labels: str = "w1 w2", fresh: str = "", **more: Any) -> Snapshot:
    """The deck so long after the fault, with these workers ready; `fresh` started after it and is not ready yet."""
    workers = [worker(label, gpu=n) for n, label in enumerate(labels.split())]
    if fresh:
        workers.append(worker(fresh, state=WorkerState.STARTING, age_s=0, intent_ns=NOW_NS + 120 * MS, gpu=3))
    endpoint: EndpointView = sketch().model_copy(update={"workers": tuple(workers), **more})
    return rich(
        seq=5_000 + after_ms, taken_at_ns=NOW_NS + after_ms * MS, faults=True, endpoints=(endpoint,),
        events=(*example_events(), *events),
    )  # fmt: skip


def after(*snapshots: Snapshot) -> Recovery:
    """The one recovery that these snapshots tell of."""
    seen: tuple[Recovery, ...] = ()
    for each in snapshots:
        seen = follow(seen, each, "sketch", LAST)
    [one] = seen
    return one


def steps(one: Recovery) -> list[tuple[str, int | None]]:
    return [(step.name, None if step.at_ns is None else (step.at_ns - NOW_NS) // MS) for step in one.steps]


HEALED = worker("w3", gpu=3, intent_ns=NOW_NS + 120 * MS, ready_ns=NOW_NS + 3_300 * MS)


def healed(**more: Any) -> Snapshot:
    workers = (worker("w2", gpu=1), HEALED)
    return deck(3_500, FAULT, EXIT).model_copy(
        update={"endpoints": (sketch().model_copy(update={"workers": workers, **more}),)}
    )


def test_each_step_has_its_instant_and_waits_for_the_one_before() -> None:
    first = deck(10, FAULT)
    assert steps(after(first)) == [
        ("injected", 0), ("noticed", None), ("out of the ring", None), ("replaced", None), ("ready", None),
    ]  # fmt: skip
    second = deck(250, FAULT, EXIT, labels="w2", fresh="w3")
    assert steps(after(first, second))[1:] == [
        ("noticed", 110), ("out of the ring", 110), ("replaced", 120), ("ready", None),
    ]  # fmt: skip
    over = after(first, second, healed())
    assert steps(over)[-1] == ("ready", 3_300)
    assert over.over
    assert over.steps[3].note == "by w3"


def test_cost_and_traffic_count_from_the_fault_on() -> None:
    before = sketch()
    cost = before.cost.model_copy(update={"total_u": before.cost.total_u + 7_000, "absorbed_u": 400})
    traffic = before.traffic.model_copy(update={"served_total": before.traffic.served_total + 9, "failed_total": 3})
    one = after(deck(10, FAULT), healed(cost=cost, traffic=traffic))
    assert (one.billed_u, one.absorbed_u, one.served, one.failed) == (7_000, 400, 9, 1)


def test_a_hanging_worker_leaves_the_ring_when_it_stops_being_ready() -> None:
    fault = told(0, "fault hang: w1 is made to hang")
    probes = told(9_000, "w1: 3 health probes in a row failed", seq=2)
    still = after(deck(5_000, fault))
    assert steps(still)[1:3] == [("noticed", None), ("out of the ring", None)]
    stopping = (worker("w1", state=WorkerState.STOPPING), worker("w2", gpu=1))
    gone = after(deck(5_000, fault), deck(9_200, fault, probes, workers=stopping))
    assert steps(gone)[1:4] == [("noticed", 9_000), ("out of the ring", 9_200), ("replaced", None)]


def test_nobody_is_awaited_where_enough_are_ready() -> None:
    few = sketch().decision
    assert few is not None
    decision = few.model_copy(update={"desired": 2})
    labels = "w1 w2 w3"
    one = after(
        deck(10, FAULT, labels=labels, decision=decision),
        deck(250, FAULT, EXIT, labels="w2 w3", decision=decision),
    )
    assert steps(one)[-1] == ("not replaced", 250)
    assert one.over


def test_a_successor_that_fails_gives_way_to_the_next() -> None:
    one = after(
        deck(10, FAULT), deck(250, FAULT, EXIT, labels="w2", fresh="w3"), deck(900, FAULT, EXIT, labels="w2"), healed()
    )
    assert steps(one)[-1] == ("ready", 3_300)
    lost = after(deck(10, FAULT), deck(250, FAULT, EXIT, labels="w2", fresh="w3"), deck(900, FAULT, EXIT, labels="w2"))
    assert steps(lost)[3:] == [("replaced", None), ("ready", None)]


def test_a_fault_that_was_not_done_says_why_and_is_over() -> None:
    sorry = told(20, "fault kill: not done to w1: it does not run", level="error", seq=2)
    one = after(deck(10, FAULT), deck(250, FAULT, sorry))
    assert one.failure == "to w1: it does not run"
    assert one.over


def test_a_silent_driver_is_noticed_by_its_readings() -> None:
    fault = told(0, "fault drop-nvml: no GPU is read for 20 s", None)
    silent = deck(1_000, fault).model_copy(update={"gpus": (gpu(0, state="stale"),)})
    one = after(deck(10, fault), silent, deck(20_500, fault))
    assert steps(one) == [("injected", 0), ("noticed", 1_000), ("readings back", 20_500)]


def test_old_faults_and_those_of_others_are_not_told() -> None:
    elsewhere = FAULT.model_copy(update={"endpoint": "thumbs"})
    assert follow((), deck(10, elsewhere), "sketch", LAST) == ()
    assert follow((), deck(10, FAULT), "sketch", LAST + 1) == ()


@pytest.mark.parametrize("room", [38, 60, 100])
def test_nothing_is_wider_than_its_room_and_foreign_text_is_plain(room: int) -> None:
    evil = told(110, "w1: \x1b[31m[bold]boom[/bold] " + "x" * 90, seq=2)
    one = after(deck(10, FAULT), deck(250, FAULT, evil, labels="w2"))
    failure = replace(one, failure="because " * 30)
    lines = [text(each) for each in (*recovery_rows((one, failure), NOW_NS, room, UTC), *menu_rows(0, "w1", room))]
    assert all(len(each) <= room for each in lines)
    assert not any("\x1b" in each for each in lines)


async def test_enter_does_the_chosen_fault_to_the_worker_that_is_aimed_at() -> None:
    async with running(deck(0)) as (app, client, pilot):
        await pilot.press("F")
        await until(lambda: isinstance(app.screen, FaultScreen) and "the first that is ready" in screen_text(app))
        await pilot.press("enter")
        await pilot.press("j", "right_square_bracket", "right_square_bracket", "enter")
        await until(lambda: len(client.sent) == 2)
        first, second = [command for command in client.sent if isinstance(command, InjectFault)]
        assert (first.slug, first.fault, first.worker) == ("sketch", FaultKind.KILL, None)
        assert (second.fault, second.worker) == (FaultKind.HANG, "w2")
        await pilot.press("escape")
        assert isinstance(app.screen, DashboardScreen)


async def test_a_click_chooses_and_a_double_click_does_it() -> None:
    async with running(deck(0)) as (app, client, pilot):
        await pilot.press("F")
        await until(lambda: isinstance(app.screen, FaultScreen))
        await pilot.click(FaultMenu, offset=(4, 5))
        menu = app.screen.query_one(FaultMenu)
        assert menu.cursor == FaultKind.FILL_MEMORY
        assert client.sent == []
        await pilot.click(FaultMenu, offset=(4, 5), times=2)
        await until(lambda: client.sent)
        assert isinstance(client.sent[0], InjectFault)
        assert client.sent[0].fault is FaultKind.FILL_MEMORY


async def test_where_faults_are_off_the_screen_says_how_to_switch_them_on() -> None:
    async with running(rich()) as (app, _, pilot):
        await pilot.press("F")
        await until(lambda: "switched off" in screen_text(app))
        assert "GPUDECK_FAULTS=true" in screen_text(app)


async def test_a_read_only_session_breaks_nothing() -> None:
    async with running(deck(0), readonly=True) as (app, client, pilot):
        await pilot.press("F")
        await until(lambda: isinstance(app.screen, FaultScreen))
        await pilot.press("enter")
        await pilot.click(FaultMenu, offset=(4, 1), times=2)
        await pilot.pause()
        assert client.sent == []


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_pictures(size: tuple[int, int]) -> None:
    hang = told(6_000, "fault hang: w2 is made to hang", "w2", seq=3)
    cost = CostView(per_hour_u=35_868_000, total_u=212_449_000, absorbed_u=1_200)
    traffic = TrafficView(served_total=10_701, failed_total=2)
    async with running(deck(0), size=size) as (app, client, pilot):
        await pilot.press("F")
        await until(lambda: isinstance(app.screen, FaultScreen))
        client.push(deck(10, FAULT))
        client.push(deck(250, FAULT, EXIT, labels="w2", fresh="w3"))
        await until(lambda: "by w3" in screen_text(app))
        client.push(healed(cost=cost, traffic=traffic))
        await until(lambda: "healed in 3.3 s" in screen_text(app))
        final = healed(cost=cost, traffic=traffic)
        client.push(final.model_copy(update={"seq": 9_000, "taken_at_ns": NOW_NS + 9_100 * MS,
                                             "events": (*final.events, hang)}))  # fmt: skip
        await until(lambda: "3.1 s …" in screen_text(app) and "healed in 3.3 s" in screen_text(app))
        assert_picture(app, f"faults-{size[0]}x{size[1]}")
