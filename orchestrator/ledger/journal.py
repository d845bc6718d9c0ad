"""Double entry: the only code that writes money. Every transaction's entries add up to zero, checked as it is written.

Each journal row carries running totals (`balance_u` of its account; `posted_u` and `billed_u` of its interval), so a
balance is one index look-up however long the ledger gets, and a hash over itself and its predecessor, so `verify` sees
any later change. The totals are conveniences: `verify` recomputes them from the entries.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from dataclasses import dataclass
from typing import Final

from orchestrator.ledger.ports import LedgerError

TOPUP: Final = "equity:topup"
ABSORBED: Final = "platform:absorbed"
CREDIT_PREFIX: Final = "customer:credit:"


def credit_code(account: str) -> str:
    """Account code of a customer's credit."""
    return CREDIT_PREFIX + account


def revenue_code(tier: str) -> str:
    return f"revenue:{tier}"


@dataclass(frozen=True, slots=True)
class Txn:
    """One row of the journal without its id, running totals of the account and hash."""

    kind: str
    account: str
    amount_u: int
    at_ns: int
    interval_id: str | None = None
    upto_ns: int | None = None
    absorbed: int | None = None
    posted_u: int | None = None
    billed_u: int | None = None
    key: str | None = None
    memo: str | None = None

    def entries(self, tier: str | None = None) -> tuple[tuple[str, int], tuple[str, int]]:
        """(account code, micro-dollars) of both sides; their sum is zero. A posting needs the tier of its interval."""
        if self.kind == "topup":
            return (credit_code(self.account), self.amount_u), (TOPUP, -self.amount_u)
        assert tier is not None, "a posting belongs to a tier"
        payer = ABSORBED if self.absorbed else credit_code(self.account)
        return (payer, -self.amount_u), (revenue_code(tier), self.amount_u)


def genesis(instance: str) -> bytes:
    """What the hash of the first journal row is chained to."""
    return hashlib.sha256(instance.encode()).digest()


def chained(previous: bytes, txn_id: int, balance_u: int, txn: Txn, entries: list[tuple[str, int]]) -> bytes:
    """SHA-256 of a journal row with its entries (sorted by code), chained to the hash of the row before."""
    body = [
        txn_id, txn.kind, txn.account, txn.amount_u, balance_u, txn.interval_id, txn.upto_ns, txn.absorbed,
        txn.posted_u, txn.billed_u, txn.key, txn.memo, txn.at_ns, sorted(entries),
    ]  # fmt: skip
    return hashlib.sha256(previous + json.dumps(body, separators=(",", ":")).encode()).digest()


def balance_of(connection: sqlite3.Connection, account: str) -> int:
    """Posted balance in micro-dollars: top-ups less billed postings."""
    row = connection.execute(
        "SELECT balance_u FROM journal WHERE account = ? ORDER BY txn_id DESC LIMIT 1", (account,)
    ).fetchone()
    return 0 if row is None else int(row[0])


def head_of(connection: sqlite3.Connection) -> tuple[int, bytes]:
    """Number and hash of the last row of the journal; 0 and the genesis hash of an empty one."""
    last = connection.execute("SELECT txn_id, hash FROM journal ORDER BY txn_id DESC LIMIT 1").fetchone()
    if last is None:
        (instance,) = connection.execute("SELECT value FROM meta WHERE key = 'instance'").fetchone()
        return 0, genesis(instance)
    return int(last[0]), bytes(last[1])


def append(connection: sqlite3.Connection, txn: Txn, tier: str | None = None) -> None:
    """Write `txn` and its entries. Inside the caller's transaction; raises LedgerError or sqlite3.Error."""
    entries = txn.entries(tier)
    if sum(amount for _, amount in entries) != 0:
        raise LedgerError(f"entries of a {txn.kind} of {txn.account} do not add up to zero: {entries}")
    balance_u = balance_of(connection, txn.account)
    balance_u += sum(amount for code, amount in entries if code == credit_code(txn.account))
    last_id, last_hash = head_of(connection)
    txn_id = last_id + 1
    connection.execute(
        "INSERT INTO journal (txn_id, kind, account, amount_u, balance_u, interval_id, upto_ns, absorbed, posted_u,"
        " billed_u, key, memo, at_ns, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            txn_id, txn.kind, txn.account, txn.amount_u, balance_u, txn.interval_id, txn.upto_ns, txn.absorbed,
            txn.posted_u, txn.billed_u, txn.key, txn.memo, txn.at_ns,
            chained(last_hash, txn_id, balance_u, txn, list(entries)),
        ),
    )  # fmt: skip
    connection.executemany(
        "INSERT INTO entry (txn_id, account_code, amount_u) VALUES (?, ?, ?)",
        [(txn_id, code, amount) for code, amount in entries],
    )
