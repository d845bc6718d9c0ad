"""A ledger file against the true lives of its workers: what was charged beyond them, what was not."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.core.billing import HEARTBEAT_PERIOD_NS, due_u
from tests.bench.witness import Life

TOLERANCE_NS = HEARTBEAT_PERIOD_NS
INTERVALS = """
SELECT i.id, i.start_ns, i.end_ns, i.rate_uh, i.absorbed,
    COALESCE((SELECT SUM(amount_u) FROM journal WHERE interval_id = i.id), 0)
FROM interval i WHERE i.worker_id = ? ORDER BY i.start_ns, i.end_ns
"""


@dataclass
class Books:
    drift_u: int = 0
    billed_u: int = 0
    absorbed_u: int = 0
    over_ns: int = 0
    """The most that one worker was charged beyond its life, at either end."""
    under_ns: int = 0
    problems: list[str] = field(default_factory=list)


def compare(ledger: Path, lives: Mapping[str, Life]) -> Books:
    """Every worker of the ledger, and every life: postings exact, no gap, no overlap, ends within one heartbeat."""
    books = Books()
    with closing(sqlite3.connect(f"{ledger.as_uri()}?mode=ro", uri=True)) as connection:
        ends = connection.execute("SELECT id, ended_ns, end_source FROM worker").fetchall()
        for worker_id, ended_ns, _ in ends:
            if ended_ns is None:
                books.problems.append(f"{worker_id}: still open in the ledger")
            rows = connection.execute(INTERVALS, (worker_id,)).fetchall()
            _check_amounts(books, worker_id, rows)
            life = lives.get(worker_id)
            if life is not None:
                _check_life(books, life, rows)
            elif any(end_ns != start_ns for _, start_ns, end_ns, *_ in rows):
                books.problems.append(f"{worker_id}: charged, but the witness never saw it run")
        for worker_id in lives.keys() - {row[0] for row in ends}:
            books.problems.append(f"{worker_id}: ran without a record")
    return books


def _check_amounts(books: Books, worker_id: str, rows: list[tuple[str, int, int, int, int, int]]) -> None:
    before_ns: int | None = None
    for interval_id, start_ns, end_ns, rate_uh, absorbed, posted_u in rows:
        if end_ns is None:
            books.problems.append(f"interval {interval_id}: still open")
            continue
        books.drift_u += abs(posted_u - due_u(rate_uh, end_ns - start_ns))
        if absorbed:
            books.absorbed_u += posted_u
        else:
            books.billed_u += posted_u
        if before_ns is not None and before_ns != start_ns:
            books.problems.append(f"{worker_id}: gap or overlap of {start_ns - before_ns} ns before {interval_id}")
        before_ns = end_ns


def _check_life(books: Books, life: Life, rows: list[tuple[str, int, int, int, int, int]]) -> None:
    if life.ended_ns is None:
        books.problems.append(f"{life.worker_id}: still runs")
        return
    if not rows:
        if life.ended_ns - life.started_ns > TOLERANCE_NS:
            books.problems.append(f"{life.worker_id}: ran {(life.ended_ns - life.started_ns) / 1e9:.1f} s, not charged")
        return
    early_ns, late_ns = life.started_ns - rows[0][1], (rows[-1][2] or 0) - life.ended_ns
    books.over_ns = max(books.over_ns, early_ns, late_ns)
    books.under_ns = max(books.under_ns, -early_ns, -late_ns)
    for end, off_ns in (("start", early_ns), ("end", late_ns)):
        if abs(off_ns) > TOLERANCE_NS:
            books.problems.append(f"{life.worker_id}: its {end} is off by {off_ns / 1e9:.2f} s")
