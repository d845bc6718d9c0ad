"""The lane: rules 1 to 4 by example, fairness over any change of membership, and a model of it driven at random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.lane import Closed, Lane, Slot

GONE = Closed(503, "gone", "The endpoint was stopped.")
PLENTY = 1_000_000


def slot(name: str, concurrency: int = 1) -> Slot:
    return Slot(name, name, "127.0.0.1", 1, concurrency, ready_ns=0)


def lane_of(*slots: Slot, queue_limit: int = 100, queue_bytes_limit: int = PLENTY) -> Lane:
    lane = Lane("echo", queue_limit=queue_limit, queue_bytes_limit=queue_bytes_limit)
    lane.set_ring(slots)
    return lane


@dataclass(eq=False)
class Caller:
    """A waiter that remembers what became of it."""

    arrived_ns: int = 0
    size_bytes: int = 10
    on_grant: Callable[[Slot], None] = lambda slot: None
    slots: list[Slot] = field(default_factory=list)
    closed: list[Closed] = field(default_factory=list)

    def granted(self, slot: Slot) -> None:
        self.slots.append(slot)
        self.on_grant(slot)

    def refused(self, closed: Closed) -> None:
        self.closed.append(closed)


def serve(lane: Lane, count: int) -> list[str]:
    """Labels of the workers of `count` requests, one after the other."""
    served = []
    for now_ns in range(count):
        claimed = lane.claim()
        assert claimed is not None
        served.append(claimed.label)
        lane.release(claimed, now_ns)
    return served


def wait(lane: Lane, count: int = 1) -> list[Caller]:
    callers = [Caller(arrived_ns=n) for n in range(count)]
    for caller in callers:
        assert lane.claim() is None
        assert lane.enqueue(caller)
    return callers


def test_nine_requests_on_three_workers_go_round_three_times() -> None:
    lane = lane_of(slot("w1"), slot("w2"), slot("w3"))
    assert serve(lane, 9) == ["w1", "w2", "w3"] * 3


def test_a_busy_worker_is_passed_over_and_loses_no_turn_for_it() -> None:
    w1, w2, w3 = slot("w1"), slot("w2"), slot("w3")
    lane = lane_of(w1, w2, w3)
    assert lane.claim() is w1
    assert serve(lane, 4) == ["w2", "w3", "w2", "w3"]
    lane.release(w1, 1)
    assert serve(lane, 3) == ["w1", "w2", "w3"]


def test_concurrency_is_filled_in_turns() -> None:
    w1, w2 = slot("w1", 2), slot("w2", 1)
    lane = lane_of(w1, w2)
    assert [lane.claim() for _ in range(4)] == [w1, w2, w1, None]
    assert lane.running == 3


def test_the_oldest_waiter_gets_the_worker_that_becomes_free() -> None:
    w1, w2 = slot("w1"), slot("w2")
    lane = lane_of(w1, w2)
    assert (lane.claim(), lane.claim()) == (w1, w2)
    first, second, third = wait(lane, 3)
    lane.release(w2, 5)
    assert (first.slots, second.slots) == ([w2], [])
    assert (w2.in_flight, w2.served, w2.idle_since_ns) == (1, 1, 5)
    lane.release(w1, 6)
    assert (second.slots, third.slots) == ([w1], [])


def test_a_newly_ready_worker_takes_as_many_waiters_as_it_has_room_for() -> None:
    lane = lane_of()
    first, second, third = wait(lane, 3)
    new = slot("w1", 2)
    lane.set_ring([new])
    assert (first.slots, second.slots, third.slots) == ([new], [new], [])
    assert (lane.queued, new.in_flight) == (1, 2)


def test_a_new_request_does_not_overtake_a_waiter() -> None:
    lane = lane_of()
    first, second = wait(lane, 2)
    w1 = slot("w1", 2)
    late: list[Slot | None] = []
    first.on_grant = lambda _: late.append(lane.claim())  # there is room, but it is the second waiter's
    lane.set_ring([w1])
    assert (first.slots, second.slots) == ([w1], [w1])
    assert late == [None]


@pytest.mark.parametrize(
    ("served", "members", "expected"),
    [
        (0, "abc", "abc"),
        (1, "abc", "bca"),
        (1, "bc", "bcb"),  # the one served last left: its successor is next
        (2, "ac", "cac"),
        (3, "ab", "aba"),
        (2, "ad", "ada"),  # it and its successor left: the one after that
        (1, "abcd", "bcda"),
        (3, "abcd", "dabc"),  # a newcomer at the end does not wait for a whole round
        (3, "dabc", "dabc"),
        (1, "dabc", "bcda"),
        (2, "c", "ccc"),
        (2, "xyz", "xyz"),
        (2, "", ""),
    ],
)
def test_the_turn_survives_a_change_of_membership(served: int, members: str, expected: str) -> None:
    slots = {name: slot(name) for name in "abcdxyz"}
    lane = lane_of(*(slots[name] for name in "abc"))
    serve(lane, served)
    lane.set_ring(slots[name] for name in members)
    assert "".join(serve(lane, len(expected))) == expected


def test_an_empty_ring_in_between_keeps_the_turn() -> None:
    ring = [slot(name) for name in "abc"]
    lane = lane_of(*ring)
    serve(lane, 2)
    lane.set_ring([])
    assert lane.claim() is None
    lane.set_ring(ring)
    assert serve(lane, 3) == ["c", "a", "b"]


def test_a_generator_that_reads_the_marks_is_a_ring_too() -> None:
    a, b = slot("a"), slot("b")
    lane = lane_of(a, b)
    lane.set_ring(s for s in list(lane.slots.values()) if s.in_ring)
    assert serve(lane, 2) == ["a", "b"]


def test_a_worker_that_left_finishes_what_it_has() -> None:
    nudges: list[int] = []
    lane = Lane("echo", queue_limit=9, queue_bytes_limit=PLENTY, nudge=lambda: nudges.append(1))
    old, new = slot("old"), slot("new")
    lane.set_ring([old])
    assert lane.claim() is old
    lane.set_ring([new])
    assert (old.in_ring, new.in_ring, lane.running) == (False, True, 1)
    assert lane.slots.keys() == {"old", "new"}
    assert nudges == []
    lane.release(old, 7)
    assert nudges == [1], "the controller waits for this to stop the worker"
    lane.forget("old")
    assert lane.slots.keys() == {"new"}
    lane.forget("old")


def test_a_worker_that_died_leaves_the_ring_and_its_late_release_is_harmless() -> None:
    a, b = slot("a"), slot("b")
    lane = lane_of(a, b)
    assert (lane.claim(), lane.claim()) == (a, b)
    (caller,) = wait(lane)
    lane.forget("a")
    assert (lane.running, a.in_ring) == (1, False)
    lane.release(a, 1)
    assert caller.slots == []
    lane.release(b, 2)
    assert caller.slots == [b]


def test_a_queue_is_limited_by_count_and_by_bytes() -> None:
    lane = lane_of(queue_limit=2, queue_bytes_limit=100)
    big, over, fits, third = (Caller(size_bytes=n) for n in (90, 11, 10, 0))
    assert lane.enqueue(big)
    assert not lane.enqueue(over)
    assert lane.enqueue(fits)
    assert not lane.enqueue(third), "two wait already"
    assert (lane.queued, lane.queued_bytes) == (2, 100)
    assert lane.cancel(big)
    assert not lane.cancel(big)
    assert not lane.cancel(over)
    assert (lane.queued, lane.queued_bytes) == (1, 10)
    assert not lane_of(queue_limit=0).enqueue(Caller())


def test_nobody_waits_twice() -> None:
    lane = lane_of()
    (caller,) = wait(lane)
    with pytest.raises(AssertionError, match="waits already"):
        lane.enqueue(caller)


def test_the_oldest_arrival_is_that_of_the_head_of_the_queue() -> None:
    lane = lane_of()
    assert lane.oldest_arrival_ns is None
    first, _ = wait(lane, 2)
    assert lane.oldest_arrival_ns == 0
    lane.cancel(first)
    assert lane.oldest_arrival_ns == 1


def test_closing_refuses_the_waiters_or_lets_them_be_served() -> None:
    lane = lane_of()
    (caller,) = wait(lane)
    lane.close(GONE, evict=False)
    assert (lane.closed, caller.closed, lane.queued) == (GONE, [], 1)
    lane.close(GONE, evict=True)
    assert (caller.closed, lane.queued, lane.queued_bytes) == ([GONE], 0, 0)
    lane.set_ring([slot("w1")])
    assert caller.slots == []
    lane.open()
    assert lane.closed is None


def test_room_that_is_given_back_unused_goes_to_the_oldest_waiter() -> None:
    w1 = slot("w1")
    lane = lane_of(w1)
    assert lane.claim() is w1
    (caller,) = wait(lane)
    lane.unclaim(w1)
    assert caller.slots == [w1]
    assert (w1.in_flight, w1.served, w1.idle_since_ns) == (1, 0, 0)


def test_a_worker_that_cannot_be_reached_gets_nobody_until_it_is_trusted() -> None:
    w1, w2 = slot("w1"), slot("w2")
    lane = lane_of(w1, w2)
    assert lane.claim() is w1
    lane.suspect(w1)
    lane.unclaim(w1)
    assert serve(lane, 2) == ["w2", "w2"]
    assert lane.claim() is w2
    (caller,) = wait(lane)
    lane.set_ring([w1, w2])
    assert caller.slots == [], "a change of membership is no proof of health"
    lane.trust("w1")
    assert caller.slots == [w1]
    lane.trust("w1")
    lane.trust("nobody")


def test_a_worker_to_be_recycled_gets_nobody_and_says_when_it_is_free() -> None:
    nudges: list[int] = []
    lane = Lane("echo", queue_limit=9, queue_bytes_limit=PLENTY, nudge=lambda: nudges.append(1))
    w1 = slot("w1", 2)
    lane.set_ring([w1])
    assert (lane.claim(), lane.claim()) == (w1, w1)
    lane.demand_recycle(w1)
    lane.release(w1, 1)
    assert lane.claim() is None
    assert len(nudges) == 1
    lane.release(w1, 2)
    assert len(nudges) == 2


def test_the_first_waiter_is_announced() -> None:
    nudges: list[int] = []
    lane = Lane("echo", queue_limit=9, queue_bytes_limit=PLENTY, nudge=lambda: nudges.append(1))
    wait(lane, 3)
    assert nudges == [1]


@pytest.mark.parametrize("give_back", [lambda lane, s: lane.release(s, 1), lambda lane, s: lane.unclaim(s)])
def test_a_claim_is_given_back_once(give_back: Callable[[Lane, Slot], None]) -> None:
    w1 = slot("w1")
    lane = lane_of(w1)
    assert lane.claim() is w1
    give_back(lane, w1)
    with pytest.raises(AssertionError, match="released twice"):
        give_back(lane, w1)


CHANGES = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "serve", "serve", "serve"]), st.integers(0, 9)), max_size=80
)


@settings(deadline=None)
@given(CHANGES)
def test_between_two_turns_of_a_worker_every_other_has_one(changes: list[tuple[str, int]]) -> None:
    """With all workers idle between requests the order is a perfect rotation, whoever comes and goes meanwhile."""
    lane, ring, history = lane_of(), [slot("s0")], []
    lane.set_ring(ring)
    joined = {"s0": 0}
    for serial, (what, where) in enumerate(changes, start=1):
        if what == "add":
            ring.insert(where % (len(ring) + 1), slot(f"s{serial}"))
            joined[f"s{serial}"] = len(history)
        elif what == "remove" and len(ring) > 1:
            lane.forget(ring.pop(where % len(ring)).worker_id)
        elif what == "serve":
            (label,) = serve(lane, 1)
            before = [i for i, served in enumerate(history) if served == label]
            if before:
                between = history[before[-1] + 1 :]
                stayed = {s.label for s in ring if joined[s.label] <= before[-1]} - {label}
                assert {other: between.count(other) for other in stayed} == dict.fromkeys(stayed, 1)
            history.append(label)
        lane.set_ring(ring)
