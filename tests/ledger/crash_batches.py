"""The stream of batches that crash_writer writes and test_crash recognises."""

from __future__ import annotations

from orchestrator.contract.base import SECOND_NS
from orchestrator.core.writes import CreditAdded, Write
from tests.ledger.samples import T0, account, closed, endpoint, intent, interval


def opening() -> tuple[Write, ...]:
    return (*account(), endpoint())


def batch(number: int) -> tuple[Write, ...]:
    """A top-up and a worker's whole life: half of it would show as a worker without its money."""
    worker = f"w{number}"
    of = interval(f"{worker}.1", worker, T0 + number * SECOND_NS)
    return (
        CreditAdded("local", 1_000 + number, f"key-{number}", "x" * 2_000, T0),
        intent(worker, number + 1),
        of,
        *closed(of, T0 + (number + 1) * SECOND_NS),
    )
