"""What is remembered of traffic: counts by the minute and histograms of latency. Pure integers.

A histogram has eight buckets an octave of microseconds: 240 of them reach from 1 µs to 71 minutes, and a percentile
read from one is within 7% of the true one. A minute of traffic is some dozens of bytes, however many requests it had.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from orchestrator.contract.base import SECOND_NS

MINUTE_NS: Final = 60 * SECOND_NS
BUCKETS: Final = 240

_CODES: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}

Histogram = dict[int, int]
"""How many values fell into each bucket; empty ones are absent."""


def bucket_of(span_ns: int) -> int:
    """The bucket of a span: one per microsecond up to 16, then eight an octave; longer ones stay in the last."""
    us = span_ns // 1_000
    if us < 16:
        return us if us > 0 else 0
    shift = us.bit_length() - 4
    bucket = (shift << 3) + (us >> shift)
    return bucket if bucket < BUCKETS else BUCKETS - 1


def bounds_us(bucket: int) -> tuple[int, int]:
    """[lower, upper) of a bucket in microseconds."""
    if bucket < 16:
        return bucket, bucket + 1
    shift = (bucket >> 3) - 1
    mantissa = bucket - (shift << 3)
    return mantissa << shift, (mantissa + 1) << shift


def to_histogram(ordered_ns: Sequence[int]) -> Histogram:
    """The histogram of an ascending sequence of spans: a search for each bucket that has one, not a step a value."""
    found: Histogram = {}
    at = 0
    while at < len(ordered_ns):
        bucket = bucket_of(ordered_ns[at])
        end = len(ordered_ns) if bucket == BUCKETS - 1 else bisect_left(ordered_ns, bounds_us(bucket)[1] * 1_000, at)
        found[bucket] = end - at
        at = end
    return found


def percentiles_us(histogram: Mapping[int, int], percents: tuple[int, ...]) -> tuple[int | None, ...]:
    """Nearest-rank percentiles (ascending), each interpolated within its bucket; None of an empty histogram."""
    total = sum(histogram.values())
    if total == 0:
        return (None,) * len(percents)
    found: list[int] = []
    below = 0
    for bucket in sorted(histogram):
        count = histogram[bucket]
        while len(found) < len(percents):
            rank = max(1, -(-total * percents[len(found)] // 100)) - below
            if rank > count:
                break
            lower, upper = bounds_us(bucket)
            found.append(lower + (upper - lower) * (2 * rank - 1) // (2 * count))
        below += count
    return tuple(found)


def merge(into: Histogram, other: Mapping[int, int]) -> None:
    for bucket, count in other.items():
        into[bucket] = into.get(bucket, 0) + count


def pack(histogram: Mapping[int, int]) -> bytes:
    """The width of a count in bytes, the buckets a byte each, then the counts, little-endian. Raises ValueError for
    a count above 64 bits."""
    buckets = sorted(histogram)
    counts = [histogram[bucket] for bucket in buckets]
    width = next((width for width in _CODES if max(counts, default=0) < 1 << 8 * width), None)
    if width is None:
        raise ValueError("a count does not fit into 64 bits")
    return bytes((width, *buckets)) + struct.pack(f"<{len(counts)}{_CODES[width]}", *counts)


def unpack(packed: bytes) -> Histogram:
    """The inverse of `pack`. Raises ValueError for bytes that `pack` did not make."""
    width = packed[0] if packed else 0
    size, rest = divmod(len(packed) - 1, width + 1)
    if width not in _CODES or rest:
        raise ValueError("a histogram is cut off")
    return dict(zip(packed[1 : size + 1], struct.unpack(f"<{size}{_CODES[width]}", packed[size + 1 :]), strict=True))


@dataclass(slots=True)
class Counts:
    """Traffic of one endpoint over some time. Histograms are of replies; failures have no latency."""

    requests: int = 0
    failures: int = 0
    total: Histogram = field(default_factory=dict)
    queue: Histogram = field(default_factory=dict)

    def add(self, other: Counts) -> None:
        self.requests += other.requests
        self.failures += other.failures
        merge(self.total, other.total)
        merge(self.queue, other.queue)


@dataclass(slots=True)
class Requests:
    """Requests one by one: when each came and how long its worker had it. Service 0: it never reached one."""

    arrived_ns: list[int] = field(default_factory=list)
    service_ns: list[int] = field(default_factory=list)
    missed: int = 0
    """Requests that came too fast to be kept."""


@dataclass(frozen=True, slots=True)
class Minute:
    """What is stored once a minute. `served` counts by billing interval."""

    start_ns: int
    endpoints: Mapping[str, Counts]
    served: Mapping[str, int]
    requests: Mapping[str, Requests] = field(default_factory=dict)


def to_counts(requests: int, failures: int, total: Iterable[int], queue: Iterable[int]) -> Counts:
    """Counts of dense arrays of BUCKETS values each."""
    return Counts(
        requests,
        failures,
        {bucket: count for bucket, count in enumerate(total) if count},
        {bucket: count for bucket, count in enumerate(queue) if count},
    )
