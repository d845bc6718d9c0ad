"""Which of an endpoint's workers are needed most: who stays in the ring, and who is scaled down first."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.contract.snapshot import Tier
from orchestrator.core.state import Draft
from orchestrator.core.worker import Worker


def autoscaled(draft: Draft, worker: Worker) -> bool:
    """Whether the worker bills at the autoscale tier, or at none yet: only such a one may be scaled down."""
    return worker.interval_id is None or draft.intervals[worker.interval_id].opened.tier is Tier.AUTOSCALE


def by_need(draft: Draft, workers: Iterable[Worker]) -> list[Worker]:
    """The most needed first: the baseline tier, then the newest generation, then the longest running.

    The order depends on nothing that traffic changes, so a worker that is wanted again is the one that was let go last.
    """
    return sorted(workers, key=lambda w: (autoscaled(draft, w), -w.generation, w.serial))
