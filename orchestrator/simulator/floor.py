"""Where callers meet workers: who is there without an outcome, and who works on what. One life of an orchestrator."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from orchestrator.core.lane import Closed, Slot
from orchestrator.core.routing import Route
from orchestrator.simulator.callers import Caller
from orchestrator.simulator.host import Host
from orchestrator.simulator.timeline import Action, Timeline

LOST = Closed(503, "connection_lost", "the orchestrator is gone")
DIED = "worker_died"


class Watcher(Protocol):
    """Who is told of what happens here."""

    def claimed(self, slot: Slot) -> None: ...

    def traffic_changed(self, *, urgent: bool) -> None:
        """Work began or a worker became idle (urgent), or something else that nobody waits for."""
        ...


class Floor:
    """Implements callers.Floor."""

    def __init__(self, time: Timeline, host: Host, watcher: Watcher) -> None:
        self.present: dict[Caller, None] = {}
        """Callers without an outcome, in order of arrival."""
        self._working: dict[str, dict[Caller, None]] = {}
        """Requests in flight by worker."""
        self._time = time
        self._host = host
        self._watcher = watcher
        self._closed = False

    @property
    def now_ns(self) -> int:
        return self._time.now_ns

    def at(self, at_ns: int, action: Action) -> None:
        self._time.at(at_ns, action)

    def call(self, route: Route, service_ns: int) -> Caller:
        """A request arrives now."""
        caller = Caller(self, route, service_ns)
        self._watcher.traffic_changed(urgent=len(self.present) == 1)
        return caller

    def came(self, caller: Caller) -> None:
        self.present[caller] = None

    def connects(self, caller: Caller, slot: Slot) -> bool:
        if slot.worker_id not in self._host.running:
            self._host.refuse(slot.worker_id)
            return False
        self._working.setdefault(slot.worker_id, {})[caller] = None
        self._watcher.claimed(slot)
        return True

    def went(self, caller: Caller, slot: Slot | None) -> None:
        self.present.pop(caller, None)
        if slot is None or self._closed:
            return
        working = self._working.get(slot.worker_id, {})
        working.pop(caller, None)
        self._watcher.traffic_changed(urgent=not working)

    def hangs(self, worker_id: str) -> bool:
        return worker_id in self._host.hung

    def in_flight(self, slot: Slot) -> list[tuple[int, int]]:
        """(arrival, dispatch) of what a worker is working on: for the routing table."""
        return [(c.arrived_ns, c.dispatched_ns or c.arrived_ns) for c in self._working.get(slot.worker_id, ())]

    def cut(self, worker_id: str, routes: Iterable[Route]) -> None:
        """A worker has ended: so have the connections to it."""
        working = self._working.pop(worker_id, None)
        if not working or self._closed:
            return
        for route in routes:
            slot = route.lane.slots.get(worker_id)
            if slot is not None:
                route.lane.suspect(slot)  # or the waiters would follow those who are cut off
        for caller in list(working):
            caller.lose(DIED)

    def close(self, routes: Iterable[Route]) -> None:
        """The orchestrator dies, and every connection with it."""
        self._closed = True
        for route in routes:
            route.lane.close(LOST, evict=True)
        for caller in list(self.present):
            caller.lose(LOST.code)
