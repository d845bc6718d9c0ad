"""A day of traffic and cost, as the orchestrator would answer for it."""

from __future__ import annotations

import math
from typing import Any

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.history import History, HistoryPoint, SpentPoint
from orchestrator.contract.query import AskHistory, Query
from tests.app import fakes


def past_answer(query: Query) -> Any:
    """Busy by day and silent at night, a baseline all along; other questions as ever."""
    if not isinstance(query, AskHistory):
        return fakes.example_answer(query)
    step_ns = query.step_s * SECOND_NS
    starts = range(query.since_ns, query.until_ns, step_ns)
    points, spent = [], []
    for number, start_ns in enumerate(starts):
        share = max(math.sin(number * 2 * math.pi / len(starts) * 2), 0.0)
        if share:
            p95_us = 800_000 + int(share * 1_500_000)
            points.append(point(start_ns, int(share * 140), p95_us, failures=int(share > 0.99)))
        spent.append(SpentPoint(start_ns=start_ns, amount_u=2_670_000 * query.step_s // 3_600 * (1 + round(2 * share))))
    total = point(query.since_ns, sum(p.requests for p in points), 2_100_000, sum(p.failures for p in points))
    return History(
        slug=query.slug, since_ns=query.since_ns, until_ns=query.until_ns, step_s=query.step_s, points=tuple(points),
        total=total, spent=tuple(spent),
    )  # fmt: skip


def silence(query: Query) -> Any:
    """Nothing was called and nothing was paid."""
    full = past_answer(query)
    if not isinstance(full, History):
        return full
    return full.model_copy(update={"points": (), "spent": (), "total": point(full.since_ns, 0, None)})


def point(start_ns: int, requests: int, p95_us: int | None, failures: int = 0) -> HistoryPoint:
    return HistoryPoint(
        start_ns=start_ns, requests=requests, failures=failures, p50_us=p95_us, p95_us=p95_us, p99_us=p95_us,
        queue_p50_us=None, queue_p95_us=None,
    )  # fmt: skip
