"""Those who call a simulated endpoint: one object a request, from its arrival to its outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from orchestrator.contract.base import SECOND_NS
from orchestrator.core.lane import Closed, Slot
from orchestrator.core.routing import Route

SIZE_BYTES = 100


class Floor(Protocol):
    """What a caller needs of the world around it."""

    @property
    def now_ns(self) -> int: ...

    def at(self, at_ns: int, action: Callable[[], None]) -> None: ...

    def came(self, caller: Caller) -> None: ...

    def connects(self, caller: Caller, slot: Slot) -> bool:
        """The worker takes the request; False: nobody listens there any more."""
        ...

    def went(self, caller: Caller, slot: Slot | None) -> None:
        """It is over, on its worker or before it had one."""
        ...

    def hangs(self, worker_id: str) -> bool: ...


class Caller:
    """One request. `outcome` is the label of the worker that has it, or the code of what became of it instead."""

    __slots__ = ("_floor", "_route", "_slot", "arrived_ns", "dispatched_ns", "done_ns", "outcome", "service_ns",
                 "size_bytes")  # fmt: skip

    def __init__(self, floor: Floor, route: Route, service_ns: int) -> None:
        self.arrived_ns = floor.now_ns
        self.size_bytes = SIZE_BYTES
        self.service_ns = service_ns
        self.outcome: str | None = None
        self.dispatched_ns: int | None = None
        self.done_ns: int | None = None
        """When its last byte came; None while it has none, and for ever when it failed."""
        self._floor = floor
        self._route = route
        self._slot: Slot | None = None
        floor.came(self)
        if route.lane.closed is not None:
            self.refused(route.lane.closed)
        else:
            self._seek()

    @property
    def waited_s(self) -> float | None:
        """Seconds from arrival to dispatch; None when no worker has taken it."""
        return None if self.dispatched_ns is None else (self.dispatched_ns - self.arrived_ns) / SECOND_NS

    def granted(self, slot: Slot) -> None:
        floor, lane = self._floor, self._route.lane
        if not floor.connects(self, slot):
            lane.suspect(slot)
            lane.unclaim(slot)
            self._seek()  # nothing was sent: another worker may have it
            return
        self.outcome = slot.label
        self.dispatched_ns = floor.now_ns
        self._slot = slot
        if slot.first_byte_ns is None:
            slot.first_byte_ns = floor.now_ns
        limit_ns = int(self._route.execution_timeout_s * SECOND_NS)
        floor.at(floor.now_ns + min(self.service_ns, limit_ns), lambda: self._end(slot))

    def refused(self, closed: Closed) -> None:
        self._give_up(closed.code)

    def lose(self, code: str) -> None:
        """The connection ends, with the orchestrator or with the worker that had the request."""
        slot, self._slot = self._slot, None
        self.outcome = code
        self._over(slot, failed=True)

    def _seek(self) -> None:
        lane, floor = self._route.lane, self._floor
        slot = lane.claim()
        if slot is not None:
            self.granted(slot)
        elif lane.enqueue(self):
            floor.at(self.arrived_ns + int(self._route.queue_timeout_s * SECOND_NS), self._lose_patience)
        else:
            self._give_up("queue_full")

    def _lose_patience(self) -> None:
        if self.outcome is None and self._route.lane.cancel(self):
            self._give_up("queue_timeout")

    def _give_up(self, code: str) -> None:
        self.outcome = code
        self._over(None, failed=True)

    def _end(self, slot: Slot) -> None:
        """The reply is complete, or the execution timeout is over. A worker that hangs completes nothing."""
        if self._slot is not slot or self.dispatched_ns is None:
            return  # its worker or the orchestrator was gone before
        floor, lane = self._floor, self._route.lane
        timeout_ns = self.dispatched_ns + int(self._route.execution_timeout_s * SECOND_NS)
        if floor.now_ns < timeout_ns and floor.hangs(slot.worker_id):
            floor.at(timeout_ns, lambda: self._end(slot))
            return
        self._slot = None
        if floor.now_ns < timeout_ns:
            self.done_ns = floor.now_ns
        else:
            self.outcome = "execution_timeout"
            if not self._route.cancels:
                lane.demand_recycle(slot)
        self._over(slot, failed=self.done_ns is None)

    def _over(self, slot: Slot | None, *, failed: bool) -> None:
        now_ns = self._floor.now_ns
        waited_ns = (now_ns if self.dispatched_ns is None else self.dispatched_ns) - self.arrived_ns
        self._route.meter.record(now_ns, total_ns=now_ns - self.arrived_ns, queue_ns=waited_ns, failed=failed)
        self._floor.went(self, slot)
        if slot is not None:
            self._route.lane.release(slot, now_ns)


@dataclass(frozen=True, slots=True)
class Unheard:
    """A request that found no orchestrator, or no such endpoint."""

    arrived_ns: int
    outcome: str = "unreachable"
    waited_s: float | None = None
    done_ns: int | None = None
