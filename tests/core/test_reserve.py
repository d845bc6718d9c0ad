"""Ring and reserve: round robin among the workers that are wanted, and idle timers that run out for the others."""

from __future__ import annotations

import pytest

from orchestrator.contract.endpoint import QueueDelay, RequestCount
from orchestrator.contract.snapshot import Tier, WorkerState
from orchestrator.core.lane import Lane, Slot
from orchestrator.core.writes import IntervalClosed, IntervalOpened
from tests.core.test_lane import serve, slot
from tests.core.world import World


def test_the_reserve_serves_only_what_the_ring_cannot() -> None:
    lane = Lane("echo", queue_limit=10, queue_bytes_limit=1_000)
    w1, w2, w3, w4 = (slot(f"w{n}") for n in (1, 2, 3, 4))
    lane.set_ring([w1, w2], [w3, w4])
    assert serve(lane, 4) == ["w1", "w2", "w1", "w2"]
    assert [lane.claim() for _ in range(5)] == [w1, w2, w3, w4, None]
    lane.release(w3, 9)
    lane.release(w1, 9)
    assert lane.claim() is w1, "the ring comes first again"
    assert lane.claim() is w3


def test_the_reserve_is_used_from_its_front_and_the_cursor_stays() -> None:
    lane = Lane("echo", queue_limit=10, queue_bytes_limit=1_000)
    w1, w2, w3, w4 = (slot(f"w{n}") for n in (1, 2, 3, 4))
    lane.set_ring([w1, w2], [w3, w4])
    assert lane.claim() is w1
    held = lane.claim()
    assert held is w2
    assert serve(lane, 3) == ["w3", "w3", "w3"], "w4's idle timer runs out"
    lane.release(w2, 5)
    lane.release(w1, 5)
    assert serve(lane, 2) == ["w1", "w2"]


def test_without_a_ring_the_reserve_serves_at_once_waiters_included() -> None:
    class Caller:
        arrived_ns = 0
        size_bytes = 1
        got: Slot | None = None

        def granted(self, slot: Slot) -> None:
            self.got = slot

        def refused(self, closed: object) -> None:
            raise AssertionError(closed)

    lane = Lane("echo", queue_limit=10, queue_bytes_limit=1_000)
    waiting = Caller()
    assert lane.claim() is None
    assert lane.enqueue(waiting)
    w1 = slot("w1")
    lane.set_ring([], [w1])
    assert waiting.got is w1
    lane.release(w1, 1)
    assert serve(lane, 2) == ["w1", "w1"]


def test_a_worker_moves_between_ring_and_reserve_without_losing_its_counters() -> None:
    lane = Lane("echo", queue_limit=10, queue_bytes_limit=1_000)
    w1, w2 = slot("w1"), slot("w2")
    lane.set_ring([w1, w2])
    assert lane.claim() is w1
    lane.set_ring([w2], [w1])
    assert (w1.in_ring, w1.in_flight, lane.running) == (True, 1, 1)
    assert serve(lane, 2) == ["w2", "w2"]
    lane.set_ring([w1, w2])
    lane.release(w1, 3)
    assert serve(lane, 2) == ["w1", "w2"]
    lane.set_ring([w2], [w1])
    lane.forget("w1")
    assert (w1.in_ring, list(lane.slots)) == (False, ["w2"])


def test_baseline_workers_take_turns_whatever_the_load() -> None:
    world = World()
    world.create(setup="3-3", policy=RequestCount(value=1))
    world.until(lambda: world.ready() == 3)
    for _ in range(9):
        caller = world.request(service_s=0.4)
        world.until(lambda c=caller: c.done_ns)
        world.advance(1)
    assert world.served == ["w1", "w2", "w3"] * 3


def burst(world: World, count: int, service_s: float = 6.0) -> None:
    callers = [world.request(service_s=service_s) for _ in range(count)]
    world.until(lambda: all(c.done_ns for c in callers))


