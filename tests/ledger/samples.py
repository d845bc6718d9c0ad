"""Writes for the ledger's tests: real values, short to make."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.contract.base import DOLLAR_U, HOUR_NS, SECOND_NS
from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.contract.snapshot import Tier
from orchestrator.core.billing import due_u
from orchestrator.core.writes import (
    AccountOpened,
    CreditAdded,
    EndpointSaved,
    IntervalClosed,
    IntervalOpened,
    Posted,
    WorkerIntended,
    Write,
)
from orchestrator.ledger.store import SqliteLedger

T0 = 1_760_000_000 * SECOND_NS
"""2025-10-09 08:53:20 UTC."""
L40_UH = 2_670_000
L40_AUTO_UH = 15_264_000


class Wall:
    """A clock that only moves when told to."""

    def __init__(self, ns: int = T0) -> None:
        self.ns = ns

    def __call__(self) -> int:
        return self.ns


@contextmanager
def opened(path: Path, wall: Wall | None = None, busy_timeout_ms: int = 5_000) -> Iterator[SqliteLedger]:
    ledger = SqliteLedger(path, wall or Wall(), busy_timeout_ms=busy_timeout_ms)
    try:
        yield ledger
    finally:
        ledger.close()


def account(name: str = "local", amount_u: int = 1_000 * DOLLAR_U, at_ns: int = T0) -> tuple[Write, ...]:
    """An account with credit."""
    return (AccountOpened(name, at_ns), CreditAdded(name, amount_u, f"first-{name}", "top-up", at_ns))


def endpoint(slug: str = "demo", owner: str = "local", at_ns: int = T0, generation: int = 1) -> EndpointSaved:
    spec = EndpointSpec(slug=slug, model="echo", gpu_type="L40", baseline=1, maximum=2, account=owner, env={"A": "é"})
    return EndpointSaved(spec, generation, "enabled", None, at_ns)


def intent(worker_id: str, serial: int = 1, slug: str = "demo", owner: str = "local") -> WorkerIntended:
    return WorkerIntended(worker_id, serial, serial, slug, owner, 1, "echo", f"GPU-{serial}", "L40", False, T0)


def interval(
    interval_id: str,
    worker_id: str = "a",
    start_ns: int = T0,
    tier: Tier = Tier.BASELINE,
    slug: str = "demo",
    owner: str = "local",
    rate_uh: int | None = None,
) -> IntervalOpened:
    rate = rate_uh if rate_uh is not None else L40_UH if tier is Tier.BASELINE else L40_AUTO_UH
    return IntervalOpened(interval_id, worker_id, slug, owner, "L40", tier, rate, "2025-seed", start_ns, "boot")


def posting(
    of: IntervalOpened, upto_ns: int, posted_u: int = 0, absorbed: bool = False, at_ns: int | None = None
) -> Posted:
    """What is due of `of` up to `upto_ns`, less `posted_u`."""
    amount = due_u(of.rate_uh, upto_ns - of.start_ns) - posted_u
    at = upto_ns if at_ns is None else at_ns
    return Posted(of.interval_id, of.account, of.tier, amount, upto_ns, absorbed, at)


def closed(of: IntervalOpened, end_ns: int, posted_u: int = 0, absorbed: bool = False) -> tuple[Write, ...]:
    """The last posting of `of` and its end."""
    return (posting(of, end_ns, posted_u, absorbed), IntervalClosed(of.interval_id, end_ns, "exit", absorbed))


def worker_day(interval_id: str = "a.1", worker_id: str = "a", serial: int = 1, hours: int = 24) -> tuple[Write, ...]:
    """A worker that ran `hours` at the baseline rate."""
    of = interval(interval_id, worker_id)
    return (intent(worker_id, serial), of, *closed(of, T0 + hours * HOUR_NS))
