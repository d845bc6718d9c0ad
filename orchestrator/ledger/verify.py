"""Recompute the ledger from its intervals and entries, and say in sentences what does not add up.

Nothing here trusts a running total: balances, interval totals and hashes are computed anew and compared.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable
from typing import Final

from orchestrator.contract.query import AccountTotals, Verification
from orchestrator.contract.snapshot import Tier
from orchestrator.core.billing import due_u
from orchestrator.core.pricing import PriceBook
from orchestrator.ledger.journal import CREDIT_PREFIX, Txn, chained, credit_code, genesis
from orchestrator.ledger.schema import STEPS, schema_sql

PROBLEMS_SHOWN: Final = 100

Books = Callable[[str], PriceBook | None]
"""The price book of that name as it is now, its user's file before the shipped one; None when there is none."""


class _Audit:
    """One pass over the journal, then one over the intervals."""

    def __init__(self, connection: sqlite3.Connection, now_ns: int) -> None:
        self.connection = connection
        self.now_ns = now_ns
        self.problems: list[str] = []
        self.problems_total = 0
        self.drift_u = 0
        self.intervals = 0
        self.entries = 0
        self.posted_u: dict[str, int] = defaultdict(int)
        self.billed_u: dict[str, int] = defaultdict(int)
        self.upto_ns: dict[str, int] = {}
        self.balances_u: dict[str, int] = defaultdict(int)
        """What the journal says each account's credit is; compared with the entries at the end."""
        self.topped_up_u: dict[str, int] = defaultdict(int)
        self.charged_u: dict[str, int] = defaultdict(int)
        self.absorbed_u: dict[str, int] = defaultdict(int)
        self.head = 0
        self.head_hash = b""
        self.rates = 0
        self.notes: list[str] = []

    def complain(self, problem: str) -> None:
        self.problems_total += 1
        if len(self.problems) < PROBLEMS_SHOWN:
            self.problems.append(problem)

    def result(self) -> Verification:
        hidden = self.problems_total - len(self.problems)
        more = (f"and {hidden} more problems",) if hidden else ()
        return Verification(
            ok=not self.problems,
            intervals=self.intervals,
            entries=self.entries,
            drift_u=self.drift_u,
            problems=(*self.problems, *more),
            notes=tuple(self.notes),
            rates=self.rates,
            totals=self._totals(),
            head=self.head,
            head_hash=self.head_hash.hex(),
        )

    def _totals(self) -> tuple[AccountTotals, ...]:
        names = [name for (name,) in self.connection.execute("SELECT name FROM account ORDER BY seq")]
        return tuple(
            AccountTotals(
                account=name,
                topped_up_u=self.topped_up_u[name],
                billed_u=self.charged_u[name],
                absorbed_u=self.absorbed_u[name],
                balance_u=self.balances_u[name],
            )
            for name in names
        )

    def check_schema(self) -> None:
        with_steps = sqlite3.connect(":memory:", isolation_level=None)
        with_steps.create_function("sealed_spec", 1, str)  # never called: there are no rows
        try:
            for _, script in STEPS:
                with_steps.executescript(script)
            expected = dict(schema_sql(with_steps))
        finally:
            with_steps.close()
        actual = dict(schema_sql(self.connection))
        for name in sorted(expected.keys() | actual.keys()):
            if expected.get(name) != actual.get(name):
                self.complain(f"schema object {name!r} is not as gpudeck made it: rules may have been switched off")

    def check_journal(self) -> None:
        (instance,) = self.connection.execute("SELECT value FROM meta WHERE key = 'instance'").fetchone()
        tiers = dict(self.connection.execute("SELECT id, tier FROM interval"))
        previous = genesis(instance)
        expected_id = 1
        rows = self.connection.execute(
            "SELECT j.txn_id, j.balance_u, j.hash, j.kind, j.account, j.amount_u, j.at_ns, j.interval_id, j.upto_ns,"
            " j.absorbed, j.posted_u, j.billed_u, j.key, j.memo,"
            " (SELECT json_group_array(json_array(account_code, amount_u)) FROM entry WHERE txn_id = j.txn_id)"
            " FROM journal j ORDER BY j.txn_id"
        )
        for txn_id, balance_u, digest, *fields, entries_json in rows:
            txn = Txn(*fields)
            entries = _entries(entries_json)
            self.entries += len(entries)
            if txn_id != expected_id:
                self.complain(f"journal {txn_id}: {expected_id} was expected, rows are missing")
            expected_id = txn_id + 1
            if chained(previous, txn_id, balance_u, txn, entries) != digest:
                self.complain(f"journal {txn_id}: its hash does not match, the row or one before it was changed")
            previous = digest
            self.head, self.head_hash = txn_id, digest
            self._check_entries(txn_id, txn, entries, tiers)
            self._check_totals(txn_id, balance_u, txn, entries)

    def _check_entries(self, txn_id: int, txn: Txn, entries: list[tuple[str, int]], tiers: dict[str, str]) -> None:
        total = sum(amount for _, amount in entries)
        if total != 0:
            self.complain(f"journal {txn_id}: its entries add up to {total}, not 0")
        tier = tiers.get(txn.interval_id) if txn.interval_id is not None else None
        if txn.kind == "posting" and tier is None:
            self.complain(f"journal {txn_id}: its interval {txn.interval_id!r} does not exist")
        elif sorted(entries) != sorted(txn.entries(tier)):
            self.complain(f"journal {txn_id}: its entries are not those of a {txn.kind} of {txn.amount_u}")

    def _check_totals(self, txn_id: int, balance_u: int, txn: Txn, entries: list[tuple[str, int]]) -> None:
        self.balances_u[txn.account] += sum(amount for code, amount in entries if code == credit_code(txn.account))
        if balance_u != self.balances_u[txn.account]:
            self.complain(
                f"journal {txn_id}: balance of {txn.account!r} is written as {balance_u}, top-ups less postings are "
                f"{self.balances_u[txn.account]}"
            )
        interval_id = txn.interval_id
        if interval_id is None:
            self.topped_up_u[txn.account] += txn.amount_u
            return
        (self.absorbed_u if txn.absorbed else self.charged_u)[txn.account] += txn.amount_u
        self.posted_u[interval_id] += txn.amount_u
        self.billed_u[interval_id] += 0 if txn.absorbed else txn.amount_u
        if (txn.posted_u, txn.billed_u) != (self.posted_u[interval_id], self.billed_u[interval_id]):
            self.complain(f"journal {txn_id}: the running totals of interval {interval_id!r} are wrong")
        upto_ns = txn.upto_ns or 0
        if upto_ns <= self.upto_ns.get(interval_id, -1):
            self.complain(f"journal {txn_id}: interval {interval_id!r} is posted up to {upto_ns} after a later instant")
        self.upto_ns[interval_id] = max(upto_ns, self.upto_ns.get(interval_id, upto_ns))

    def check_balances(self) -> None:
        total = 0
        credits_u: dict[str, int] = {}
        for code, amount in self.connection.execute("SELECT account_code, SUM(amount_u) FROM entry GROUP BY 1"):
            total += amount
            if code.startswith(CREDIT_PREFIX):
                credits_u[code.removeprefix(CREDIT_PREFIX)] = amount
        if total != 0:
            self.complain(f"all entries together add up to {total}, not 0")
        for account in sorted(credits_u.keys() | self.balances_u.keys()):
            expected = self.balances_u.get(account, 0)
            if credits_u.get(account, 0) != expected:
                self.complain(
                    f"account {account!r}: entries give a balance of {credits_u.get(account, 0)}, top-ups less "
                    f"postings {expected}"
                )
        orphans = self.connection.execute(
            "SELECT DISTINCT txn_id FROM entry WHERE txn_id NOT IN (SELECT txn_id FROM journal)"
        )
        for (txn_id,) in orphans:
            self.complain(f"entry of txn {txn_id}: the journal has no such row")

    def check_intervals(self) -> None:
        rows = self.connection.execute(
            "SELECT i.id, i.worker_id, i.rate_uh, i.start_ns, i.end_ns, w.id, w.ended_ns FROM interval i"
            " LEFT JOIN worker w ON w.id = i.worker_id ORDER BY i.worker_id, i.start_ns, i.end_ns IS NULL, i.end_ns"
        )
        before: tuple[str, str, int | None] | None = None
        for interval_id, worker_id, rate_uh, start_ns, end_ns, intent, ended_ns in rows:
            self.intervals += 1
            if intent is None:
                self.complain(f"interval {interval_id!r}: its worker {worker_id!r} has no intent")
            elif end_ns is None and ended_ns is not None:
                self.complain(f"interval {interval_id!r} is open although its worker {worker_id!r} ended at {ended_ns}")
            if before is not None and before[1] == worker_id:
                self._check_neighbours(before, interval_id, start_ns, end_ns)
            before = (interval_id, worker_id, end_ns)
            self._check_amount(interval_id, rate_uh, start_ns, end_ns)

    def _check_neighbours(
        self, before: tuple[str, str, int | None], interval_id: str, start_ns: int, end_ns: int | None
    ) -> None:
        earlier, worker_id, earlier_end_ns = before
        if earlier_end_ns is None and end_ns is None:
            self.complain(f"worker {worker_id!r} has two open intervals, {earlier!r} and {interval_id!r}")
        if earlier_end_ns is None or earlier_end_ns > start_ns:
            self.complain(f"intervals {earlier!r} and {interval_id!r} of worker {worker_id!r} overlap")

    def _check_amount(self, interval_id: str, rate_uh: int, start_ns: int, end_ns: int | None) -> None:
        posted = self.posted_u.get(interval_id, 0)
        upto_ns = self.upto_ns.get(interval_id, start_ns)
        if end_ns is None:
            # A wall clock set back between two runs must not make an honest posting look like one from the future.
            due = due_u(rate_uh, max(self.now_ns, upto_ns, start_ns) - start_ns)
            if posted > due:
                self.drift_u += posted - due
                self.complain(f"open interval {interval_id!r}: {posted} posted, only {due} due")
            return
        due = due_u(rate_uh, end_ns - start_ns)
        if posted != due:
            self.drift_u += abs(posted - due)
            self.complain(f"interval {interval_id!r}: {posted} posted, {due} due from {start_ns} to {end_ns}")

    def check_rates(self, books: Books) -> None:
        """Compare the rate of every interval with the price book it names. A book is a version: under one name its
        prices never change, so a rate that differs is a problem; a book that is gone cannot be compared."""
        rows = self.connection.execute(
            "SELECT price_book, gpu_type, tier, rate_uh, COUNT(*), MIN(id) FROM interval"
            " GROUP BY price_book, gpu_type, tier, rate_uh ORDER BY price_book, gpu_type, tier, rate_uh"
        ).fetchall()
        found = {name: books(name) for name in sorted({row[0] for row in rows})}
        for name, gpu_type, tier, rate_uh, count, example in rows:
            book = found[name]
            price = None if book is None else book.price(gpu_type)
            if price is None:
                what = "is not installed" if book is None else f"has no price for {gpu_type!r} any more"
                self.notes.append(f"price book {name!r} {what}: {count} intervals of {gpu_type} were not compared")
                continue
            self.rates += count
            expected = price.rate_uh(Tier(tier))
            if rate_uh != expected:
                self.complain(
                    f"{count} intervals such as {example!r} are charged at {rate_uh} an hour, price book {name!r} says"
                    f" {expected} for {gpu_type} at the {tier} tier; changed prices need a book of another name"
                )


def _entries(entries_json: str) -> list[tuple[str, int]]:
    return [(str(code), int(amount)) for code, amount in json.loads(entries_json)]


def make_verification(connection: sqlite3.Connection, now_ns: int, books: Books | None = None) -> Verification:
    """Audit everything; `now_ns` bounds what may have been posted of open intervals. Without `books` rates are not
    compared. Raises sqlite3.Error."""
    audit = _Audit(connection, now_ns)
    audit.check_schema()
    audit.check_journal()
    audit.check_balances()
    audit.check_intervals()
    if books is not None:
        audit.check_rates(books)
    for (damage,) in connection.execute(f"PRAGMA integrity_check({PROBLEMS_SHOWN})"):
        if damage != "ok":
            audit.complain(f"the file is damaged: {damage}")
    for row in connection.execute("PRAGMA foreign_key_check"):
        audit.complain(f"{row[0]} row {row[1]} refers to a {row[2]} that does not exist")
    return audit.result()
