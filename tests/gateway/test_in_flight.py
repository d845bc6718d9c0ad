"""What a tick can ask the data plane: when the requests came that workers are working on, and when they got them."""

from __future__ import annotations

from orchestrator.controller.feed import LaneFeed
from orchestrator.core.scaling.view import QUEUE_SEEN_MAX
from tests.gateway.rig import Rig
from tests.waiting import until


async def test_requests_in_flight_are_told_with_arrival_and_dispatch(rig: Rig) -> None:
    (a,) = await rig.workers("a", concurrency=2)
    (slot,) = rig.lane.slots.values()
    feed = LaneFeed(rig.route.meter)
    before_ns = rig.now()
    callers = [await rig.caller() for _ in range(3)]
    for count, caller in enumerate(callers, 1):
        caller.request("GET", "/v1/sketch/slow")
        await until(lambda n=count: rig.lane.running + rig.lane.queued == n)
    await until(lambda: len(list(rig.table.in_flight(slot))) == 2)
    for arrived_ns, dispatched_ns in rig.table.in_flight(slot):
        assert before_ns <= arrived_ns <= dispatched_ns <= rig.now()
    seen = feed.read(rig.now(), rig.lane, rig.table.in_flight)
    assert (seen.running, seen.queued, seen.arrived) == (2, 1, 3)
    assert len(seen.running_since) == 2
    assert len(seen.arrivals) == 3
    a.gate.set()
    for caller in callers:
        assert (await caller.reply()).status == 200
    await until(lambda: rig.idle())
    assert list(rig.table.in_flight(slot)) == []
    seen = feed.read(rig.now(), rig.lane, rig.table.in_flight)
    assert (seen.arrived, seen.arrivals, len(seen.served), seen.running_since) == (0, (), 3, ())
    assert all(0 < span_ns < rig.now() - before_ns for span_ns in seen.served)
    assert len(seen.served) <= QUEUE_SEEN_MAX


async def test_a_worker_that_nothing_was_sent_to_works_on_nothing(rig: Rig) -> None:
    await rig.workers("a")
    (slot,) = rig.lane.slots.values()
    assert list(rig.table.in_flight(slot)) == []
