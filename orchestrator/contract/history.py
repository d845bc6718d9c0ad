"""Traffic and cost of the past. Counts and costs are exact, latencies come from histograms with eight buckets an octave
(within 7%)."""

from __future__ import annotations

from typing import Literal

from orchestrator.contract.base import Received


class HistoryPoint(Received):
    """One step that had traffic. Latencies are of replies, in microseconds; None when there were none."""

    start_ns: int
    requests: int
    failures: int
    p50_us: int | None
    p95_us: int | None
    p99_us: int | None
    queue_p50_us: int | None
    queue_p95_us: int | None


class SpentPoint(Received):
    """What one step cost, in micro-dollars."""

    start_ns: int
    amount_u: int


class History(Received):
    """Steps without traffic, or without cost, are left out. `total` covers the whole window."""

    kind: Literal["history"] = "history"
    slug: str
    since_ns: int
    until_ns: int
    """The window, widened to whole steps."""
    step_s: int
    """The step of the points: what was asked for, or more where only coarser figures are kept."""
    points: tuple[HistoryPoint, ...]
    total: HistoryPoint
    spent: tuple[SpentPoint, ...] = ()
    """Of the endpoint's present owner; what has not been posted yet is in it."""
