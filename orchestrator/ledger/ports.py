"""The ledger as the controller sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol

from orchestrator.contract.accounting import Comparison, JournalPage, Statement
from orchestrator.contract.ended import EndedWorkers
from orchestrator.contract.history import SpentPoint
from orchestrator.contract.query import AskJournal, Bill, Verification
from orchestrator.core.pricing import PriceBook
from orchestrator.core.writes import Saved, Write


class LedgerError(Exception):
    """The ledger could not write or read: disk full, I/O error, locked by a stranger, corrupt."""


class LedgerDamaged(LedgerError):
    """The file itself is corrupt: nothing that is written to it can be relied upon."""


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

    def statement(
        self, account: str, month: str | None, now_ns: int, after: int = 0, limit: int = 2_000
    ) -> Future[Statement]:
        """KeyError in the future for an unknown account."""
        ...

    def comparison(self, account: str, month: str | None, now_ns: int, other: PriceBook) -> Future[Comparison]:
        """KeyError in the future for an unknown account."""
        ...

    def spending(
        self, slug: str, account: str, since_ns: int, until_ns: int, step_s: int, now_ns: int
    ) -> Future[tuple[SpentPoint, ...]]: ...

    def ended(self, slug: str, account: str, limit: int, now_ns: int) -> Future[EndedWorkers]: ...

    def journal(self, query: AskJournal) -> Future[JournalPage]: ...

    def verify(self, books: Callable[[str], PriceBook | None] | None = None) -> Future[Verification]: ...

    def back_up(self) -> Future[Path]:
        """A checked copy. LedgerError in the future, also when the copy shows that the ledger is damaged."""
        ...

    def close(self) -> None:
        """Finish what was queued, close the file. Idempotent."""
        ...
