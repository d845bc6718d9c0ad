"""One endpoint's record, and how its visible state follows from it and its workers.

What the owner wants is stored (`Wanted`); what is shown is derived, so the two cannot disagree:

    wanted      workers                              shown
    enabled     ready >= baseline                    serving
    enabled     fewer, no start failing              starting
    enabled     fewer, next attempt scheduled        backoff
    failed      any                                  failed
    disabled    some left / none                     draining / disabled
    suspended   some left / none                     draining / suspended
    removed     some left / none                     draining / (gone)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.contract.snapshot import DecisionView, EndpointState, LaneSample, ProblemView, WorkerState
from orchestrator.core.catalogue import Model
from orchestrator.core.lane import Closed
from orchestrator.core.scaling import Memory
from orchestrator.core.worker import Worker

Wanted = Literal["enabled", "disabled", "suspended", "failed"]

CRASHES_MAX = 5
BACKOFF_MAX_S = 60
SETTLED_NS = 30 * SECOND_NS
"""A worker that stays ready this long ends a crash loop."""


@dataclass(frozen=True, slots=True)
class Spend:
    """Micro-dollars posted for one endpoint. `today_u` begins at zero with each UTC day."""

    total_u: int = 0
    today_u: int = 0
    absorbed_u: int = 0


@dataclass(frozen=True, slots=True)
class News:
    """What happened to workers since the policy was last asked."""

    cold_starts: tuple[int, ...] = ()
    """Nanoseconds from intent to ready."""
    failed_starts: int = 0


@dataclass(frozen=True, slots=True)
class Endpoint:
    spec: EndpointSpec
    model: Model
    generation: int
    wanted: Wanted
    removed: bool = False
    since_ns: int = 0
    memory: Memory = field(default_factory=Memory)
    decision: DecisionView | None = None
    crashes: int = 0
    retry_ns: int | None = None
    problem: ProblemView | None = None
    spend: Spend = field(default_factory=Spend)
    lanes: tuple[LaneSample, ...] = ()
    """Its workers by state, second by second, oldest first."""
    lanes_ns: int = 0
    """When the newest of these was taken."""
    starved: bool = False
    """It wants a worker and no GPU is free: said once, not at every tick."""
    news: News = News()
    refused: str | None = None
    """The obstacle in force, as it was journalled."""
    wake_ns: int | None = None
    """When a tick is due for it at the latest: its policy asked for it, or an idle worker's time is up."""

    @property
    def slug(self) -> str:
        return self.spec.slug

    @property
    def concurrency(self) -> int:
        return self.spec.concurrency or self.model.concurrency

    @property
    def enabled(self) -> bool:
        return self.wanted == "enabled" and not self.removed


def backoff_s(crashes: int) -> int:
    """Seconds before the next attempt after `crashes` failures in a row: 1, 2, 4 … 60."""
    return min(BACKOFF_MAX_S, 1 << max(0, crashes - 1))


def shown_state(endpoint: Endpoint, workers: Sequence[Worker], now_ns: int) -> EndpointState:
    """The state of the table above."""
    if endpoint.wanted == "failed" and not endpoint.removed:
        return EndpointState.FAILED
    if not endpoint.enabled:
        if workers or endpoint.removed:
            return EndpointState.DRAINING
        return EndpointState.SUSPENDED if endpoint.wanted == "suspended" else EndpointState.DISABLED
    ready = sum(1 for w in workers if w.state is WorkerState.READY)
    if ready >= max(endpoint.spec.baseline, 1 if endpoint.crashes else 0):
        return EndpointState.SERVING
    if endpoint.retry_ns is not None and endpoint.retry_ns > now_ns:
        return EndpointState.BACKOFF
    return EndpointState.STARTING


def closed_reason(endpoint: Endpoint) -> Closed | None:
    """What callers are told while the endpoint admits nothing; None while it does."""
    slug = endpoint.slug
    if endpoint.removed:
        return Closed(404, "endpoint_deleted", f"endpoint {slug} has been deleted")
    if endpoint.wanted == "suspended":
        return Closed(402, "credit_exhausted", f"endpoint {slug} was stopped: the balance fell below $10.00")
    if endpoint.wanted == "disabled":
        return Closed(503, "endpoint_disabled", f"endpoint {slug} is disabled")
    if endpoint.wanted == "failed":
        code = endpoint.problem.code if endpoint.problem else "unknown"
        return Closed(503, "endpoint_failed", f"endpoint {slug} cannot start its workers ({code})", retry_after_s=60)
    return None
