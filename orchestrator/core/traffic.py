"""Counters of one endpoint's traffic, preallocated: written once per request, summed up off the request path.

Two rings. One has a place per second and counts every request exactly, at any rate. The other keeps the last RING
requests one by one for percentiles, so above RING requests a minute these describe the newest RING of them.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection
from operator import eq, itemgetter, mul, sub
from typing import Final, NamedTuple

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.snapshot import TrafficView
from orchestrator.core.history import BUCKETS, Counts, Histogram, bucket_of, percentiles_us, to_counts, to_histogram

RING: Final = 4_096
SERIES_S: Final = 120
WINDOW_S: Final = 60
WINDOW_NS: Final = WINDOW_S * SECOND_NS
_SCATTERED: Final = itemgetter(*(n * 2_654_435_761 % 2**32 * RING // 2**32 for n in range(RING // 4)))
"""A quarter of a full ring, for percentiles: a p99 of it lies between the 98.4th and the 99.6th of all (two standard
errors) and costs a fifth. Steps of the golden ratio fall in step with no round robin."""
_SECONDS: Final = 128
"""Places of the ring of seconds: more than SERIES_S and the second that is still going on."""
_SORTED_MAX: Final = 256
"""The p95 of a second with more replies is read from its histogram: sorting them all would be a pause in the midst of a
request."""


class Ended(NamedTuple):
    """Requests that are over, oldest first, a column for each of their facts: a tick reads hundreds of them, and an
    object for each would take the event loop longer than all else that it reads."""

    arrived_ns: list[int]
    total_ns: list[int]
    """From arrival to last byte, or to the failure."""
    service_ns: list[int]
    """The same from dispatch; 0 where it never reached a worker."""
    failed: list[bool]


class Totals(NamedTuple):
    """Everything a meter has recorded in its life. Buckets (core/history.py) and sums are of replies that succeeded."""

    statuses: dict[int, int]
    """Requests by HTTP status; 499 where the client left."""
    total_buckets: tuple[int, ...]
    queue_buckets: tuple[int, ...]
    total_ns: int
    queue_ns: int


class Meter:
    """Records finished requests. `record` allocates nothing; once a second it also takes the p95 of the second that
    ended. `view` sorts a quarter of RING values, twice."""

    __slots__ = (
        "_at", "_drained_failed", "_drained_queue", "_drained_served", "_drained_total", "_failures", "_last_ns", "_n",
        "_p95_ms", "_place", "_queue_buckets", "_queue_ns", "_queue_sum_ns", "_requests", "_second", "_settled",
        "_settled_buckets", "_statuses", "_total_buckets", "_total_ns", "_total_sum_ns", "_until_ns", "failed_total",
        "served_total",
    )  # fmt: skip

    def __init__(self) -> None:
        self._at = array("q", bytes(8 * RING))
        self._total_ns = array("q", bytes(8 * RING))
        self._queue_ns = array("q", bytes(8 * RING))
        self._n = 0
        self._last_ns = 0
        self._place = 0
        """Place of the second of the last request,"""
        self._until_ns = 0
        """and its end."""
        self._second = array("q", [-1]) * _SECONDS
        self._requests = array("q", bytes(8 * _SECONDS))
        self._failures = array("q", bytes(8 * _SECONDS))
        self._p95_ms = array("q", bytes(8 * _SECONDS))
        self._settled = True
        """The p95 of the second of the last request has been taken."""
        self.served_total = 0
        self.failed_total = 0
        self._drained_served = 0
        self._drained_failed = 0
        self._total_buckets = array("q", bytes(8 * BUCKETS))
        self._queue_buckets = array("q", bytes(8 * BUCKETS))
        self._settled_buckets = array("q", bytes(8 * BUCKETS))
        """`_total_buckets` at the beginning of the second of the last request."""
        self._drained_total = array("q", bytes(8 * BUCKETS))
        self._drained_queue = array("q", bytes(8 * BUCKETS))
        self._total_sum_ns = 0
        self._queue_sum_ns = 0
        self._statuses: defaultdict[int, int] = defaultdict(int)

    def record(self, now_ns: int, *, total_ns: int, queue_ns: int, failed: bool, status: int = 0) -> None:
        """One request ended at `now_ns`: `total_ns` from arrival to last byte, of which `queue_ns` were waiting.
        `status` is what HTTP calls it, 0 where there is no HTTP."""
        self._statuses[status] += 1
        if now_ns < self._last_ns:
            now_ns = self._last_ns  # the ring is searched by time, so it must be in order
        if now_ns >= self._until_ns:
            self._begin_second(now_ns // SECOND_NS)
        place = self._place
        i = self._n % RING
        self._at[i] = self._last_ns = now_ns
        self._total_ns[i] = ~total_ns if failed else total_ns  # below zero: percentiles describe replies
        self._queue_ns[i] = ~queue_ns if failed else queue_ns
        self._n += 1
        self._settled = False
        self._requests[place] += 1
        if failed:
            self._failures[place] += 1
            self.failed_total += 1
        else:
            self.served_total += 1
            self._total_sum_ns += total_ns
            self._queue_sum_ns += queue_ns
            self._total_buckets[bucket_of(total_ns)] += 1
            self._queue_buckets[bucket_of(queue_ns) if queue_ns else 0] += 1

    @property
    def recorded(self) -> int:
        """How many requests have been recorded: the cursor of `ended`."""
        return self._n

    def ended(self, since: int, limit: int = RING) -> Ended:
        """The first `limit` of the requests recorded after the first `since`, oldest first, as far as they are kept."""
        first = max(since, self._n - self._kept)
        count = max(0, min(self._n - first, limit))
        at, total, queue = (_stretch(ring, first, count) for ring in (self._at, self._total_ns, self._queue_ns))
        failed = [total_ns < 0 for total_ns in total]
        if any(failed):
            total = [~total_ns if total_ns < 0 else total_ns for total_ns in total]
            queue = [~queue_ns if queue_ns < 0 else queue_ns for queue_ns in queue]
        return Ended(list(map(sub, at, total)), total, list(map(sub, total, queue)), failed)

    def drain(self) -> Counts | None:
        """What was recorded since the last call, for the history; None when there was nothing."""
        served, failed = self.served_total - self._drained_served, self.failed_total - self._drained_failed
        if served == failed == 0:
            return None
        counts = to_counts(
            served + failed,
            failed,
            map(sub, self._total_buckets, self._drained_total),
            map(sub, self._queue_buckets, self._drained_queue),
        )
        self._drained_served, self._drained_failed = self.served_total, self.failed_total
        self._drained_total, self._drained_queue = self._total_buckets[:], self._queue_buckets[:]
        return counts

    def totals(self) -> Totals:
        """What was recorded since the beginning, whatever has been drained meanwhile."""
        return Totals(
            dict(self._statuses),
            tuple(self._total_buckets),
            tuple(self._queue_buckets),
            self._total_sum_ns,
            self._queue_sum_ns,
        )

    def view(self, now_ns: int) -> TrafficView:
        """Rates, percentiles and per-second series up to the last complete second; queue fields are left at zero."""
        second = now_ns // SECOND_NS
        if second > self._last_ns // SECOND_NS:
            self._settle()
        first = self._first_since(now_ns - WINDOW_NS)
        latencies = self._sampled(self._total_ns, first)
        current = list(map(eq, self._series(self._second, second), range(second - SERIES_S, second)))
        return TrafficView(
            rpm=self._rpm(now_ns, first),
            p50_ms=percentile_ms(latencies, 50),
            p95_ms=percentile_ms(latencies, 95),
            p99_ms=percentile_ms(latencies, 99),
            queue_p95_ms=percentile_ms(self._sampled(self._queue_ns, first), 95),
            served_total=self.served_total,
            failed_total=self.failed_total,
            requests_series=tuple(map(mul, self._series(self._requests, second), current)),
            failures_series=tuple(map(mul, self._series(self._failures, second), current)),
            p95_series_ms=tuple(map(mul, self._series(self._p95_ms, second), current)),
        )

    def histograms(self, now_ns: int) -> tuple[Histogram, Histogram]:
        """Latencies and waits of the replies of the last 60 s, as far as they are kept. Costs as much as `view`."""
        first = self._first_since(now_ns - WINDOW_NS)
        return to_histogram(self._ordered(self._total_ns, first)), to_histogram(self._ordered(self._queue_ns, first))

    def _begin_second(self, second: int) -> None:
        """The first request of a second: its place is taken from the one that had it 128 seconds ago."""
        self._settle()
        self._place = place = second % _SECONDS
        self._until_ns = (second + 1) * SECOND_NS
        self._second[place] = second
        self._requests[place] = self._failures[place] = self._p95_ms[place] = 0
        self._settled_buckets = self._total_buckets[:]

    def _settle(self) -> None:
        """Take the p95 of the second of the last request, while its requests are still in the ring: exactly of a few,
        within 7% of many."""
        if self._settled:
            return
        self._settled = True
        second = self._last_ns // SECOND_NS
        place = second % _SECONDS
        if self._requests[place] <= _SORTED_MAX:
            latencies = self._ordered(self._total_ns, self._first_since(second * SECOND_NS))
            self._p95_ms[place] = percentile_ms(latencies, 95) or 0
        else:
            replies = map(sub, self._total_buckets, self._settled_buckets)
            (p95_us,) = percentiles_us({bucket: count for bucket, count in enumerate(replies) if count}, (95,))
            self._p95_ms[place] = (p95_us or 0) // 1_000

    def _rpm(self, now_ns: int, first: int) -> int:
        """Requests of the last 60 s: counted one by one while the ring holds them all; else by the second, with the
        part of the oldest second that is still within the window."""
        if first > 0 or self._n <= RING:
            return self._kept - first
        second, elapsed_ns = divmod(now_ns, SECOND_NS)
        whole = sum(self._requests_in(s) for s in range(second - WINDOW_S + 1, second + 1))
        return whole + self._requests_in(second - WINDOW_S) * (SECOND_NS - elapsed_ns) // SECOND_NS

    @staticmethod
    def _series(ring: array[int], second: int) -> list[int]:
        """What stands in the places of the SERIES_S seconds before `second`: for some, what was there long ago."""
        return _stretch(ring, second - SERIES_S, SERIES_S)

    def _requests_in(self, second: int) -> int:
        place = second % _SECONDS
        return self._requests[place] if self._second[place] == second else 0

    @property
    def _kept(self) -> int:
        return min(self._n, RING)

    def _first_since(self, instant_ns: int) -> int:
        """How many of the kept requests, oldest first, ended before `instant_ns`."""
        oldest = self._n - self._kept
        return bisect_left(range(self._kept), instant_ns, key=lambda k: self._at[(oldest + k) % RING])

    def _ordered(self, values: array[int], first: int) -> list[int]:
        """The values of replies from the `first` kept request on, ascending."""
        ordered = sorted(_stretch(values, self._n - self._kept + first, self._kept - first))
        return ordered[bisect_left(ordered, 0) :]

    def _sampled(self, values: array[int], first: int) -> list[int]:
        """The same, but a quarter of a full ring has to do: sorting all of it is a pause that the requests of a busy
        endpoint notice."""
        if self._kept - first < RING:
            return self._ordered(values, first)
        ordered = sorted(_SCATTERED(values))
        return ordered[bisect_left(ordered, 0) :]


def _stretch(ring: array[int], first: int, count: int) -> list[int]:
    """`count` places of a ring in order, the n-th of what was ever put in being at n % its length."""
    if not count:
        return []
    begin, end = first % len(ring), (first + count) % len(ring)
    return (ring[begin:end] if begin < end else ring[begin:] + ring[:end]).tolist()


class Glances:
    """Views of meters for those who look several times a second: each is made once a second, for sorting a full ring
    takes a millisecond."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Meter, int, TrafficView]] = {}

    def view(self, slug: str, meter: Meter, now_ns: int) -> TrafficView:
        """The traffic of `slug`, as of this second or from within it."""
        second = now_ns // SECOND_NS
        seen = self._seen.get(slug)
        if seen is None or seen[0] is not meter or seen[1] != second:
            seen = self._seen[slug] = (meter, second, meter.view(now_ns))
        return seen[2]

    def forget(self, slugs: Collection[str]) -> None:
        """Keep only what is about `slugs`."""
        for gone in self._seen.keys() - set(slugs):
            del self._seen[gone]


def percentile_ms(ordered_ns: list[int], percent: int) -> int | None:
    """Nearest-rank percentile of an ascending list of nanoseconds, in whole milliseconds; None of an empty one."""
    if not ordered_ns:
        return None
    rank = -(-len(ordered_ns) * percent // 100)
    return ordered_ns[max(rank, 1) - 1] // 1_000_000
