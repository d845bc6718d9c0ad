"""One endpoint's lane: round robin over the workers that are wanted, a reserve, and one FIFO queue, bound late.

Rules (design.md section 1, Routing; features.md R9, A11):

1. A request goes to the next worker in ring order that is below its concurrency. Nine requests in sequence on three
   workers go w1 w2 w3 three times.
2. When none is free the request waits. Waiters are bound to workers only when a worker has room, so a newly ready
   worker takes the oldest waiter at once; nobody queues behind a busy worker.
3. A new request never overtakes a waiter.
4. The cursor survives changes of membership: it names the worker served last, not a position.
5. Warm workers that are not wanted stand in reserve, in the order in which they would be wanted again. One of them gets
   a request only when no worker of the ring has room, the first that has: so nobody waits beside a warm worker, and the
   idle timers of the last ones run out although traffic goes on. Round robin over all of them would keep every timer
   fresh (research/autoscaling.md 3.4: up to +90% of the bill).

Single-threaded by contract: the gateway and the controller share one event loop, so claim, release and `set_ring` are
atomic between awaits. This is the hot path: no allocation beyond the queue, no clock, no logging.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Protocol


class Slot:
    """A routable worker and its counters. Identity is the worker: the same object while the worker lives."""

    __slots__ = (
        "concurrency", "first_byte_ns", "host", "idle_since_ns", "in_flight", "in_ring", "label", "port", "recycle",
        "served", "suspect", "worker_id",
    )  # fmt: skip

    def __init__(self, worker_id: str, label: str, host: str, port: int, concurrency: int, ready_ns: int) -> None:
        self.worker_id = worker_id
        self.label = label
        self.host = host
        self.port = port
        self.concurrency = concurrency
        self.in_flight = 0
        self.served = 0
        self.idle_since_ns = ready_ns
        """Instant of the last byte of the last request; of readiness when there was none (features.md A10)."""
        self.first_byte_ns: int | None = None
        """When this worker's first reply began: the last phase of its cold start."""
        self.in_ring = True
        """It may be claimed: it stands in the ring or in the reserve. False once it drains."""
        self.suspect = False
        """A connection to it failed: not claimed again until a health probe clears it."""
        self.recycle = False
        """A request on it timed out and its model cannot cancel: it must be drained and replaced."""

    def __repr__(self) -> str:
        marks = "".join(m for m, on in (("-", not self.in_ring), ("?", self.suspect), ("!", self.recycle)) if on)
        return f"<Slot {self.label}{marks} {self.in_flight}/{self.concurrency} served={self.served}>"


@dataclass(frozen=True, slots=True)
class Closed:
    """Why a lane admits nothing: the HTTP status and machine code of the answer, and a sentence for a person."""

    status: int
    code: str
    message: str
    retry_after_s: int | None = None


class Waiter(Protocol):
    """A request waiting for a worker. The lane calls exactly one of the two, at most once, never after `cancel`. Either
    may call back into the lane at once (a connection that fails right away)."""

    arrived_ns: int
    size_bytes: int
    """Does not change while it waits."""

    def granted(self, slot: Slot) -> None:
        """A worker was claimed for it (already counted in `slot.in_flight`)."""

    def refused(self, closed: Closed) -> None:
        """The lane closed while it waited."""


