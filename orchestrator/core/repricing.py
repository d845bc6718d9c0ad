"""What the same stretches of time would have cost under another price book. Pure.

Each interval keeps its own single floor (reliability.md 4.1): a stretch costs `due(end) - due(start)` counted from the
interval's start, so the parts of an interval add up whichever book prices it.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.contract.snapshot import Tier
from orchestrator.core.billing import due_u
from orchestrator.core.pricing import PriceBook


@dataclass(frozen=True, slots=True)
class Stretch:
    """A billed part [start, end) of an interval that began at `origin_ns`.

    `started_ns` and `ready_ns` are those of the worker when this is its first interval, else None: only a first
    interval has a cold start that a book may leave out.
    """

    gpu_type: str
    tier: Tier
    origin_ns: int
    start_ns: int
    end_ns: int
    started_ns: int | None = None
    ready_ns: int | None = None


def reprice(stretch: Stretch, book: PriceBook) -> int | None:
    """Micro-dollars under `book`; None when it has no price for the GPU type.

    A book that bills cold starts moves the beginning of a first interval back to the start of the worker (in the period
    in which the interval begins), one that does not moves it to readiness; a worker that never was ready then costs
    nothing.
    """
    price = book.price(stretch.gpu_type)
    if price is None:
        return None
    rate_uh = price.rate_uh(stretch.tier)
    origin_ns, start_ns = stretch.origin_ns, stretch.start_ns
    if stretch.started_ns is not None:
        if book.cold_start_billed:
            origin_ns = min(origin_ns, stretch.started_ns)
            start_ns = origin_ns if start_ns == stretch.origin_ns else start_ns
        elif stretch.ready_ns is None:
            return 0
        else:
            origin_ns = max(origin_ns, stretch.ready_ns)
    start_ns = max(start_ns, origin_ns)
    end_ns = max(stretch.end_ns, start_ns)
    return due_u(rate_uh, end_ns - origin_ns) - due_u(rate_uh, start_ns - origin_ns)