def test_surplus_idles_out_although_traffic_goes_on() -> None:
    """One request at a time, back to back, after a burst on three: the two that nobody needs are gone after the idle
    timeout, and with plain round robin would have stayed for ever."""
    world = World()
    world.create(setup="0-3", policy=RequestCount(value=1), idle_timeout_s=10)
    burst(world, 3)
    assert world.ready() == 3
    for _ in range(30):
        caller = world.request(service_s=0.45)
        world.until(lambda c=caller: c.done_ns)
        world.advance(0.05)
    assert [w.label for w in world.workers()] == ["w1"]
    assert set(world.served[3:]) == {"w1"}


def test_a_burst_uses_the_reserve_at_once() -> None:
    world = World()
    world.create(setup="0-3", policy=RequestCount(value=1), idle_timeout_s=60)
    burst(world, 3)
    world.advance(20)
    assert world.table.routes["echo"].lane.slots.keys() == {w.id for w in world.workers()}
    callers = [world.request(service_s=2) for _ in range(3)]
    assert [c.outcome for c in callers] == ["w1", "w2", "w3"]
    assert [c.waited_s for c in callers] == [0, 0, 0]


def test_what_is_wanted_again_comes_back_in_the_order_in_which_it_left() -> None:
    world = World()
    world.create(setup="1-3", policy=RequestCount(value=1), idle_timeout_s=300)
    burst(world, 3, service_s=20)
    held = [world.request(service_s=30) for _ in range(2)]
    world.advance(1)
    view = world.state.routes["echo"]
    assert [m.label for m in view.ring] == ["w1", "w2"]
    assert [m.label for m in view.reserve] == ["w3"]
    world.until(lambda: all(c.done_ns for c in held))
    world.advance(1)
    view = world.state.routes["echo"]
    assert [m.label for m in view.ring] == ["w1"]
    assert [m.label for m in view.reserve] == ["w2", "w3"]


def autoscaled_s(world: World) -> float:
    """Seconds billed at the autoscale tier so far."""
    opened = {w.interval_id: w for w in world.written(IntervalOpened) if w.tier is Tier.AUTOSCALE}
    ends = {w.interval_id: w.end_ns for w in world.written(IntervalClosed)}
    return sum(ends.get(key, world.now_ns) - o.start_ns for key, o in opened.items()) / 1e9


@pytest.mark.parametrize(("policy", "saving"), [(RequestCount(value=1), 0.65), (QueueDelay(seconds=1), 0.65)])
def test_a_steady_light_load_costs_less_than_with_plain_round_robin(
    policy: RequestCount | QueueDelay, saving: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A burst on four workers, then ten minutes of one request every 3 s, each of 2 s (0.67 of a worker), idle timeout
    30 s: 2,490 autoscaled seconds with plain round robin, which gives every worker a request each 12 s, and 780 with
    the reserve, where three of them leave after half a minute. Nobody waits longer for it.
    """

    def after_burst() -> tuple[float, float, int]:
        world = World()
        world.create(setup="0-4", policy=policy, idle_timeout_s=30)
        burst(world, 4, service_s=20)
        callers = []
        for _ in range(200):
            callers.append(world.request(service_s=2))
            world.advance(3)
        return autoscaled_s(world), sum(c.waited_s or 0 for c in callers), world.ready()

    with_reserve_s, waited_s, left = after_burst()

    def one_ring(lane: Lane, members: object, reserve: object = ()) -> None:
        every = sorted([*members, *reserve], key=lambda s: s.label)  # type: ignore[call-overload]
        whole(lane, every)

    whole = Lane.set_ring
    monkeypatch.setattr(Lane, "set_ring", one_ring)
    plain_s, plain_waited_s, plain_left = after_burst()
    assert (left, plain_left) == (1, 4)
    assert with_reserve_s < plain_s * (1 - saving)
    assert waited_s <= plain_waited_s


def test_starting_workers_are_not_in_anybodys_way() -> None:
    """While a wanted worker starts, all warm ones are the ring."""
    world = World(cold_start_s=30)
    world.create(setup="1-3", policy=RequestCount(value=1))
    world.until(lambda: world.ready() == 1)
    for _ in range(2):
        world.request(service_s=40)
    world.advance(5)
    assert len(world.workers("echo", WorkerState.STARTING)) == 1
    view = world.state.routes["echo"]
    assert ([m.label for m in view.ring], view.reserve) == (["w1"], ())