class Lane:
    """Routing state of one endpoint. See the module's rules."""

    def __init__(
        self, slug: str, *, queue_limit: int, queue_bytes_limit: int, nudge: Callable[[], None] = lambda: None
    ) -> None:
        self.slug = slug
        self.queue_limit = queue_limit
        self.queue_bytes_limit = queue_bytes_limit
        self.queued_bytes = 0
        self.closed: Closed | None = None
        self.slots: dict[str, Slot] = {}
        """Every worker that may still have requests in flight: ring, reserve, and those draining out of them."""
        self._ring: list[Slot] = []
        self._reserve: list[Slot] = []
        self._next = 0
        self._last: str | None = None
        self._waiters: OrderedDict[int, Waiter] = OrderedDict()
        self._nudge = nudge
        """Tells the controller that a decision may be due (first waiter, last request of a draining worker)."""

    def __repr__(self) -> str:
        state = f"closed:{self.closed.code}" if self.closed else "open"
        ring, reserve = [s.label for s in self._ring], [s.label for s in self._reserve]
        return f"<Lane {self.slug} {state} ring={ring} reserve={reserve} queued={len(self._waiters)}>"

    @property
    def queued(self) -> int:
        return len(self._waiters)

    @property
    def running(self) -> int:
        return sum(slot.in_flight for slot in self.slots.values())

    @property
    def oldest_arrival_ns(self) -> int | None:
        """Arrival of the request that has waited longest; None when nobody waits."""
        for waiter in self._waiters.values():
            return waiter.arrived_ns
        return None

    @property
    def last(self) -> str | None:
        """Id of the worker that the ring served last."""
        return self._last

    def standing(self) -> tuple[tuple[Slot, ...], tuple[Slot, ...], int]:
        """The ring, the reserve, and the index of the ring that round robin looks at first. For those who look on."""
        return tuple(self._ring), tuple(self._reserve), self._next if self._next < len(self._ring) else 0

    def arrivals(self, limit: int) -> tuple[int, ...]:
        """Arrivals of the first `limit` waiters, in the order of the queue."""
        return tuple(waiter.arrived_ns for waiter in islice(self._waiters.values(), limit))

    def claim(self) -> Slot | None:
        """The next worker in ring order with room, else the first of the reserve with room, counted as busy; None when
        there is none or others wait."""
        return None if self._waiters else self._take()

    def enqueue(self, waiter: Waiter) -> bool:
        """Put `waiter`, for which `claim` found no worker, at the end of the queue; False when the queue is full by
        count or by bytes."""
        assert id(waiter) not in self._waiters, f"waits already: {waiter!r}"
        full = len(self._waiters) >= self.queue_limit
        if full or self.queued_bytes + waiter.size_bytes > self.queue_bytes_limit:
            return False
        self._admit(waiter)
        return True

    def rejoin(self, waiter: Waiter) -> bool:
        """Put `waiter`, whose worker could not be reached, back among the others by its arrival: it has waited its turn
        already. It was admitted once, so a full queue does not refuse it; there are never more of these than were in
        flight. Always True."""
        earlier = [
            key for key, other in takewhile(lambda item: item[1].arrived_ns <= waiter.arrived_ns, self._waiters.items())
        ]
        self._admit(waiter)
        for key in (id(waiter), *reversed(earlier)):
            self._waiters.move_to_end(key, last=False)
        return True

    def _admit(self, waiter: Waiter) -> None:
        first = not self._waiters
        self._waiters[id(waiter)] = waiter
        self.queued_bytes += waiter.size_bytes
        if first:
            self._nudge()

    def cancel(self, waiter: Waiter) -> bool:
        """Free the place of a waiter whose client left or whose time is up; False when it no longer waits."""
        if self._waiters.pop(id(waiter), None) is None:
            return False
        self.queued_bytes -= waiter.size_bytes
        return True

    def release(self, slot: Slot, now_ns: int) -> None:
        """The request on `slot` is over (its last byte was sent, or it failed); the oldest waiter takes the room."""
        assert slot.in_flight > 0, f"released twice: {slot!r}"
        slot.in_flight -= 1
        slot.served += 1
        slot.idle_since_ns = now_ns
        if self._waiters:
            self._bind()
        if slot.in_flight == 0 and (not slot.in_ring or slot.recycle or slot.suspect):
            self._nudge()

    def unclaim(self, slot: Slot) -> None:
        """Give back a claim that never reached the worker: not served, not idle-resetting. After a refused connection
        call `suspect` first, or the oldest waiter gets the same worker."""
        assert slot.in_flight > 0, f"released twice: {slot!r}"
        slot.in_flight -= 1
        if self._waiters:
            self._bind()
        if slot.in_flight == 0:
            self._nudge()

    def suspect(self, slot: Slot) -> None:
        """Take `slot` out of turn until a health probe clears it (`trust`)."""
        slot.suspect = True
        self._nudge()

    def trust(self, worker_id: str) -> None:
        """The worker answered its probe: it takes its turn again, waiters first. Unknown workers are ignored."""
        slot = self.slots.get(worker_id)
        if slot is not None and slot.suspect:
            slot.suspect = False
            self._bind()

    def demand_recycle(self, slot: Slot) -> None:
        """Ask the controller to drain and replace `slot`."""
        slot.recycle = True
        self._nudge()

    def set_ring(self, members: Iterable[Slot], reserve: Iterable[Slot] = ()) -> None:
        """Replace ring and reserve. Workers that left both keep their slot while requests are in flight, then `forget`
        drops it."""
        successors = [s.worker_id for s in self._ring[self._next :] + self._ring[: self._next]]
        ring, spare = list(members), list(reserve)  # before the marks change: they may be generators that read them
        for slot in (*self._ring, *self._reserve):
            slot.in_ring = False
        self._ring, self._reserve = ring, spare
        for slot in (*ring, *spare):
            slot.in_ring = True
            self.slots[slot.worker_id] = slot
        self._next = self._resume_after(successors)
        self._bind()

    def forget(self, worker_id: str) -> None:
        """Drop a worker that has ended. Requests still counted on it are over: their connections are gone."""
        slot = self.slots.pop(worker_id, None)
        if slot is not None and slot.in_ring:
            self.set_ring([s for s in self._ring if s is not slot], [s for s in self._reserve if s is not slot])

    def open(self) -> None:
        """Admit requests (again)."""
        self.closed = None

    def close(self, closed: Closed, *, evict: bool) -> None:
        """Admit nothing more; with `evict` the waiters are refused now, else they keep their places."""
        self.closed = closed
        if evict:
            waiters = list(self._waiters.values())
            self._waiters.clear()
            self.queued_bytes = 0
            for waiter in waiters:
                waiter.refused(closed)

    def _resume_after(self, successors: list[str]) -> int:
        """Index in the new ring of the worker whose turn is next: rule 4."""
        index = {slot.worker_id: i for i, slot in enumerate(self._ring)}
        if self._last is not None and self._last in index:
            return (index[self._last] + 1) % len(self._ring)
        if self._last is not None:
            for worker_id in successors:
                if worker_id in index:
                    return index[worker_id]
        return 0  # nobody was served yet: the first request goes to the first worker

    def _take(self) -> Slot | None:
        ring = self._ring
        size = len(ring)
        i = self._next
        for _ in range(size):
            if i >= size:
                i = 0
            slot = ring[i]
            i += 1
            if slot.in_flight < slot.concurrency and not slot.suspect and not slot.recycle:
                slot.in_flight += 1
                self._next = i
                self._last = slot.worker_id
                return slot
        for slot in self._reserve:  # always from its front, and the cursor stays: rule 5
            if slot.in_flight < slot.concurrency and not slot.suspect and not slot.recycle:
                slot.in_flight += 1
                return slot
        return None

    def _bind(self) -> None:
        """Give free workers to waiters, oldest first, until one of them runs out."""
        while self._waiters:
            slot = self._take()
            if slot is None:
                return
            _, waiter = self._waiters.popitem(last=False)
            self.queued_bytes -= waiter.size_bytes
            waiter.granted(slot)
