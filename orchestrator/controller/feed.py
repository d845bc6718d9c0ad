"""Reads one lane for a tick: what is there now, and what happened since the last tick.

The request path pays nothing for it. What ended comes from the meter, which records every request anyway; who waits and
who works is asked of the lane and of the connections; the number of arrivals follows from the three.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import compress
from operator import not_

from orchestrator.core.events import LaneSeen, SlotSeen
from orchestrator.core.lane import Lane, Slot
from orchestrator.core.scaling.view import QUEUE_SEEN_MAX
from orchestrator.core.traffic import Meter


class LaneFeed:
    """Remembers how far the last reading came."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self._ended = meter.recorded
        self._present = 0
        """Requests that waited or were in flight at the last reading."""
        self._read_ns = 0
        self._unplaced: list[int] = []
        """Since when requests have been in flight of which the data plane does not say it."""

    def read(self, now_ns: int, lane: Lane, in_flight: Callable[[Slot], Iterable[tuple[int, int]]]) -> LaneSeen:
        """The reading at `now_ns`; lists are cut to the oldest QUEUE_SEEN_MAX."""
        view = seen(lane)
        working = [work for slot in lane.slots.values() if slot.in_flight for work in in_flight(slot)]
        ended = self.meter.ended(self._ended, QUEUE_SEEN_MAX)
        arrivals = sorted([*view.queue, *(arrived_ns for arrived_ns, _ in working), *ended.arrived_ns])
        present = view.queued + view.running
        arrived = max(0, self.meter.recorded - self._ended + present - self._present)
        # Those that came at the very instant of the last reading were told then: of the candidates, the newest count.
        new = arrivals[bisect_left(arrivals, self._read_ns) :][-arrived:] if arrived else []
        found = replace(
            view,
            running_since=tuple(self._since(now_ns, view.running, [since for _, since in working])),
            arrived=arrived,
            arrivals=tuple(new[:QUEUE_SEEN_MAX]),
            served=tuple(ns for ns in compress(ended.service_ns, map(not_, ended.failed)) if ns > 0),
        )
        self._ended, self._present, self._read_ns = self.meter.recorded, present, now_ns
        return found

    def _since(self, now_ns: int, running: int, known: list[int]) -> list[int]:
        """`known`, with a request that nobody tells of counted from the reading at which it was there first."""
        missing = max(0, running - len(known))
        self._unplaced = self._unplaced[:missing] + [now_ns] * (missing - len(self._unplaced))
        return sorted(known + self._unplaced)[:QUEUE_SEEN_MAX]


def seen(lane: Lane) -> LaneSeen:
    """What is there now."""
    return LaneSeen(
        queued=lane.queued,
        running=lane.running,
        queue=lane.arrivals(QUEUE_SEEN_MAX),
        slots={
            worker_id: SlotSeen(
                in_flight=slot.in_flight,
                served=slot.served,
                idle_since_ns=slot.idle_since_ns,
                first_byte_ns=slot.first_byte_ns,
                suspect=slot.suspect,
                recycle=slot.recycle,
            )
            for worker_id, slot in lane.slots.items()
        },
    )
