"""A request whose worker could not be reached has waited its turn already: it gets its place back."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.lane import Closed, Lane, Slot


@dataclass(eq=False)
class Waiting:
    arrived_ns: int
    order: list[int] = field(repr=False)
    size_bytes: int = 10

    def granted(self, slot: Slot) -> None:
        self.order.append(self.arrived_ns)

    def refused(self, closed: Closed) -> None:
        raise AssertionError("nothing closes here")


@given(st.lists(st.integers(0, 50), unique=True, max_size=12), st.lists(st.integers(0, 50), unique=True, max_size=6))
def test_whoever_comes_back_stands_where_his_arrival_says(queued: list[int], returned: list[int]) -> None:
    """Whatever the order in which they come back: those in the queue are in the order of arrival, as `enqueue` makes
    it, and so are all of them together afterwards."""
    returned = [arrival for arrival in returned if arrival not in queued]
    order: list[int] = []
    nudges: list[None] = []
    lane = Lane("echo", queue_limit=len(queued), queue_bytes_limit=10 * len(queued), nudge=lambda: nudges.append(None))
    for arrival in sorted(queued):
        assert lane.enqueue(Waiting(arrival, order))
    for arrival in returned:
        assert lane.rejoin(Waiting(arrival, order)), "it was admitted once: a full queue does not refuse it"
    assert lane.arrivals(100) == tuple(sorted(queued + returned))
    assert lane.queued_bytes == 10 * lane.queued
    assert bool(nudges) == bool(queued + returned)
    lane.set_ring([Slot("w", "w", "127.0.0.1", 1, 100, ready_ns=0)])
    assert order == sorted(queued + returned)
    assert lane.queued_bytes == 0
