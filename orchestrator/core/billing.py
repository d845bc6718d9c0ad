"""Money over time: one interval per worker, tier and rate; amounts by the cumulative rule.

`due = rate_uh * elapsed_ns // 1 h` is computed from the interval's start every time, and a posting is `due - posted`.
Ticks therefore never drift: any pattern of postings adds up to the one-shot amount (reliability.md 4.1).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.contract.base import HOUR_NS, SECOND_NS
from orchestrator.contract.snapshot import Tier
from orchestrator.core.writes import IntervalOpened

HEARTBEAT_PERIOD_NS = 5 * SECOND_NS
"""How often the ledger is told that workers were seen alive: the most a crash can leave unbilled or in doubt."""
POSTING_PERIOD_NS = 60 * SECOND_NS
"""Amounts are exact under any period; a minute keeps the journal small (about 250 bytes a posting)."""
POSTING_LAG_NS = 15 * SECOND_NS
"""Postings trail the present by more than a re-list period, so an exit found late never lies before a posting."""


def due_u(rate_uh: int, elapsed_ns: int) -> int:
    """Micro-dollars due after `elapsed_ns` at `rate_uh` micro-dollars per hour: one floor, in the customer's favour."""
    return rate_uh * elapsed_ns // HOUR_NS


@dataclass(frozen=True, slots=True)
class Interval:
    """An open interval and how much of it has been posted."""

    opened: IntervalOpened
    posted_u: int = 0
    posted_to_ns: int = 0
    """Instant up to which it has been posted; it cannot be closed before that."""
    seen_ns: int = 0
    """When its worker was last known to be alive."""
    idle_since_ns: int = 0
    """Since when its worker has been idle, as of the last look at the traffic: that look itself while it is busy."""

    def due_u(self, now_ns: int) -> int:
        """Micro-dollars due up to `now_ns`; zero before the start."""
        return due_u(self.opened.rate_uh, max(0, now_ns - self.opened.start_ns))

    def accrued_u(self, now_ns: int) -> int:
        """Due but not posted yet, never negative (a clock that went backwards posts nothing)."""
        return max(0, self.due_u(now_ns) - self.posted_u)


@dataclass(frozen=True, slots=True)
class Billable:
    """A worker that runs and is charged, as far as tiers are concerned."""

    worker_id: str
    tier: Tier | None
    started_ns: int
    serial: int


def assign_tiers(workers: Iterable[Billable], baseline: int) -> dict[str, Tier]:
    """The tier of each worker: exactly min(running, baseline) at BASELINE, the rest at AUTOSCALE (features.md A3).

    Workers that already have the baseline tier keep it first, then the longest running: a tier changes only when it
    must, since every change splits an interval.
    """
    order = sorted(workers, key=lambda w: (w.tier is not Tier.BASELINE, w.started_ns, w.serial))
    return {w.worker_id: Tier.BASELINE if i < baseline else Tier.AUTOSCALE for i, w in enumerate(order)}
