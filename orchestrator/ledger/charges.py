"""Every stretch of an account's intervals that is billed or absorbed as a whole, and the exact part of it in a period.

A closed interval's amount is what was posted of it; an open one's is what is due now. Cut at the ends of a month, an
amount is `due(end of cut) - due(start of cut)` by the cumulative rule, so the months of an interval add up to it
exactly, to the micro-dollar.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.query import BillLine
from orchestrator.contract.snapshot import Tier
from orchestrator.core.billing import due_u

_INTERVALS: Final = """
SELECT i.id, i.endpoint, i.worker_id, 'w' || w.ordinal, i.gpu_type, i.tier, i.rate_uh, i.start_ns, i.end_ns,
    i.end_source, i.absorbed, COALESCE(j.posted_u, 0), COALESCE(j.billed_u, 0), COALESCE(j.upto_ns, i.start_ns)
FROM interval i
JOIN worker w ON w.id = i.worker_id
LEFT JOIN journal j ON j.interval_id = i.id
    AND j.upto_ns = (SELECT MAX(upto_ns) FROM journal WHERE interval_id = i.id)
WHERE {which}
ORDER BY i.start_ns, i.id
"""


class UnknownAccount(KeyError):
    """No account of that name was ever opened."""


class Charge(NamedTuple):
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
    billed_u: int
    """What has been posted to the customer of the whole stretch; not cut."""

    def cut(self, start_ns: int, end_ns: int) -> Charge | None:
        """The part of it within [start, end); None when they do not touch."""
        if self.start_ns >= end_ns or (self.end_ns <= start_ns and self.start_ns < start_ns):
            return None
        if start_ns <= self.start_ns and self.end_ns <= end_ns:
            return self
        first, last = max(self.start_ns, start_ns), min(self.end_ns, end_ns)
        at_end = last == self.end_ns
        return self._replace(
            start_ns=first,
            end_ns=last,
            open=self.open and at_end,
            end_source=self.end_source if at_end else None,
            amount_u=self.until_u(last) - self.until_u(first),
        )

    def until_u(self, at_ns: int) -> int:
        """Amount up to `at_ns`: nothing at the start, the whole amount at the end, so that parts always add up."""
        if at_ns >= self.end_ns:
            return self.amount_u
        before_u = due_u(self.rate_uh, self.start_ns - self.origin_ns)
        return max(0, min(self.amount_u, due_u(self.rate_uh, at_ns - self.origin_ns) - before_u))

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


def require_account(connection: sqlite3.Connection, account: str) -> int:
    """When the account was opened. Raises UnknownAccount."""
    row = connection.execute("SELECT opened_ns FROM account WHERE name = ?", (account,)).fetchone()
    if row is None:
        raise UnknownAccount(account)
    return int(row[0])


def charges_of(connection: sqlite3.Connection, account: str, now_ns: int) -> Iterator[Charge]:
    """All charges of the account as of `now_ns`, by start."""
    return charges_where(connection, "i.account = :account", {"account": account}, now_ns)


def charges_where(
    connection: sqlite3.Connection, which: str, values: Mapping[str, int | str], now_ns: int
) -> Iterator[Charge]:
    """All charges, uncut, of the intervals `i` that the condition selects, by start."""
    rows: list[Any] = connection.execute(_INTERVALS.format(which=which), values).fetchall()
    for row in rows:
        (*names, rate_uh, start_ns, end_ns, end_source, absorbed, posted_u, billed_u, upto_ns) = row
        is_open = end_ns is None
        if is_open:
            end_ns = max(now_ns, upto_ns)
            amount_u = max(posted_u, due_u(rate_uh, end_ns - start_ns))
        else:
            amount_u = posted_u
        free = bool(absorbed) if posted_u == 0 else billed_u == 0
        terms = (*names, rate_uh, start_ns, start_ns, end_ns, is_open, end_source, free, amount_u, billed_u)
        whole = Charge._make(terms)
        if 0 < billed_u < posted_u:
            yield from _split(connection, whole)
        else:
            yield whole


def _split(connection: sqlite3.Connection, whole: Charge) -> Iterator[Charge]:
    """An interval billed up to some instant and absorbed from there on (reliability.md B4): one line for each."""
    (split_ns,) = connection.execute(
        "SELECT MAX(upto_ns) FROM journal WHERE interval_id = ? AND absorbed = 0", (whole.interval_id,)
    ).fetchone()
    billed_u = whole.billed_u
    yield whole._replace(end_ns=split_ns, open=False, end_source=None, absorbed=False, amount_u=billed_u)
    yield whole._replace(start_ns=split_ns, absorbed=True, amount_u=whole.amount_u - billed_u, billed_u=0)
