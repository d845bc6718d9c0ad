"""Counters of one endpoint's traffic: a preallocated ring written once per request, summed up off the path."""

from __future__ import annotations

from array import array
from typing import Final

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.snapshot import TrafficView

RING: Final = 4_096
SERIES_S: Final = 120
WINDOW_NS: Final = 60 * SECOND_NS


class Meter:
    """Records finished requests. `record` is O(1) and allocates nothing; `view` costs O(RING), a few times a second."""

    __slots__ = ("_at", "_failed", "_n", "_queue_ns", "_total_ns", "failed_total", "served_total")

    def __init__(self) -> None:
        self._at = array("q", bytes(8 * RING))
        self._total_ns = array("q", bytes(8 * RING))
        self._queue_ns = array("q", bytes(8 * RING))
        self._failed = bytearray(RING)
        self._n = 0
        self.served_total = 0
        self.failed_total = 0

    def record(self, now_ns: int, *, total_ns: int, queue_ns: int, failed: bool) -> None:
        """One request ended at `now_ns`: `total_ns` from arrival to last byte, of which `queue_ns` were waiting."""
        i = self._n % RING
        self._at[i] = now_ns
        self._total_ns[i] = total_ns
        self._queue_ns[i] = queue_ns
        self._failed[i] = failed
        self._n += 1
        if failed:
            self.failed_total += 1
        else:
            self.served_total += 1

    def view(self, now_ns: int) -> TrafficView:
        """Rates, percentiles and per-second series up to the last complete second; queue fields are left at zero."""
        second = now_ns // SECOND_NS
        requests = [0] * SERIES_S
        failures = [0] * SERIES_S
        slowest: list[list[int]] = [[] for _ in range(SERIES_S)]
        recent: list[int] = []
        waits: list[int] = []
        count = 0
        for k in range(min(self._n, RING)):
            i = (self._n - 1 - k) % RING
            age = second - self._at[i] // SECOND_NS
            if age > SERIES_S:
                break
            if now_ns - self._at[i] <= WINDOW_NS:
                count += 1
                if not self._failed[i]:
                    recent.append(self._total_ns[i])
                    waits.append(self._queue_ns[i])
            if age >= 1:
                bucket = SERIES_S - age
                requests[bucket] += 1
                failures[bucket] += self._failed[i]
                if not self._failed[i]:
                    slowest[bucket].append(self._total_ns[i])
        recent.sort()
        waits.sort()
        return TrafficView(
            rpm=count,
            p50_ms=percentile_ms(recent, 50),
            p95_ms=percentile_ms(recent, 95),
            p99_ms=percentile_ms(recent, 99),
            queue_p95_ms=percentile_ms(waits, 95),
            served_total=self.served_total,
            failed_total=self.failed_total,
            requests_series=tuple(requests),
            failures_series=tuple(failures),
            p95_series_ms=tuple(percentile_ms(sorted(bucket), 95) or 0 for bucket in slowest),
        )


def percentile_ms(ordered_ns: list[int], percent: int) -> int | None:
    """Nearest-rank percentile of an ascending list of nanoseconds, in whole milliseconds; None of an empty one."""
    if not ordered_ns:
        return None
    rank = -(-len(ordered_ns) * percent // 100)
    return ordered_ns[max(rank, 1) - 1] // 1_000_000
