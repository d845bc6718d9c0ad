"""The newest workers of an endpoint that are over, each with what it cost: the lines of the bill, by worker."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from typing import Final

from orchestrator.contract.ended import EndedWorker, EndedWorkers
from orchestrator.ledger.charges import Charge, charges_where

_OVER: Final = "endpoint = :slug AND account = :account AND ended_ns IS NOT NULL AND started_ns IS NOT NULL"
"""A worker that never started cost nothing and did nothing: the events tell of it."""
_NEWEST: Final = f"FROM worker WHERE {_OVER} ORDER BY ended_ns DESC, serial DESC LIMIT :limit"
_WORKERS: Final = f"""
SELECT id, 'w' || ordinal, gpu_type, started_ns, ended_ns, end_cause, end_detail {_NEWEST}
"""


def read_ended(connection: sqlite3.Connection, slug: str, account: str, limit: int, now_ns: int) -> EndedWorkers:
    """The newest `limit` of them, latest end first, and how many there are in all."""
    values: dict[str, int | str] = {"slug": slug, "account": account, "limit": limit}
    (total,) = connection.execute(f"SELECT COUNT(*) FROM worker WHERE {_OVER}", values).fetchone()  # noqa: S608 - conditions of our own
    charges: dict[str, list[Charge]] = defaultdict(list)
    for charge in charges_where(connection, f"i.worker_id IN (SELECT id {_NEWEST})", values, now_ns):
        charges[charge.worker_id].append(charge)
    found = [_ended(row, charges[row[0]]) for row in connection.execute(_WORKERS, values)]
    return EndedWorkers(slug=slug, total=total, workers=tuple(found))


def _ended(row: tuple[str, str, str, int, int, str, str], charges: list[Charge]) -> EndedWorker:
    worker_id, label, gpu_type, started_ns, ended_ns, cause, detail = row
    return EndedWorker(
        worker_id=worker_id,
        label=label,
        gpu_type=gpu_type,
        started_ns=started_ns,
        ended_ns=ended_ns,
        cause=cause,
        detail=detail,
        amount_u=sum(charge.amount_u for charge in charges if not charge.absorbed),
        absorbed_u=sum(charge.amount_u for charge in charges if charge.absorbed),
        interval_ids=tuple(dict.fromkeys(charge.interval_id for charge in charges)),
    )
