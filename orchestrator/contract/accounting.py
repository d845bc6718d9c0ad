"""Answers about money in detail: statements, the journal row by row, other price books, backups.

Every amount is an integer of micro-dollars, every instant wall-clock nanoseconds (UTC), every span nanoseconds.
"""

from __future__ import annotations

from typing import Literal

from orchestrator.contract.base import Received
from orchestrator.contract.query import BillLine
from orchestrator.contract.snapshot import Tier


class StatementLine(BillLine):
    """A line of the bill with its worker, its container, and what its beginning and its end rest on."""

    span_ns: int
    """Exact length of what this line charges."""
    price_book: str
    boot_id: str
    model: str
    gpu_uuid: str
    generation: int
    engine_ref: str | None
    """Container id (Docker) or process (process engine); None when it never started."""
    intent_ns: int
    """When the decision to start the worker was on disk."""
    started_ns: int | None
    """When the engine says that it started."""
    ready_ns: int | None
    worker_ended_ns: int | None
    worker_end_source: str | None
    """exit: the engine's own evidence; last_seen: the last heartbeat; void: it never started."""
    end_cause: str | None
    end_detail: str | None
    requests: int | None = None
    """Requests that the worker served in this interval within the period; None when no history is kept."""


class TopUpLine(Received):
    """Credit that was added."""

    txn_id: int
    at_ns: int
    amount_u: int
    memo: str
    key: str


class ChargeSum(Received):
    """Charges of one endpoint at one tier and rate within the period."""

    endpoint: str
    gpu_type: str
    tier: Tier
    rate_uh: int
    intervals: int
    span_ns: int
    amount_u: int
    absorbed_ns: int
    absorbed_u: int
    """Not charged: what the platform pays for."""


class Statement(Received):
    """An account over a period: opening_u + topped_up_u - charged_u = closing_u, exactly.

    `reconciles` compares the balance that the journal carries with top-ups and intervals added up anew:
    `ledger_balance_u - unposted_u == closing_u + later_u`.
    """

    kind: Literal["statement"] = "statement"
    account: str
    month: str | None
    instance: str
    since_ns: int
    until_ns: int
    """End of the period, or now when the period is not over."""
    taken_at_ns: int
    opening_u: int
    topped_up_u: int
    charged_u: int
    absorbed_u: int
    closing_u: int
    later_u: int
    """What happened after the period, up to now."""
    ledger_balance_u: int
    unposted_u: int
    """Accrued by running workers and not posted yet."""
    reconciles: bool
    head: int
    head_hash: str
    topups: tuple[TopUpLine, ...]
    """The first 5,000 of the period, with the first page only; `topped_up_u` is the sum of all."""
    charges: tuple[ChargeSum, ...]
    lines: tuple[StatementLine, ...]
    lines_total: int
    next: int | None
    """`after` of the next page; None when this is the last."""
    simulated: bool = False
    """The statement of a lab: nobody owes it."""


class ComparisonRow(Received):
    """Intervals of one endpoint, GPU type and tier under both books."""

    endpoint: str
    gpu_type: str
    tier: Tier
    intervals: int
    span_ns: int
    amount_u: int
    """What was charged."""
    other_rate_uh: int | None
    """None: the other book has no price for this GPU type."""
    other_u: int | None
    difference_u: int | None
    """other_u - amount_u: negative when the other book is cheaper."""


class Comparison(Received):
    """The same intervals under another book, one floor per interval. Time that was not charged is left out."""

    kind: Literal["comparison"] = "comparison"
    account: str
    month: str | None
    books: tuple[str, ...]
    """The books that the intervals were charged by."""
    other_book: str
    rows: tuple[ComparisonRow, ...]
    amount_u: int
    """Of the rows that both books price."""
    other_u: int
    difference_u: int
    unpriced_u: int
    """Charged for GPU types that the other book does not know."""


class JournalRow(Received):
    """One transaction. `change_u` is what it did to the account's balance, `balance_u` the balance after it."""

    txn_id: int
    at_ns: int
    entry: Literal["topup", "posting", "absorbed"]
    account: str
    amount_u: int
    change_u: int
    balance_u: int
    memo: str | None = None
    key: str | None = None
    interval_id: str | None = None
    endpoint: str | None = None
    worker_id: str | None = None
    label: str | None = None
    gpu_type: str | None = None
    tier: Tier | None = None
    rate_uh: int | None = None
    price_book: str | None = None
    from_ns: int | None = None
    upto_ns: int | None = None
    """A posting charges (from, upto]."""
    hash: str
    """SHA-256 over this row, its entries and the hash of the row before, in hexadecimal."""


class JournalPage(Received):
    """`next` is the cursor of the next page, None at the end. A page may be empty and yet not be the last one."""

    kind: Literal["journal_page"] = "journal_page"
    rows: tuple[JournalRow, ...]
    next: int | None


class BackupMade(Received):
    """A checked copy of the ledger."""

    kind: Literal["backup_made"] = "backup_made"
    path: str
    size_bytes: int
    head: int
    """Number of the last row of the journal in it."""
