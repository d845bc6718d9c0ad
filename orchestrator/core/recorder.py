"""Gathers what meters and workers counted into minutes. Pure: the caller brings the readings and the time."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import compress
from typing import Final

from orchestrator.core.history import MINUTE_NS, Counts, Minute, Requests
from orchestrator.core.traffic import Meter

REQUESTS_A_MINUTE: Final = 6_000
"""Requests kept one by one of an endpoint's minute: the first ones. The others are counted."""


class Recorder:
    """`see` is called at every tick and returns the minute that ended, if one did.

    A worker's requests belong to the interval that is open for it when they are seen, so at a change of tier they are
    told apart to the length of a tick. Those of a worker that has no interval yet wait for its first one.
    """

    def __init__(self, now_ns: int) -> None:
        self._minute_ns = now_ns // MINUTE_NS * MINUTE_NS
        self._meters: dict[str, Meter] = {}
        self._counts: dict[str, Counts] = {}
        self._taken: dict[str, int] = {}
        """Requests of each worker that have been counted to an interval."""
        self._interval: dict[str, str] = {}
        self._served: dict[str, int] = {}
        self._read: dict[str, int] = {}
        """How far each meter has been read request by request."""
        self._requests: dict[str, Requests] = {}

    def see(
        self, now_ns: int, meters: Mapping[str, Meter], served: Mapping[str, int], intervals: Mapping[str, str]
    ) -> Minute | None:
        """`meters` by endpoint, `served` so far by worker, `intervals` that are open by worker."""
        self._attribute(served, intervals)
        for slug, meter in self._meters.items():
            self._list(slug, meter)
        for slug, meter in self._meters.items():
            if meters.get(slug) is not meter:
                self._drain(slug, meter)  # the endpoint is gone, and its meter with the last minute in it
        if self._meters.keys() != meters.keys() or any(self._meters[slug] is not m for slug, m in meters.items()):
            self._read = {s: self._read[s] if self._meters.get(s) is m else m.recorded for s, m in meters.items()}
            self._meters = dict(meters)
        minute_ns = now_ns // MINUTE_NS * MINUTE_NS
        return self.flush(minute_ns) if minute_ns > self._minute_ns else None

    def flush(self, next_minute_ns: int | None = None) -> Minute | None:
        """What has been gathered since the last one; None when nothing happened."""
        for slug, meter in self._meters.items():
            self._list(slug, meter)
            self._drain(slug, meter)
        minute = Minute(self._minute_ns, self._counts, self._served, self._requests)
        self._counts, self._served, self._requests = {}, {}, {}
        if next_minute_ns is not None:
            self._minute_ns = next_minute_ns
        return minute if minute.endpoints or minute.served else None

    def _drain(self, slug: str, meter: Meter) -> None:
        counts = meter.drain()
        if counts is not None:
            self._counts.setdefault(slug, Counts()).add(counts)

    def _list(self, slug: str, meter: Meter) -> None:
        """Note requests one by one. One that was refused at the door never was the endpoint's load."""
        kept = self._requests.setdefault(slug, Requests())
        room = REQUESTS_A_MINUTE - len(kept.arrived_ns)
        ended = meter.ended(self._read[slug], room)
        kept.missed += meter.recorded - self._read[slug] - len(ended.arrived_ns)
        self._read[slug] = meter.recorded
        load = [total_ns > 0 for total_ns in ended.total_ns]
        kept.arrived_ns.extend(compress(ended.arrived_ns, load))
        kept.service_ns.extend(compress(ended.service_ns, load))

    def _attribute(self, served: Mapping[str, int], intervals: Mapping[str, str]) -> None:
        for worker_id, count in served.items():
            interval_id = intervals.get(worker_id) or self._interval.get(worker_id)
            before = self._taken.get(worker_id, 0)
            if count < before:
                before = 0  # its slot was made anew
            if interval_id is not None:
                # What came since the last look belongs to the interval that was open then, when there was one.
                owner = self._interval.get(worker_id, interval_id)
                if count > before:
                    self._served[owner] = self._served.get(owner, 0) + count - before
                self._taken[worker_id] = count
                self._interval[worker_id] = interval_id
        for worker_id in [w for w in self._interval if w not in served]:
            self._taken.pop(worker_id, None)
            del self._interval[worker_id]
