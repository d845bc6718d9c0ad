"""Prices that change at a date: the split is at its instant, whenever it is noticed, and history decides the bill."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.endpoint import RequestCount
from orchestrator.contract.snapshot import Tier
from orchestrator.core import events as ev
from orchestrator.core.billing import due_u
from orchestrator.core.events import LaneSeen, SlotSeen
from orchestrator.core.pricing import Price, PriceBook, PriceSchedule, always
from orchestrator.core.state import State
from orchestrator.core.step import step
from orchestrator.core.workload import Exit, ExitCause, Observed
from orchestrator.core.writes import (
    EndpointSaved,
    IntervalClosed,
    IntervalOpened,
    Posted,
    Saved,
    SavedInterval,
    SavedWorker,
    WorkerIntended,
)
from tests.core.test_money import spec
from tests.core.world import BOOT, ENGINE, START_NS, World, gpus

S = SECOND_NS
OLD = PriceBook(name="old", prices={"L40": Price(baseline_uh=2_670_000, autoscale_uh=15_264_000)})
NEW = PriceBook(name="new", prices={"L40": Price(baseline_uh=3_000_001, autoscale_uh=9_999_999)})
SWITCH_NS = START_NS + 100 * S
SCHEDULE = PriceSchedule((0, SWITCH_NS), (OLD, NEW))


def ended(world: World) -> list[tuple[IntervalOpened, IntervalClosed]]:
    return [(world.ledger.opened[key], end) for key, end in world.ledger.closed.items()]


def spent_u(world: World) -> int:
    return 10_000_000_000 - world.snapshot().accounts[0].balance_u


def test_the_book_of_an_instant() -> None:
    assert SCHEDULE.book_at(0) is SCHEDULE.book_at(SWITCH_NS - 1) is OLD
    assert SCHEDULE.book_at(SWITCH_NS) is SCHEDULE.book_at(SWITCH_NS + 1) is NEW
    assert SCHEDULE.switches(SWITCH_NS - 1, SWITCH_NS + 1) == (SWITCH_NS,)
    assert SCHEDULE.switches(SWITCH_NS, SWITCH_NS + 9) == SCHEDULE.switches(0, SWITCH_NS) == ()
    assert always(NEW).book_at(0) is NEW
    late = PriceSchedule((SWITCH_NS,), (NEW,))
    assert late.book_at(0) is NEW, "there is no time without prices"
    assert late.switches(0, SWITCH_NS + 1) == ()


def test_open_intervals_split_at_the_switch_and_not_at_a_tick() -> None:
    world = World(prices=SCHEDULE)
    world.create(setup="1-1")
    world.tick_s = 7.3
    world.advance(130)
    [(opened, end)] = ended(world)
    assert (end.end_ns, end.source, end.absorbed, opened.price_book) == (SWITCH_NS, "price_change", False, "old")
    [interval] = world.state.intervals.values()
    assert interval.opened.start_ns == SWITCH_NS
    assert (interval.opened.price_book, interval.opened.rate_uh) == ("new", 3_000_001)
    assert spent_u(world) == due_u(2_670_000, SWITCH_NS - opened.start_ns) + due_u(3_000_001, 30 * S)
    assert sum("prices are those of new" in note for note in world.notes()) == 1
    assert world.snapshot().price_book == "new"


@pytest.mark.parametrize("away_s", [0.5, 60.0, 900.0])
def test_a_restart_across_the_switch_splits_at_the_switch(away_s: float) -> None:
    world = World(prices=SCHEDULE)
    world.create(setup="1-1")
    world.advance(99.8)
    world.crash(away_s=away_s)
    world.advance(20)
    [(opened, end)] = ended(world)
    assert (end.end_ns, end.source) == (SWITCH_NS, "price_change")
    after_ns = world.now_ns - SWITCH_NS
    assert spent_u(world) == due_u(2_670_000, SWITCH_NS - opened.start_ns) + due_u(3_000_001, after_ns)


def test_a_worker_that_is_not_ready_yet_is_split_when_its_fate_is_known() -> None:
    world = World(cold_start_s=50, prices=SCHEDULE)
    world.create(setup="0-1", policy=RequestCount(value=1))
    world.advance(80)
    world.request(service_s=100)
    world.advance(45)
    assert ended(world) == []
    world.advance(20)
    [(opened, end)] = ended(world)
    assert (end.end_ns, end.source, end.absorbed) == (SWITCH_NS, "price_change", False)
    assert opened.start_ns < SWITCH_NS < world.workers()[0].ready_ns  # type: ignore[operator]


def test_a_failed_start_across_the_switch_is_absorbed_on_both_sides() -> None:
    world = World(cold_start_s=500, prices=SCHEDULE)
    world.create(setup="0-1", policy=RequestCount(value=1))
    world.advance(80)
    world.request()
    world.until(lambda: world.running)
    world.advance(60)
    world.kill(next(iter(world.running)), code=1)
    assert [(e.source, e.absorbed) for _, e in ended(world)] == [("price_change", True), ("exit", True)]
    assert world.ledger.balances_u["local"] == 10_000_000_000


def test_a_late_end_before_the_switch_is_not_split() -> None:
    """An end may be noticed POSTING_LAG late; until then nothing of the new prices may be posted."""
    world = World(prices=SCHEDULE)
    world.create(setup="1-1")
    world.advance(98)
    [worker] = world.running
    world.silent = True
    world.kill(worker)
    died_ns = world.now_ns
    world.advance(9)
    world.relist()
    [(opened, end)] = [p for p in ended(world) if p[0].worker_id == worker]
    assert (end.end_ns, end.source, opened.price_book) == (died_ns, "exit", "old")


def test_prices_changed_without_a_date_count_from_the_restart() -> None:
    world = World(prices=always(OLD))
    world.create(setup="1-1")
    world.advance(50)
    world.state = replace(world.state, rules=replace(world.state.rules, prices=always(NEW)))
    world.crash(away_s=10)
    [(_, end)] = ended(world)
    assert (end.end_ns, end.source) == (world.now_ns, "price_change")
    [interval] = world.state.intervals.values()
    assert interval.opened.price_book == "new"


def test_a_date_in_the_past_takes_nothing_back() -> None:
    world = World(prices=always(OLD))
    world.create(setup="1-1")
    world.advance(200)
    posted_to_ns = max(p.upto_ns for p in world.written(Posted))  # type: ignore[attr-defined]
    world.state = replace(world.state, rules=replace(world.state.rules, prices=SCHEDULE))
    world.crash()
    world.advance(30)
    [(_, end)] = ended(world)
    assert (end.end_ns, end.source) == (posted_to_ns, "price_change")


def test_a_book_can_leave_the_cold_start_out() -> None:
    world = World(prices=always(OLD.model_copy(update={"cold_start_billed": False})))
    world.create(setup="1-1")
    world.until(lambda: world.ready() == 1)
    [interval] = world.state.intervals.values()
    assert interval.opened.start_ns == world.workers()[0].ready_ns


def test_the_book_in_force_at_the_start_decides_about_the_cold_start() -> None:
    free = NEW.model_copy(update={"cold_start_billed": False})
    world = World(cold_start_s=60, prices=PriceSchedule((0, SWITCH_NS), (free, OLD)))
    world.create(setup="0-1", policy=RequestCount(value=1))
    world.advance(80)
    world.request(service_s=100)
    world.until(lambda: world.ready() == 1)
    [interval] = world.state.intervals.values()
    assert world.now_ns > SWITCH_NS
    assert interval.opened.start_ns == world.workers()[0].ready_ns


def test_the_gate_goes_by_the_prices_in_force() -> None:
    dear = PriceBook(name="dear", prices={"L40": Price(baseline_uh=50_000_000, autoscale_uh=60_000_000)})
    world = World(credit_u=100_000_000, prices=PriceSchedule((0, SWITCH_NS), (OLD, dear)))
    from orchestrator.contract.command import CreateEndpoint

    world.advance(101)
    refusal = world.refused(CreateEndpoint(id=world.id(), spec=spec("1-1")))
    assert refusal.needed_u == 24 * 50_000_000


# --- I5: the same history under any pattern of ticks


WORKERS = 3


def _saved() -> tuple[Saved, tuple[Observed, ...]]:
    """`2-3` with two baseline workers and an autoscaled one, all ready."""
    workers, intervals, seen = [], [], []
    for n in range(1, WORKERS + 1):
        at_ns = START_NS - 60 * S + n
        intent = WorkerIntended(f"echo-{n}", n, n, "echo", "local", 1, "echo", f"SIM-L40-{n}", "L40", False, at_ns)
        workers.append(SavedWorker(intent, f"ref-{n}", at_ns, at_ns + S))
        tier = Tier.BASELINE if n <= 2 else Tier.AUTOSCALE
        rate_uh = OLD.prices["L40"].rate_uh(tier)
        opened = IntervalOpened(f"echo-{n}.1", f"echo-{n}", "echo", "local", "L40", tier, rate_uh, "old", at_ns, BOOT)
        intervals.append(SavedInterval(opened, 0, START_NS - S))
        seen.append(
            Observed(f"echo-{n}", f"ref-{n}", "echo", f"echo-{n}.1", "127.0.0.1", 9_000 + n, at_ns, at_ns, None)
        )
    endpoint = EndpointSaved(spec("2-3"), 1, "enabled", None, START_NS - 90 * S)
    saved = Saved(
        "f" * 32, {"local": 10_000_000_000}, (endpoint,), tuple(workers), tuple(intervals), (), (), (), WORKERS, {}, {},
        {}, {}, {}, START_NS,
    )  # fmt: skip
    return saved, tuple(seen)


def _lanes(now_ns: int) -> dict[str, LaneSeen]:
    """Everybody busy, so that no tick decides anything."""
    slot = SlotSeen(1, 1, now_ns, START_NS, suspect=False, recycle=False)
    return {"echo": LaneSeen(0, WORKERS, {f"echo-{n}": slot for n in range(1, WORKERS + 1)})}


def _bill_u(ends: dict[int, int], ticks: list[int]) -> int:
    """Bill at +250 s when worker n ended `ends[n]` after the start and ticks came after `ticks`, all in nanoseconds."""
    rules = replace(World().state.rules, prices=SCHEDULE)
    saved, seen = _saved()
    state, _ = step(State(rules=rules), ev.Booted(saved, seen, ENGINE, gpus("L40:6")), START_NS)
    history: list[tuple[int, int, ev.Happening]] = [
        (START_NS + at, 0, ev.WorkerExited(f"echo-{n}", Exit(ExitCause.CLEAN, 0, START_NS + at, "over")))
        for n, at in ends.items()
    ]
    history += [(START_NS + at, 1, ev.Ticked(_lanes(START_NS + at))) for at in ticks]
    for second in range(10, 250, 10):  # the patrol: without it nobody knows who runs, and no tier changes
        at_ns = START_NS + second * S
        running = tuple(o for n, o in enumerate(seen, 1) if ends.get(n, 251 * S) > second * S)
        history.append((at_ns, 2, ev.Relisted(running, at_ns)))
    for at_ns, _, event in sorted(history, key=lambda h: h[:2]):
        state, _ = step(state, event, at_ns)
    end_ns = START_NS + 250 * S
    for worker_id in [w for w in state.workers if w in {f"echo-{n}" for n in range(1, WORKERS + 1)}]:
        exit_ = Exit(ExitCause.CLEAN, 0, end_ns, "over")
        state, _ = step(state, ev.WorkerExited(worker_id, exit_), end_ns)
    return 10_000_000_000 - state.accounts["local"].balance_u


INSTANTS = st.integers(1, 250 * S - 1)


@settings(max_examples=150, deadline=None)
@given(
    ends=st.dictionaries(st.integers(1, WORKERS), INSTANTS, max_size=WORKERS),
    ticks=st.lists(INSTANTS, max_size=40),
    other=st.lists(INSTANTS, max_size=40),
)
def test_the_same_history_gives_the_same_bill_under_any_pattern_of_ticks(
    ends: dict[int, int], ticks: list[int], other: list[int]
) -> None:
    steady = [n * 25 * S for n in range(1, 10)]
    assert _bill_u(ends, ticks + steady) == _bill_u(ends, other + steady)
