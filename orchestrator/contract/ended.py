"""Workers of an endpoint that are over, and what each one cost.

Instants are wall-clock nanoseconds (UTC), amounts integers of micro-dollars.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from orchestrator.contract.base import Frozen, Received
from orchestrator.contract.limits import Slug


class AskEnded(Frozen):
    """The newest `limit` workers of an endpoint that are over, by the ledger."""

    kind: Literal["ended"] = "ended"
    slug: Slug
    limit: int = Field(default=8, ge=1, le=200)


class EndedWorker(Received):
    """A worker that ran once. `amount_u` is the sum of its lines on the bill."""

    worker_id: str
    label: str
    gpu_type: str
    started_ns: int
    ended_ns: int
    cause: str
    """clean, error, oom, signal or vanished."""
    detail: str
    amount_u: int
    absorbed_u: int
    """Not charged: what the platform pays for."""
    interval_ids: tuple[str, ...]
    """Its billing intervals."""
    requests: int | None = None
    """Requests that it served; None when no history is kept."""


class EndedWorkers(Received):
    """Latest end first. `total` counts all of them, also those beyond the limit."""

    kind: Literal["ended_workers"] = "ended_workers"
    slug: str
    total: int
    workers: tuple[EndedWorker, ...]
