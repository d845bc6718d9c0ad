"""A simulated run as plain data, for whoever shows it. Pure."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

from orchestrator.contract.base import SECOND_NS
from orchestrator.simulator.play import Played

CHART_COLUMNS: Final = 72
PERCENTS: Final = (50, 95, 99, 100)


def report(played: Played) -> dict[str, Any]:
    """Money in micro-dollars, waits in seconds; `chart` is live workers, averaged over equal parts of the run."""
    waits_s = played.waits_s
    return {
        "requests": len(played.callers),
        "outcomes": dict(sorted(played.outcomes.items())),
        "cost_u": played.baseline_u + played.autoscaled_u,
        "baseline_u": played.baseline_u,
        "autoscaled_u": played.autoscaled_u,
        "absorbed_u": played.absorbed_u,
        "autoscaled_s": round(played.autoscaled_s, 3),
        "wait_s": {
            **{f"p{percent}" if percent < 100 else "max": round(played.wait_s(percent), 3) for percent in PERCENTS},
            "mean": round(sum(waits_s) / len(waits_s), 3) if waits_s else 0.0,
        },
        "cold_starts": played.cold_starts,
        "failed_starts": played.failed_starts,
        "most_workers": max(live for _, live in played.steps),
        "span_s": round(played.ended_ns / SECOND_NS, 3),
        "chart": chart(played, CHART_COLUMNS),
        "digest": played.digest,
    }


def chart(played: Played, columns: int) -> list[float]:
    """Live workers on average in each of `columns` equal parts of the run."""
    span_ns = max(columns, played.ended_ns)
    edges = [span_ns * i // columns for i in range(columns + 1)]
    sums = [0] * columns
    steps = [*played.steps, (span_ns, 0)]
    for (since_ns, live), (until_ns, _) in pairwise(steps):
        for i in range(columns):
            overlap_ns = min(until_ns, edges[i + 1]) - max(since_ns, edges[i])
            if overlap_ns > 0:
                sums[i] += live * overlap_ns
    return [round(total / max(1, edges[i + 1] - edges[i]), 2) for i, total in enumerate(sums)]
