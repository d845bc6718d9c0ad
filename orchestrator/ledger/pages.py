"""The journal row by row, in pages that cost a bounded amount of reading: money is written between two of them."""

from __future__ import annotations

import sqlite3
from typing import Any, Final

from orchestrator.contract.accounting import JournalPage, JournalRow
from orchestrator.contract.query import AskJournal
from orchestrator.contract.snapshot import Tier

ROWS_READ: Final = 20_000
"""Rows of the journal looked at for one page, whether they match or not: some tens of milliseconds."""

_ROWS: Final = """
SELECT j.txn_id, j.at_ns, CASE WHEN j.absorbed = 1 THEN 'absorbed' ELSE j.kind END, j.account, j.amount_u, j.balance_u,
    j.memo, j.key, j.interval_id, i.endpoint, i.worker_id, 'w' || w.ordinal, i.gpu_type, i.tier, i.rate_uh,
    i.price_book,
    COALESCE((SELECT MAX(upto_ns) FROM journal WHERE interval_id = j.interval_id AND upto_ns < j.upto_ns), i.start_ns),
    j.upto_ns, j.hash
FROM journal j
LEFT JOIN interval i ON i.id = j.interval_id
LEFT JOIN worker w ON w.id = i.worker_id
WHERE j.txn_id BETWEEN ? AND ?
"""

_FILTERS: Final = {
    "account": "j.account = ?",
    "endpoint": "i.endpoint = ?",
    "worker": "? IN (i.worker_id, 'w' || w.ordinal)",
    "entry": "CASE WHEN j.absorbed = 1 THEN 'absorbed' ELSE j.kind END = ?",
    "since_ns": "j.at_ns >= ?",
    "until_ns": "j.at_ns < ?",
}


def read_page(connection: sqlite3.Connection, query: AskJournal) -> JournalPage:
    """Rows that match `query`, at most `limit`. Raises sqlite3.Error."""
    (last,) = connection.execute("SELECT COALESCE(MAX(txn_id), 0) FROM journal").fetchone()
    if query.newest:
        high = last if query.cursor is None else min(last, query.cursor - 1)
        low = max(1, high - ROWS_READ + 1)
    else:
        low = 1 if query.cursor is None else query.cursor + 1
        high = min(last, low + ROWS_READ - 1)
    wanted = {name: value for name in _FILTERS if (value := getattr(query, name)) is not None}
    where = "".join(f" AND {_FILTERS[name]}" for name in wanted)
    order = f" ORDER BY j.txn_id {'DESC' if query.newest else 'ASC'} LIMIT ?"
    found = connection.execute(_ROWS + where + order, (low, high, *wanted.values(), query.limit)).fetchall()
    full = len(found) == query.limit
    reached = int(found[-1][0]) if full else low if query.newest else high
    more = reached > 1 if query.newest else reached < last
    return JournalPage(rows=tuple(_row(row) for row in found), next=reached if more else None)


def _row(row: tuple[Any, ...]) -> JournalRow:
    txn_id, at_ns, entry, account, amount_u, balance_u, memo, key, interval_id, *interval, upto_ns, digest = row
    endpoint, worker_id, label, gpu_type, tier, rate_uh, price_book, from_ns = interval
    return JournalRow(
        txn_id=txn_id,
        at_ns=at_ns,
        entry=entry,
        account=account,
        amount_u=amount_u,
        change_u={"topup": amount_u, "posting": -amount_u, "absorbed": 0}[entry],
        balance_u=balance_u,
        memo=memo,
        key=key,
        interval_id=interval_id,
        endpoint=endpoint,
        worker_id=worker_id,
        label=label,
        gpu_type=gpu_type,
        tier=None if tier is None else Tier(tier),
        rate_uh=rate_uh,
        price_book=price_book,
        from_ns=from_ns,
        upto_ns=upto_ns,
        hash=digest.hex(),
    )
