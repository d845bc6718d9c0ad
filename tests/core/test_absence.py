"""Crashes, silences and sleep: what the customer pays of them, what the platform bears (reliability.md B1-B6, P5)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.command import DeleteEndpoint, UpdateEndpoint
from orchestrator.contract.endpoint import EndpointChanges, RequestCount
from orchestrator.contract.snapshot import EngineKind, EngineView, Tier
from orchestrator.core import events as ev
from orchestrator.core.billing import HEARTBEAT_PERIOD_NS, due_u
from orchestrator.core.writes import IntervalClosed, IntervalOpened
from tests.core.world import ENGINE, World

L40_BASE_UH, L40_AUTO_UH = 2_670_000, 15_264_000
SILENT = EngineView(kind=EngineKind.VIRTUAL, ok=False, detail="gone")
S = SECOND_NS


def pieces(world: World, worker_id: str | None = None) -> list[tuple[IntervalOpened, IntervalClosed]]:
    """Closed intervals in order of their start."""
    ledger = world.ledger
    found = [(ledger.opened[key], end) for key, end in ledger.closed.items()]
    return sorted((p for p in found if worker_id in (None, p[0].worker_id)), key=lambda p: (p[0].start_ns, p[1].end_ns))


def billed_ns(world: World, tier: Tier) -> int:
    """Time billed at `tier` in closed intervals."""
    return sum(e.end_ns - o.start_ns for o, e in pieces(world) if o.tier is tier and not e.absorbed)


def absorbed_u(world: World) -> int:
    return sum(p.amount_u for posted in world.ledger.posted.values() for p in posted if p.absorbed)


def with_one_autoscaled(idle_timeout_s: int = 10) -> World:
    """`0-1` with a ready worker that has just become idle."""
    world = World()
    world.create(setup="0-1", policy=RequestCount(value=1), idle_timeout_s=idle_timeout_s)
    caller = world.request(service_s=1)
    world.until(lambda: caller.done_ns is not None)
    return world


def test_an_autoscaled_worker_is_billed_for_our_absence_only_until_its_idle_timeout() -> None:
    world = with_one_autoscaled()
    idle_ns = world.now_ns
    world.advance(6)
    world.crash(away_s=300)
    world.advance(5)
    assert world.workers() == [], "idle since before the crash: stopped at the first tick"
    first, absent, rest = pieces(world)
    assert (first[1].source, first[1].absorbed) == ("absence", False)
    assert idle_ns <= first[1].end_ns - 10 * S <= idle_ns + S // 10
    assert (absent[0].start_ns, absent[1].end_ns, absent[1].absorbed) == (first[1].end_ns, rest[0].start_ns, True)
    assert 295 * S < absent[1].end_ns - absent[0].start_ns < 297 * S
    assert rest[1].end_ns - rest[0].start_ns < S
    view = world.snapshot().endpoints[0].cost
    assert view.absorbed_u == absorbed_u(world) == due_u(L40_AUTO_UH, absent[1].end_ns - absent[0].start_ns)


def test_one_that_was_busy_at_the_last_heartbeat_is_billed_for_one_idle_timeout_after_it() -> None:
    world = World()
    world.create(setup="0-1", policy=RequestCount(value=1), idle_timeout_s=10)
    world.request(service_s=600)
    world.until(lambda: world.ready() == 1)
    world.advance(17)
    crashed_ns = world.now_ns
    world.crash(away_s=100)
    end_ns = pieces(world)[0][1].end_ns
    assert crashed_ns + 5 * S <= end_ns <= crashed_ns + 10 * S


def test_a_baseline_worker_is_billed_through() -> None:
    world = World()
    world.create(setup="1-1")
    world.until(lambda: world.ready() == 1)
    world.advance(20)
    world.crash(away_s=3_600)
    world.advance(60)
    assert pieces(world) == []
    [interval] = world.state.intervals.values()
    assert world.snapshot().accounts[0].balance_u == 10_000_000_000 - interval.due_u(world.now_ns)


def test_an_absence_shorter_than_the_idle_timeout_changes_nothing() -> None:
    world = with_one_autoscaled(idle_timeout_s=60)
    world.advance(6)
    world.crash(away_s=20)
    assert pieces(world) == []
    world.advance(120)
    [(opened, end)] = pieces(world)
    assert not end.absorbed
    assert end.end_ns - world.lives[opened.worker_id][1] == 0  # type: ignore[operator]


def test_an_end_meanwhile_is_billed_to_the_idle_timeout_and_absorbed_to_the_evidence() -> None:
    world = with_one_autoscaled()
    worker = world.workers()[0].id
    world.later(200, lambda: world.kill(worker))
    world.advance(6)
    world.crash(away_s=300)
    first, absent = pieces(world, worker)
    assert first[1].source == "absence"
    assert (absent[1].absorbed, absent[1].end_ns) == (True, world.lives[worker][1])


def test_an_end_before_the_idle_timeout_is_billed_to_its_evidence() -> None:
    world = with_one_autoscaled()
    worker = world.workers()[0].id
    world.later(7.5, lambda: world.kill(worker))
    world.advance(6)
    world.crash(away_s=300)
    [(_, end)] = pieces(world, worker)
    assert (end.source, end.absorbed, end.end_ns) == ("exit", False, world.lives[worker][1])


def test_a_cold_start_that_nobody_watched_is_absorbed() -> None:
    world = World(cold_start_s=400)
    world.create(setup="0-1", policy=RequestCount(value=1), idle_timeout_s=10)
    world.request()
    world.until(lambda: world.running)
    world.advance(3)
    world.crash(away_s=300)
    [(_, end)] = pieces(world)
    assert end.absorbed
    assert end.end_ns == world.now_ns


def test_a_worker_whose_endpoint_was_deleted_costs_nothing_while_we_are_away() -> None:
    world = World()
    world.create(setup="1-1")
    world.until(lambda: world.ready() == 1)
    world.request(service_s=1_000)
    world.advance(7)
    world.command(DeleteEndpoint(id=world.id(), slug="echo"))
    world.advance(0.1)
    crashed_ns = world.now_ns
    world.crash(away_s=500)
    first, absent = pieces(world)[:2]
    assert first[1].end_ns <= crashed_ns
    assert absent[1].absorbed
    world.advance(5)
    assert world.running == {}


def test_a_start_interrupted_by_the_crash_of_a_deleted_endpoint_is_stopped() -> None:
    world = World(cold_start_s=50)
    world.create(setup="1-1")
    world.until(lambda: world.state.workers)
    ledger_before = dict(world.ledger.workers)
    world.command(DeleteEndpoint(id=world.id(), slug="echo"))
    world.until(lambda: world.running)
    [worker_id] = world.running
    world.ledger.workers[worker_id] = ledger_before[worker_id]  # the record of the start did not reach the disk
    for key in [k for k in world.ledger.opened if k.startswith(worker_id)]:
        del world.ledger.opened[key]
    world.crash()
    world.advance(5)
    assert world.running == {}, "nobody would have stopped it"
    assert dict(world.state.workers) == {}


def test_after_an_outage_of_the_engine_nobody_pays_for_what_could_not_be_scaled_down() -> None:
    world = with_one_autoscaled()
    worker = world.workers()[0].id
    world.advance(4)
    world.handle(ev.EngineProbed(SILENT))
    world.silent = True
    world.advance(3)
    world.later(90, lambda: world.kill(worker))
    world.advance(120)
    world.handle(ev.EngineProbed(ENGINE))
    world.silent = False
    world.relist()
    assert sum(e.end_ns - o.start_ns for o, e in pieces(world, worker) if not e.absorbed) < 16 * S
    assert absorbed_u(world) > 0


def test_an_engine_that_is_silent_at_boot_leaves_the_idle_timeout_where_it_was() -> None:
    world = with_one_autoscaled()
    world.advance(6)
    world.crash(away_s=60, engine_answers=False)
    world.advance(9)
    world.relist()
    first, absent = pieces(world)
    assert first[1].end_ns - first[0].start_ns < 20 * S
    assert absent[1].absorbed


def test_no_tier_changes_while_nobody_knows_who_runs() -> None:
    world = World()
    world.create(setup="1-2", policy=RequestCount(value=1), idle_timeout_s=300)
    callers = [world.request(service_s=900) for _ in range(2)]
    world.until(lambda: all(c.outcome for c in callers))
    world.handle(ev.EngineProbed(SILENT))
    [baseline] = [w for w in world.workers() if world.state.intervals[w.interval_id or ""].opened.tier is Tier.BASELINE]
    world.silent = True
    world.kill(baseline.id)
    died_ns = world.now_ns
    world.advance(20)
    world.command(UpdateEndpoint(id=world.id(), slug="echo", changes=EndpointChanges(baseline=2)))
    world.advance(20)
    assert pieces(world) == []
    world.handle(ev.EngineProbed(ENGINE))
    world.relist()
    assert pieces(world, baseline.id)[0][1].end_ns == died_ns
    assert {i.opened.tier for i in world.state.intervals.values()} == {Tier.BASELINE}


def test_an_engine_that_is_silent_at_boot_bills_nobody_until_it_speaks() -> None:
    world = with_one_autoscaled()
    worker = world.workers()[0].id
    world.advance(6)
    world.crash(engine_answers=False)
    world.vanish(worker)
    world.advance(9)
    world.relist()
    [(_, end)] = pieces(world, worker)
    assert end.source == "last_seen"
    assert end.end_ns <= world.lives[worker][1]  # type: ignore[operator]


def test_a_reboot_bills_to_the_last_heartbeat() -> None:
    world = World()
    world.create(setup="1-1")
    world.until(lambda: world.ready() == 1)
    worker = world.workers()[0].id
    world.advance(23)
    crashed_ns = world.now_ns
    world.later(1, lambda: world.kill(worker, code=255))
    world.crash(away_s=60, boot="boot-2")
    [(_, end)] = pieces(world, worker)
    assert end.source == "last_seen"
    assert crashed_ns - HEARTBEAT_PERIOD_NS <= end.end_ns <= crashed_ns


def test_a_worker_that_somebody_started_again_is_charged_anew() -> None:
    world = World()
    world.create(setup="1-1")
    world.until(lambda: world.ready() == 1)
    world.advance(23)
    crashed_ns = world.now_ns
    world.crash(away_s=600, boot="boot-2")
    [(_, end)] = pieces(world)
    assert end.end_ns <= crashed_ns
    [interval] = world.state.intervals.values()
    assert (interval.opened.start_ns, interval.opened.boot_id) == (world.now_ns, "boot-2")


def test_a_host_that_slept_bills_nobody() -> None:
    world = World()
    world.create(setup="1-2", policy=RequestCount(value=1), idle_timeout_s=300)
    world.until(lambda: world.ready() == 1)
    callers = [world.request(service_s=3) for _ in range(2)]
    world.until(lambda: all(c.done_ns for c in callers))
    asleep_ns = world.now_ns
    world.suspend(3_600)
    awake_ns = world.now_ns
    world.advance(1)
    slept = [(o, e) for o, e in pieces(world) if e.absorbed]
    assert {o.tier for o, _ in slept} == set(Tier)
    for opened, end in slept:
        assert end.source == "suspend"
        assert asleep_ns - S // 4 <= opened.start_ns <= asleep_ns
        assert awake_ns <= end.end_ns <= awake_ns + S // 4
    assert sum("slept" in note for note in world.notes()) == 1
    assert billed_ns(world, Tier.BASELINE) < 60 * S


def test_a_gap_of_half_a_minute_is_not_sleep() -> None:
    world = World()
    world.create(setup="1-1")
    world.until(lambda: world.ready() == 1)
    world.tick_s = 29.0
    world.advance(300)
    assert pieces(world) == []


def test_a_cold_start_that_slept_is_not_given_up() -> None:
    world = World(cold_start_s=100)
    world.create(setup="1-1", startup_deadline_s=120)
    world.until(lambda: world.running)
    world.suspend(3_600)
    world.until(lambda: world.ready() == 1)
    assert [e.absorbed for _, e in pieces(world)] == [True], "nothing before readiness may be billed"


def test_a_wall_clock_set_back_before_the_restart_neither_charges_twice_nor_gives_back() -> None:
    world = World()
    world.create(setup="1-1")
    world.until(lambda: world.ready() == 1)
    world.advance(200)
    [worker_id] = world.running
    before_u = world.snapshot().accounts[0].balance_u
    saved = world.ledger.saved(world.now_ns)
    last_ns = saved.intervals[0].last_seen_ns
    world.now_ns -= 3_600 * S  # a core that is given such a time, whatever the clock module does about it
    world.crash()
    world.tick()
    after_u = world.snapshot().accounts[0].balance_u
    assert before_u <= after_u <= before_u + due_u(L40_BASE_UH, HEARTBEAT_PERIOD_NS) + 1
    world.advance(7)
    assert world.state.intervals[f"{worker_id}.1"].opened == saved.intervals[0].opened
    world.kill(worker_id)
    [(_, end)] = pieces(world, worker_id)
    assert end.end_ns >= last_ns, "never before what has been seen"


@settings(max_examples=25, deadline=None)
@given(
    before_s=st.floats(0, 40),
    away_s=st.floats(0, 120),
    count=st.integers(1, 4),
    service_s=st.floats(0.1, 10),
    idle_s=st.integers(1, 30),
)
def test_a_crash_costs_the_customer_at_most_a_heartbeat(
    before_s: float, away_s: float, count: int, service_s: float, idle_s: int
) -> None:
    """I6: the bill with crash and restart <= the bill without + one heartbeat of each worker."""

    def bill_u(crash: bool) -> int:
        world = World()
        world.create(setup="1-3", policy=RequestCount(value=1), idle_timeout_s=idle_s)
        world.until(lambda: world.ready() == 1)
        for _ in range(count):
            world.request(service_s=service_s)
        world.advance(before_s)
        if crash:
            world.crash(away_s=away_s)
        else:
            world.advance(away_s)
        world.advance(160 - before_s - away_s)
        assert len(world.workers()) == 1
        return 10_000_000_000 - world.snapshot().accounts[0].balance_u

    beat_u = due_u(L40_BASE_UH + 2 * L40_AUTO_UH, HEARTBEAT_PERIOD_NS)
    assert bill_u(crash=True) <= bill_u(crash=False) + beat_u
