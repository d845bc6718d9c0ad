"""The inside of a route, as it is shown: the turn is the lane's own, and the histogram is that of the meter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.endpoint import Visibility
from orchestrator.core.history import bucket_of, to_histogram
from orchestrator.core.lane import Closed, Lane, Slot
from orchestrator.core.routing import Route
from orchestrator.core.traffic import Meter
from orchestrator.core.turns import routing_of

NOW_NS = 1_000 * SECOND_NS


class Waiting:
    arrived_ns = NOW_NS - 3 * SECOND_NS
    size_bytes = 10

    def granted(self, slot: Slot) -> None: ...

    def refused(self, closed: Closed) -> None: ...


def slot(n: int) -> Slot:
    return Slot(f"echo-{n}", f"w{n}", "127.0.0.1", 9_000 + n, 1, NOW_NS)


def route(ring: int = 3, reserve: int = 0) -> Route:
    lane = Lane("echo", queue_limit=10, queue_bytes_limit=1_000)
    lane.set_ring([slot(n) for n in range(1, ring + 1)], [slot(n) for n in range(ring + 1, ring + reserve + 1)])
    return Route("echo", "local", Visibility.PRIVATE, lane, Meter(), "/predict", 60, 60, True)


def test_the_cursor_the_last_and_who_takes_the_next_request() -> None:
    found = route()
    fresh = routing_of(found, NOW_NS, latencies=False)
    assert (fresh.turn, fresh.last, fresh.takes) == ("echo-1", None, "echo-1")
    found.lane.claim()
    seen = routing_of(found, NOW_NS, latencies=False)
    assert (seen.turn, seen.last, seen.takes) == ("echo-2", "echo-1", "echo-2")
    assert [(place.label, place.passed_over) for place in seen.places] == [("w1", "busy"), ("w2", None), ("w3", None)]


def test_everybody_who_is_passed_over_says_why() -> None:
    found = route(ring=3, reserve=1)
    lane = found.lane
    lane.slots["echo-1"].suspect = True
    lane.slots["echo-2"].recycle = True
    leaving = lane.slots["echo-3"]
    leaving.in_flight = 1
    lane.set_ring([lane.slots["echo-1"], lane.slots["echo-2"]], [lane.slots["echo-4"]])
    seen = routing_of(found, NOW_NS, latencies=False)
    assert [(place.label, place.place, place.passed_over) for place in seen.places] == [
        ("w1", "ring", "suspect"), ("w2", "ring", "recycle"), ("w4", "reserve", None), ("w3", "out", "draining"),
    ]  # fmt: skip
    assert seen.takes == "echo-4", "the reserve steps in"


def test_who_waits_and_that_nobody_overtakes() -> None:
    found = route(ring=1)
    found.lane.claim()
    assert found.lane.enqueue(Waiting())
    seen = routing_of(found, NOW_NS, latencies=False)
    assert (seen.queued, seen.queued_bytes, seen.waits_ms, seen.takes) == (1, 10, (3_000,), None)
    found.lane.close(Closed(503, "stopped", "the endpoint is stopped"), evict=False)
    assert routing_of(found, NOW_NS, latencies=False).closed == "the endpoint is stopped"


@given(busy=st.sets(st.integers(1, 5)), taken=st.integers(0, 12), reserve=st.integers(0, 2))
def test_who_takes_it_is_who_the_lane_takes(busy: set[int], taken: int, reserve: int) -> None:
    found = route(ring=3, reserve=reserve)
    for _ in range(taken):
        if (claimed := found.lane.claim()) is not None:
            found.lane.release(claimed, NOW_NS)
    for n in busy:
        if f"echo-{n}" in found.lane.slots:
            found.lane.slots[f"echo-{n}"].in_flight = 1
    told = routing_of(found, NOW_NS, latencies=False).takes
    claimed = found.lane.claim()
    assert told == (claimed.worker_id if claimed is not None else None)


def test_histograms_are_of_the_last_minute_and_only_when_asked_for() -> None:
    found = route()
    found.meter.record(NOW_NS - 90 * SECOND_NS, total_ns=SECOND_NS, queue_ns=0, failed=False)
    for ms in (80, 80, 200):
        found.meter.record(NOW_NS, total_ns=ms * 1_000_000, queue_ns=0, failed=False)
    found.meter.record(NOW_NS, total_ns=5 * SECOND_NS, queue_ns=0, failed=True)
    seen = routing_of(found, NOW_NS, latencies=True)
    assert [bucket.count for bucket in seen.latencies] == [2, 1]
    assert all(bucket.from_us < bucket.to_us for bucket in seen.latencies)
    assert routing_of(found, NOW_NS, latencies=False).latencies == ()


@given(st.lists(st.integers(0, 10**13), max_size=60))
def test_a_histogram_counts_every_value_in_its_bucket(values: list[int]) -> None:
    expected: dict[int, int] = {}
    for value in values:
        expected[bucket_of(value)] = expected.get(bucket_of(value), 0) + 1
    assert to_histogram(sorted(values)) == expected


@pytest.mark.parametrize("fresh", [True, False])
def test_looking_changes_nothing(fresh: bool) -> None:
    found = route()
    if not fresh:
        found.lane.claim()
    first = routing_of(found, NOW_NS, latencies=True)
    assert routing_of(found, NOW_NS, latencies=True) == first
