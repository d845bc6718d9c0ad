"""Tiers, intervals, postings, the gate, the warning and the floor, over the whole core in virtual time."""

from __future__ import annotations

from orchestrator.contract.base import DOLLAR_U, HOUR_NS, SECOND_NS
from orchestrator.contract.command import CreateEndpoint, EnableEndpoint, RefusalCode, UpdateEndpoint
from orchestrator.contract.endpoint import EndpointChanges, EndpointSpec, RequestCount
from orchestrator.contract.snapshot import EndpointState, Tier
from orchestrator.core.billing import due_u
from orchestrator.core.writes import CreditRequired, IntervalClosed, IntervalOpened, Posted
from tests.core.world import World

L40_BASE_UH, L40_AUTO_UH = 2_670_000, 15_264_000


def spec(setup: str, **fields: object) -> EndpointSpec:
    baseline, maximum = (int(part) for part in setup.split("-"))
    return EndpointSpec.model_validate(
        {"slug": "echo", "model": "echo", "gpu_type": "L40", "baseline": baseline, "maximum": maximum, **fields}
    )


def posted_u(world: World) -> int:
    return sum(w.amount_u for w in world.writes if isinstance(w, Posted) and not w.absorbed)


def test_a_day_of_one_l40_costs_exactly_64_08() -> None:
    assert due_u(L40_BASE_UH, 24 * HOUR_NS) == 64_080_000
    world = World()
    world.create(setup="1-1")
    world.until(lambda: world.ready() == 1)
    world.tick_s = 20
    start = next(w for w in world.writes if isinstance(w, IntervalOpened)).start_ns
    world.advance((start + 24 * HOUR_NS - world.now_ns) / SECOND_NS)
    assert world.snapshot().accounts[0].balance_u == 10_000 * DOLLAR_U - 64_080_000


def test_closed_intervals_are_posted_to_the_micro_dollar() -> None:
    world = World()
    world.create(setup="1-3", policy=RequestCount(value=1))
    world.until(lambda: world.ready() == 1)
    callers = [world.request(service_s=7.3) for _ in range(11)]
    world.until(lambda: all(c.done_ns for c in callers))
    world.advance(30)
    opened = {w.interval_id: w for w in world.writes if isinstance(w, IntervalOpened)}
    closed = [w for w in world.writes if isinstance(w, IntervalClosed)]
    assert len(closed) >= 2
    for end in closed:
        row = opened[end.interval_id]
        amount = sum(w.amount_u for w in world.writes if isinstance(w, Posted) and w.interval_id == end.interval_id)
        assert amount == due_u(row.rate_uh, end.end_ns - row.start_ns)


def test_postings_trail_and_the_screen_does_not() -> None:
    world = World()
    world.create(setup="1-1")
    world.until(lambda: world.ready() == 1)
    world.advance(100)
    view = world.snapshot().accounts[0]
    start = next(w for w in world.writes if isinstance(w, IntervalOpened)).start_ns
    assert view.today_u == due_u(L40_BASE_UH, world.now_ns - start)
    assert posted_u(world) < view.today_u


def test_exactly_min_running_baseline_bill_at_the_baseline_rate() -> None:
    world = World()
    world.create(setup="1-3", policy=RequestCount(value=1))
    world.until(lambda: world.ready() == 1)
    callers = [world.request(service_s=5) for _ in range(6)]
    while not all(c.done_ns for c in callers):
        world.advance(0.1)
        tiers = [i.opened.tier for i in world.state.intervals.values()]
        assert tiers.count(Tier.BASELINE) == min(len(tiers), 1)
    rates = {w.tier: w.rate_uh for w in world.writes if isinstance(w, IntervalOpened)}
    assert rates == {Tier.BASELINE: L40_BASE_UH, Tier.AUTOSCALE: L40_AUTO_UH}


def test_raising_the_baseline_splits_the_interval_in_place() -> None:
    world = World()
    world.create(setup="1-2", policy=RequestCount(value=1), idle_timeout_s=300)
    world.until(lambda: world.ready() == 1)
    world.request(service_s=2)
    world.request(service_s=2)
    world.until(lambda: world.ready() == 2)
    world.advance(3)
    world.command(UpdateEndpoint(id=world.id(), slug="echo", changes=EndpointChanges(baseline=2)))
    world.until(lambda: all(i.opened.tier is Tier.BASELINE for i in world.state.intervals.values()), limit_s=2)
    split = [w for w in world.writes if isinstance(w, IntervalClosed) and w.source == "tier_change"]
    assert len(split) == 1
    follower = [w for w in world.writes if isinstance(w, IntervalOpened)][-1]
    assert follower.start_ns == split[0].end_ns
    assert len(world.workers()) == 2


