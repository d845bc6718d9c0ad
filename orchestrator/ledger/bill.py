"""The bill of an account: one line per interval, recomputable by hand from its rate and times.

A closed interval's amount is what was posted of it; an open one's is what is due now. Cut at the ends of a month, an
amount is `due(end of cut) - due(start of cut)` by the cumulative rule, so the months of an interval add up to it
exactly, to the micro-dollar.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.query import Bill, BillLine
from orchestrator.contract.snapshot import Tier
from orchestrator.core.billing import due_u
from orchestrator.ledger.periods import month_bounds_ns

_INTERVALS: Final = """
SELECT i.id, i.endpoint, i.worker_id, 'w' || w.ordinal, i.gpu_type, i.tier, i.rate_uh, i.start_ns, i.end_ns,
    i.end_source, i.absorbed, COALESCE(j.posted_u, 0), COALESCE(j.billed_u, 0), COALESCE(j.upto_ns, i.start_ns)
FROM interval i
JOIN worker w ON w.id = i.worker_id
LEFT JOIN journal j ON j.interval_id = i.id
    AND j.upto_ns = (SELECT MAX(upto_ns) FROM journal WHERE interval_id = i.id)
WHERE i.account = ?
ORDER BY i.start_ns, i.id
"""


class UnknownAccount(KeyError):
    """No account of that name was ever opened."""


@dataclass(frozen=True, slots=True)
class _Charge:
    """A stretch of an interval that is billed or absorbed as a whole. `origin_ns` is where its due is counted from."""

    interval_id: str
    endpoint: str
    worker_id: str
    label: str
    gpu_type: str
    tier: str
    rate_uh: int
    origin_ns: int
    start_ns: int
    end_ns: int
    open: bool
    end_source: str | None
    absorbed: bool
    amount_u: int

    def cut(self, start_ns: int, end_ns: int) -> _Charge | None:
        """The part of it within [start, end); None when they do not touch."""
        if self.start_ns >= end_ns or (self.end_ns <= start_ns and self.start_ns < start_ns):
            return None
        first, last = max(self.start_ns, start_ns), min(self.end_ns, end_ns)
        at_end = last == self.end_ns
        return replace(
            self,
            start_ns=first,
            end_ns=last,
            open=self.open and at_end,
            end_source=self.end_source if at_end else None,
            amount_u=self._until_u(last) - self._until_u(first),
        )

    def _until_u(self, at_ns: int) -> int:
        """Amount up to `at_ns`: nothing at the start, the whole amount at the end, so that parts always add up."""
        if at_ns >= self.end_ns:
            return self.amount_u
        before_u = due_u(self.rate_uh, self.start_ns - self.origin_ns)
        return min(self.amount_u, due_u(self.rate_uh, at_ns - self.origin_ns) - before_u)

    def line(self) -> BillLine:
        return BillLine(
            interval_id=self.interval_id,
            endpoint=self.endpoint,
            worker_id=self.worker_id,
            label=self.label,
            gpu_type=self.gpu_type,
            tier=Tier(self.tier),
            rate_uh=self.rate_uh,
            start_ns=self.start_ns,
            end_ns=None if self.open else self.end_ns,
            seconds=(self.end_ns - self.start_ns) / SECOND_NS,
            amount_u=self.amount_u,
            absorbed=self.absorbed,
            end_source=self.end_source,
        )


def make_bill(connection: sqlite3.Connection, account: str, month: str | None, now_ns: int) -> Bill:
    """The bill as of `now_ns`; `month` is YYYY-MM in UTC, None means everything. `balance_u` is live and of all time.
    Raises KeyError for an unknown account, ValueError for a month that is none."""
    if connection.execute("SELECT 1 FROM account WHERE name = ?", (account,)).fetchone() is None:
        raise UnknownAccount(account)
    period = month_bounds_ns(month) if month is not None else None
    charges = list(_charges(connection, account, now_ns))
    billed_u = sum(charge.amount_u for charge in charges if not charge.absorbed)
    topups = connection.execute(
        "SELECT at_ns, amount_u FROM journal WHERE account = ? AND kind = 'topup'", (account,)
    ).fetchall()
    balance_u = sum(amount for _, amount in topups) - billed_u
    if period is not None:
        charges = [part for charge in charges if (part := charge.cut(*period)) is not None]
        topups = [(at_ns, amount) for at_ns, amount in topups if period[0] <= at_ns < period[1]]
    return Bill(
        account=account,
        month=month,
        lines=tuple(charge.line() for charge in charges),
        total_u=sum(charge.amount_u for charge in charges if not charge.absorbed),
        absorbed_u=sum(charge.amount_u for charge in charges if charge.absorbed),
        topped_up_u=sum(amount for _, amount in topups),
        balance_u=balance_u,
    )


def _charges(connection: sqlite3.Connection, account: str, now_ns: int) -> Iterator[_Charge]:
    rows: list[Any] = connection.execute(_INTERVALS, (account,)).fetchall()
    for row in rows:
        (*names, rate_uh, start_ns, end_ns, end_source, absorbed, posted_u, billed_u, upto_ns) = row
        is_open = end_ns is None
        if is_open:
            end_ns = max(now_ns, upto_ns)
            amount_u = max(posted_u, due_u(rate_uh, end_ns - start_ns))
        else:
            amount_u = posted_u
        known = (*names, rate_uh, start_ns, start_ns, end_ns, is_open, end_source, bool(absorbed), amount_u)
        whole = _Charge(*known)
        if 0 < billed_u < posted_u:
            yield from _split(connection, whole, billed_u)
        else:
            yield replace(whole, absorbed=bool(absorbed) if posted_u == 0 else billed_u == 0)


def _split(connection: sqlite3.Connection, whole: _Charge, billed_u: int) -> Iterator[_Charge]:
    """An interval billed up to some instant and absorbed from there on (reliability.md B4): one line for each."""
    (split_ns,) = connection.execute(
        "SELECT MAX(upto_ns) FROM journal WHERE interval_id = ? AND absorbed = 0", (whole.interval_id,)
    ).fetchone()
    yield replace(whole, end_ns=split_ns, open=False, end_source=None, absorbed=False, amount_u=billed_u)
    yield replace(whole, start_ns=split_ns, absorbed=True, amount_u=whole.amount_u - billed_u)
