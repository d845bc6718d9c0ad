"""The reading of a lane for a tick: each request told once, however it ends, and at no cost to the request path."""

from __future__ import annotations

from orchestrator.controller.feed import LaneFeed
from orchestrator.core.lane import Lane, Slot
from orchestrator.core.scaling.view import QUEUE_SEEN_MAX
from orchestrator.core.traffic import RING, Meter


class Caller:
    size_bytes = 1

    def __init__(self, arrived_ns: int) -> None:
        self.arrived_ns = arrived_ns

    def granted(self, slot: Slot) -> None:
        """It is counted in `slot.in_flight`."""

    def refused(self, closed: object) -> None:
        raise AssertionError(closed)


def lane_of(concurrency: int = 1) -> tuple[Lane, Slot, Meter, LaneFeed]:
    lane, meter = Lane("echo", queue_limit=10_000, queue_bytes_limit=1 << 30), Meter()
    slot = Slot("w1", "w1", "127.0.0.1", 1, concurrency, ready_ns=0)
    lane.set_ring([slot])
    return lane, slot, meter, LaneFeed(meter)


def nobody(_: Slot) -> tuple[tuple[int, int], ...]:
    return ()


def test_a_request_that_came_and_went_between_two_readings_is_told() -> None:
    lane, slot, meter, feed = lane_of()
    assert lane.claim() is slot
    meter.record(500, total_ns=400, queue_ns=100, failed=False)
    lane.release(slot, 500)
    seen = feed.read(1_000, lane, nobody)
    assert (seen.arrived, seen.arrivals, seen.served, seen.running_since) == (1, (100,), (300,), ())
    again = feed.read(2_000, lane, nobody)
    assert (again.arrived, again.arrivals, again.served) == (0, (), ())


def test_a_request_is_told_when_it_comes_and_not_again_when_it_ends() -> None:
    lane, slot, meter, feed = lane_of()
    assert lane.claim() is slot
    lane.enqueue(Caller(20))
    first = feed.read(50, lane, lambda _: [(10, 10)])
    assert (first.arrived, first.arrivals, first.running_since, first.queue) == (2, (10, 20), (10,), (20,))
    meter.record(60, total_ns=50, queue_ns=0, failed=False)
    lane.release(slot, 60)
    second = feed.read(70, lane, lambda _: [(20, 60)])
    assert (second.arrived, second.arrivals, second.running_since, second.queue) == (0, (), (60,), ())
    assert second.served == (50,)


def test_an_arrival_at_the_very_instant_of_a_reading_is_told_once() -> None:
    lane, slot, _, feed = lane_of(2)
    assert lane.claim() is slot
    assert feed.read(50, lane, lambda _: [(50, 50)]).arrivals == (50,)
    assert lane.claim() is slot
    seen = feed.read(60, lane, lambda _: [(50, 50), (50, 50)])
    assert (seen.arrived, seen.arrivals) == (1, (50,))


def test_failures_are_arrivals_but_not_services() -> None:
    lane, _, meter, feed = lane_of()
    meter.record(900, total_ns=600, queue_ns=600, failed=True)
    meter.record(950, total_ns=300, queue_ns=50, failed=True)
    seen = feed.read(1_000, lane, nobody)
    assert (seen.arrived, seen.arrivals, seen.served) == (2, (300, 650), ())


def test_work_of_which_nobody_tells_counts_from_the_reading_that_found_it() -> None:
    lane, slot, _, feed = lane_of(3)
    assert lane.claim() is slot
    assert lane.claim() is slot
    assert feed.read(100, lane, lambda _: [(40, 40)]).running_since == (40, 100)
    assert lane.claim() is slot
    assert feed.read(200, lane, lambda _: [(40, 40)]).running_since == (40, 100, 200)
    lane.release(slot, 210)
    assert feed.read(300, lane, lambda _: [(40, 40)]).running_since == (40, 100)


def test_a_flood_is_counted_whole_and_listed_in_part() -> None:
    lane, _, meter, feed = lane_of()
    for n in range(RING + 500):
        meter.record(1_000 + n, total_ns=5, queue_ns=1, failed=False)
    for n in range(QUEUE_SEEN_MAX + 44):
        assert lane.claim() is not None or lane.enqueue(Caller(10_000 + n))
    seen = feed.read(20_000, lane, nobody)
    assert seen.arrived == RING + 500 + QUEUE_SEEN_MAX + 44
    assert len(seen.arrivals) == len(seen.queue) == len(seen.served) == QUEUE_SEEN_MAX
    assert seen.queued == QUEUE_SEEN_MAX + 43