def test_the_cost_never_exceeds_the_worst_case() -> None:
    world = World()
    world.create(setup="1-3", policy=RequestCount(value=1))
    start_ns = world.now_ns
    for _ in range(300):
        world.request(service_s=4)
    world.advance(600)
    worst = L40_BASE_UH + 2 * L40_AUTO_UH
    assert world.snapshot().endpoints[0].cost.worst_case_per_hour_u == worst
    assert world.snapshot().accounts[0].today_u <= due_u(worst, world.now_ns - start_ns)


def test_the_gate_wants_24_hours_of_all_baselines() -> None:
    world = World(credit_u=64_079_999)
    refusal = world.refused(CreateEndpoint(id=world.id(), spec=spec("1-2")))
    assert refusal.code is RefusalCode.CREDIT
    assert refusal.needed_u == 64_080_000
    assert refusal.available_u == 64_079_999
    assert "top-up of $0.01" in refusal.message
    world.top_up(1)
    world.create(setup="1-2")
    assert CreditRequired("local", 64_080_000) in world.writes


def test_the_gate_counts_the_other_endpoints_too() -> None:
    world = World(credit_u=100 * DOLLAR_U)
    world.create("one", setup="1-1")
    refusal = world.refused(CreateEndpoint(id=world.id(), spec=spec("1-1")))
    assert refusal.needed_u == 2 * 64_080_000


def test_a_zero_baseline_needs_the_floor_only() -> None:
    world = World(credit_u=10 * DOLLAR_U - 1)
    assert world.refused(CreateEndpoint(id=world.id(), spec=spec("0-5"))).needed_u == 10 * DOLLAR_U
    world.top_up(1)
    world.create(setup="0-5")


def test_a_decrease_always_passes() -> None:
    world = World(credit_u=200 * DOLLAR_U)
    world.create(setup="2-2")
    world.until(lambda: world.ready() == 2)
    world.tick_s = 20
    world.advance(20 * 3600)
    assert world.snapshot().accounts[0].balance_u < 96 * DOLLAR_U
    update = UpdateEndpoint(id=world.id(), slug="echo", changes=EndpointChanges(baseline=1))
    world.command(update)
    assert world.state.endpoints["echo"].spec.baseline == 1


def test_below_ten_dollars_everything_of_the_owner_stops_and_nothing_resumes_by_itself() -> None:
    world = World(credit_u=65 * DOLLAR_U)
    world.create(setup="1-1")
    world.create("idle", setup="0-1")
    world.until(lambda: world.ready() == 1)
    world.spend(11 * DOLLAR_U)
    world.tick_s = 2
    world.until(lambda: world.workers() == [], step_s=2)
    balance = world.snapshot().accounts[0].balance_u
    assert 10 * DOLLAR_U - due_u(L40_BASE_UH, 10 * SECOND_NS) <= balance < 10 * DOLLAR_U
    assert {e.state for e in world.snapshot().endpoints} == {EndpointState.SUSPENDED}
    assert world.request().outcome == "credit_exhausted"
    world.top_up(500 * DOLLAR_U)
    world.advance(60)
    assert world.workers() == []
    world.command(EnableEndpoint(id=world.id(), slug="echo"))
    world.until(lambda: world.ready() == 1)


def test_ten_dollars_exactly_stays_on() -> None:
    world = World(credit_u=10 * DOLLAR_U)
    world.create(setup="0-1")
    world.advance(60)
    assert world.snapshot().endpoints[0].state is EndpointState.SERVING


def test_the_warning_fires_once_per_crossing() -> None:
    world = World(credit_u=65 * DOLLAR_U)
    world.create(setup="1-1")
    world.tick_s = 20
    world.until(lambda: world.state.accounts["local"].warned, limit_s=24 * 3600, step_s=60)
    assert world.snapshot().accounts[0].balance_u > 26 * DOLLAR_U
    world.advance(3600)
    assert sum("credit lasts" in note for note in world.notes()) == 1
    world.top_up(50 * DOLLAR_U)
    world.advance(60)
    assert not world.snapshot().accounts[0].warned


def test_runways_are_hours_to_the_floor() -> None:
    world = World(credit_u=100 * DOLLAR_U)
    world.create(setup="1-2")
    world.until(lambda: world.ready() == 1)
    runway = world.snapshot().accounts[0].runway
    assert runway.baseline_h is not None
    assert abs(runway.baseline_h - 90 / 2.67) < 0.01
    assert runway.worst_case_h is not None
    assert abs(runway.worst_case_h - 90 / 17.934) < 0.01
