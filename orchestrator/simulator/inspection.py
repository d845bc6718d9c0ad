"""What must hold at every instant, whatever happened (features.md R12; reliability.md I4; DESIGN.md, Invariants)."""

from __future__ import annotations

from orchestrator.contract.snapshot import Tier
from orchestrator.core.state import State
from orchestrator.simulator.memory_ledger import MemoryLedger


def inspect(state: State) -> None:
    """Raises AssertionError for a state that no step may lead to."""
    gpus_held = {w.gpu.uuid for w in state.workers.values()}
    assert len(gpus_held) == len(state.workers), "two workers on one GPU"
    holders = [w.interval_id for w in state.workers.values() if w.interval_id is not None]
    assert len(holders) == len(state.intervals), "an open interval without a worker, or two"
    assert set(holders) == state.intervals.keys(), "an open interval without a worker, or two"
    surge = [w.endpoint for w in state.workers.values() if w.surge]
    assert len(surge) == len(set(surge)), "more than one worker above a maximum"


def inspect_books(state: State, ledger: MemoryLedger) -> None:
    """The state against what has been written, when nothing waits to be. Raises AssertionError."""
    for name, account in state.accounts.items():
        assert account.balance_u == ledger.balances_u[name], "the balance is not the sum of the entries"
    open_ids = ledger.opened.keys() - ledger.closed.keys()
    assert open_ids == state.intervals.keys(), "intervals that are charged are not those that are on disk"


def inspect_tiers(state: State) -> None:
    """After a tick that knows who runs: exactly min(running, baseline) bill at the baseline rate."""
    if state.in_doubt:
        return
    for slug, endpoint in state.endpoints.items():
        tiers = [i.opened.tier for i in state.intervals.values() if i.opened.endpoint == slug]
        assert tiers.count(Tier.BASELINE) == min(len(tiers), endpoint.spec.baseline), "a worker bills at the wrong tier"
