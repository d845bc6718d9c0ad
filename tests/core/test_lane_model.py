"""A model of the lane, driven at random: nobody is lost, served twice, overtaken or left beside a free worker."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from orchestrator.core.lane import Closed, Lane, Slot

CLOSED = Closed(503, "stopping", "The endpoint stops.")
QUEUE_LIMIT = 6
QUEUE_BYTES = 40


class Request:
    """A request and the one thing that became of it. One of kind `fails` loses its worker in the moment it gets it, and
    calls back into the lane from within `granted`, as the gateway does."""

    def __init__(self, machine: LaneMachine, serial: int, size_bytes: int, *, fails: bool) -> None:
        self.machine = machine
        self.arrived_ns = serial
        self.size_bytes = size_bytes
        self.fails = fails
        self.outcome: str | None = None

    def __repr__(self) -> str:
        return f"<r{self.arrived_ns} {self.outcome or 'waits'}>"

    def end(self, outcome: str) -> None:
        assert self.outcome is None, f"{self!r} is {outcome} as well"
        self.outcome = outcome

    def granted(self, slot: Slot) -> None:
        machine = self.machine
        assert machine.queue, "nobody waited"
        assert machine.queue[0] is self, f"{self!r} overtook {machine.queue[0]!r}"
        machine.queue.pop(0)
        self.end("granted")
        machine.claimed(slot)
        if self.fails:
            machine.give_back(slot, suspect=True)

    def refused(self, closed: Closed) -> None:
        assert closed is CLOSED
        self.machine.queue.remove(self)
        self.end("refused")


class LaneMachine(RuleBasedStateMachine):
    """`turns` is the ring as a list that begins with the worker whose turn is next: the model of rules 1 and 4. The
    reserve comes after it, from its front: rule 5."""

    def __init__(self) -> None:
        super().__init__()
        self.lane = Lane("echo", queue_limit=QUEUE_LIMIT, queue_bytes_limit=QUEUE_BYTES)
        self.serial = 0
        self.ring: list[Slot] = []
        self.reserve: list[Slot] = []
        self.turns: list[Slot] = []
        self.last: Slot | None = None
        self.claims: list[Slot] = []
        self.requests: list[Request] = []
        self.queue: list[Request] = []
        self.forgotten: set[Slot] = set()

    @initialize(count=st.integers(0, 4), concurrency=st.integers(1, 3))
    def begin(self, count: int, concurrency: int) -> None:
        for _ in range(count):
            self.add(99, concurrency)

    def has_room(self, slot: Slot) -> bool:
        return self.claims.count(slot) < slot.concurrency and not slot.suspect and not slot.recycle

    def expected(self) -> Slot | None:
        return next((s for s in (*self.turns, *self.reserve) if self.has_room(s)), None)

    def claimed(self, slot: Slot) -> None:
        """The lane says that `slot` is claimed: it must be the first in turn that has room."""
        expected = self.expected()
        assert slot is expected, f"{slot!r} instead of {expected!r}, turns {self.turns}, reserve {self.reserve}"
        self.claims.append(slot)
        if slot in self.reserve:
            return
        place = self.turns.index(slot) + 1
        self.turns = self.turns[place:] + self.turns[:place]
        self.last = slot

    def give_back(self, slot: Slot, *, suspect: bool) -> None:
        if suspect:
            self.lane.suspect(slot)
        self.claims.remove(slot)
        self.lane.unclaim(slot)

    def set_ring(self, ring: list[Slot]) -> None:
        if self.last in ring:
            first = (ring.index(self.last) + 1) % len(ring)
        else:
            following = next((s for s in self.turns if s in ring), None) if self.last is not None else None
            first = ring.index(following) if following is not None else 0
        self.ring = ring
        self.turns = ring[first:] + ring[:first]

    def apply_ring(self, ring: list[Slot], reserve: list[Slot] | None = None) -> None:
        self.reserve = self.reserve if reserve is None else reserve
        self.set_ring(ring)
        self.lane.set_ring(ring, self.reserve)

    # --- requests

    @rule(size=st.integers(0, 15), fails=st.booleans())
    def arrive(self, size: int, fails: bool) -> None:
        if self.lane.closed is not None:
            return
        expected = None if self.queue else self.expected()
        slot = self.lane.claim()
        assert slot is expected
        if slot is not None:
            self.claimed(slot)
            return
        self.serial += 1
        request = Request(self, self.serial, size, fails=fails)
        fits = len(self.queue) < QUEUE_LIMIT and sum(r.size_bytes for r in self.queue) + size <= QUEUE_BYTES
        assert self.lane.enqueue(request) is fits
        if fits:
            self.requests.append(request)
            self.queue.append(request)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def finish(self, data: Any) -> None:
        slot = data.draw(st.sampled_from(self.claims))
        self.claims.remove(slot)
        served = slot.served
        self.serial += 1
        self.lane.release(slot, self.serial)
        assert (slot.served, slot.idle_since_ns) == (served + 1, self.serial)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), suspect=st.booleans())
    def lose(self, data: Any, suspect: bool) -> None:
        slot = data.draw(st.sampled_from(self.claims))
        before = (slot.served, slot.idle_since_ns)
        self.give_back(slot, suspect=suspect)
        assert (slot.served, slot.idle_since_ns) == before

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        request = data.draw(st.sampled_from(self.requests))
        waits = request in self.queue
        assert self.lane.cancel(request) is waits
        if waits:
            self.queue.remove(request)
            request.end("cancelled")

    # --- workers

    @precondition(lambda self: len(self.ring) < 6)
    @rule(place=st.integers(0, 6), concurrency=st.integers(1, 3))
    def add(self, place: int, concurrency: int) -> None:
        self.serial += 1
        new = Slot(f"s{self.serial}", f"s{self.serial}", "127.0.0.1", 1, concurrency, ready_ns=0)
        ring = list(self.ring)
        ring.insert(place, new)
        self.apply_ring(ring)

    @precondition(lambda self: self.ring or self.reserve)
    @rule(data=st.data(), wanted=st.integers(0, 6))
    def want(self, data: Any, wanted: int) -> None:
        """Another number of workers is wanted: some go into the reserve or come back."""
        order = data.draw(st.permutations([*self.ring, *self.reserve]))
        self.apply_ring(order[:wanted], order[wanted:])

    @precondition(lambda self: self.reserve)
    @rule(data=st.data())
    def drain_of_reserve(self, data: Any) -> None:
        leaving = data.draw(st.sampled_from(self.reserve))
        self.apply_ring(self.ring, [s for s in self.reserve if s is not leaving])
        assert not leaving.in_ring

    @precondition(lambda self: self.ring)
    @rule(data=st.data())
    def drain(self, data: Any) -> None:
        leaving = data.draw(st.sampled_from(self.ring))
        self.apply_ring([s for s in self.ring if s is not leaving])
        assert not leaving.in_ring
        assert leaving.worker_id in self.lane.slots

    @precondition(lambda self: self.ring)
    @rule(data=st.data())
    def shuffle(self, data: Any) -> None:
        self.apply_ring(data.draw(st.permutations(self.ring)))

    @precondition(lambda self: self.lane.slots)
    @rule(data=st.data())
    def forget(self, data: Any) -> None:
        slot = self.lane.slots[data.draw(st.sampled_from(sorted(self.lane.slots)))]
        self.forgotten.add(slot)
        self.reserve = [s for s in self.reserve if s is not slot]
        if slot in self.ring:
            self.set_ring([s for s in self.ring if s is not slot])
        self.lane.forget(slot.worker_id)

    @precondition(lambda self: self.lane.slots)
    @rule(data=st.data(), what=st.sampled_from(["suspect", "trust", "trust", "recycle"]))
    def judge(self, data: Any, what: str) -> None:
        slot = self.lane.slots[data.draw(st.sampled_from(sorted(self.lane.slots)))]
        if what == "suspect":
            self.lane.suspect(slot)
        elif what == "trust":
            self.lane.trust(slot.worker_id)
        else:
            self.lane.demand_recycle(slot)

    @precondition(lambda self: self.ring)
    @rule(data=st.data(), concurrency=st.integers(1, 3))
    def change_concurrency(self, data: Any, concurrency: int) -> None:
        data.draw(st.sampled_from(self.ring)).concurrency = concurrency
        self.apply_ring(list(self.ring))

    # --- the lane itself

    @rule(evict=st.booleans())
    def close(self, evict: bool) -> None:
        self.lane.close(CLOSED, evict=evict)
        assert not (evict and self.queue)

    @rule()
    def open(self) -> None:
        self.lane.open()

    # --- what holds at every moment

    @invariant()
    def the_queue_is_the_one_of_the_model(self) -> None:
        assert self.lane.queued == len(self.queue)
        assert self.lane.queued_bytes == sum(r.size_bytes for r in self.queue)
        assert self.lane.oldest_arrival_ns == (self.queue[0].arrived_ns if self.queue else None)

    @invariant()
    def every_request_waits_or_has_ended_once(self) -> None:
        assert [r for r in self.requests if r.outcome is None] == self.queue

    @invariant()
    def claims_are_counted_where_they_are(self) -> None:
        for slot in {*self.lane.slots.values(), *self.claims, *self.forgotten}:
            assert slot.in_flight == self.claims.count(slot)
        assert self.lane.running == sum(slot not in self.forgotten for slot in self.claims)

    @invariant()
    def nobody_waits_beside_a_free_worker(self) -> None:
        assert not (self.queue and any(self.has_room(s) for s in (*self.ring, *self.reserve)))

    @invariant()
    def the_ring_is_marked(self) -> None:
        for slot in {*self.lane.slots.values(), *self.forgotten}:
            assert slot.in_ring == (slot in self.ring or slot in self.reserve)


TestLane = LaneMachine.TestCase
TestLane.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
