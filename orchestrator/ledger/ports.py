"""The ledger as the controller sees it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol

from orchestrator.contract.query import Bill, Verification
from orchestrator.core.writes import Saved, Write


class LedgerError(Exception):
    """The ledger could not write or read: disk full, I/O error, locked by a stranger, corrupt."""


class CreditChanged(LedgerError):
    """A `CreditRequired` did not hold: nothing of the transaction was written."""

    def __init__(self, account: str, needed_u: int, balance_u: int) -> None:
        super().__init__(f"account {account}: needs {needed_u} micro-dollars, has {balance_u}")
        self.account = account
        self.needed_u = needed_u
        self.balance_u = balance_u


class Ledger(Protocol):
    """One thread owns the one connection; every call returns a future and runs in the order it was made."""

    def load(self) -> Future[Saved]: ...

    def write(self, writes: Sequence[Write]) -> Future[None]:
        """One BEGIN IMMEDIATE transaction. The future raises LedgerError when it was rolled back."""
        ...

    def bill(self, account: str, month: str | None, now_ns: int) -> Future[Bill]:
        """KeyError in the future for an unknown account."""
        ...

    def verify(self) -> Future[Verification]: ...

    def close(self) -> None:
        """Finish what was queued, close the file. Idempotent."""
        ...
