"""Tables of traffic by level, and the questions asked of them.

Each minute is added to four levels as it comes (minute, ten minutes, hour, day), so no roll-up ever has to read the
past. A query takes the level of its step, or a coarser one when the window would need more than ROWS_MAX rows of it or
reaches further back than it is kept: whatever the number of requests, its cost is bounded.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.history import History, HistoryPoint
from orchestrator.core.history import Counts, Minute, pack, percentiles_us, unpack
from orchestrator.ledger.periods import month_bounds_ns, month_start_ns

HOUR_S: Final = 3_600
DAY_S: Final = 24 * HOUR_S
LEVELS_S: Final = (60, 600, HOUR_S, DAY_S)
KEPT_S: Final = {60: 48 * HOUR_S, 600: 14 * DAY_S, HOUR_S: 92 * DAY_S}
"""How long each level is kept; days stay for good, some hundred bytes each."""
ROWS_MAX: Final = 750
"""Twelve hours of minutes, five days of ten minutes, a month of hours: some 25 ms of reading."""
_BATCH: Final = 500

SCHEMA: Final = """
CREATE TABLE endpoint (id INTEGER PRIMARY KEY, slug TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE traffic (
    endpoint INTEGER NOT NULL REFERENCES endpoint (id),
    level_s INTEGER NOT NULL,
    start_s INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    total BLOB NOT NULL,
    queue BLOB NOT NULL,
    PRIMARY KEY (endpoint, level_s, start_s)
) STRICT, WITHOUT ROWID;
CREATE TABLE served (
    interval_id TEXT NOT NULL,
    month_s INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    PRIMARY KEY (interval_id, month_s)
) STRICT, WITHOUT ROWID;
"""

_UPSERT: Final = (
    "INSERT OR REPLACE INTO traffic (endpoint, level_s, start_s, requests, failures, total, queue)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_SELECT: Final = (
    "SELECT requests, failures, total, queue FROM traffic WHERE endpoint = ? AND level_s = ? AND start_s = ?"
)


def add_minutes(connection: sqlite3.Connection, minutes: Sequence[Minute]) -> None:
    """Add to every level. Inside the caller's transaction."""
    for minute in minutes:
        start_s = minute.start_ns // SECOND_NS
        month_s = month_start_ns(minute.start_ns) // SECOND_NS
        for slug, counts in minute.endpoints.items():
            connection.execute("INSERT OR IGNORE INTO endpoint (slug) VALUES (?)", (slug,))
            (endpoint,) = connection.execute("SELECT id FROM endpoint WHERE slug = ?", (slug,)).fetchone()
            for level_s in LEVELS_S:
                key = (endpoint, level_s, start_s // level_s * level_s)
                whole = Counts()
                before = connection.execute(_SELECT, key).fetchone()
                if before is not None:
                    whole.add(Counts(before[0], before[1], unpack(before[2]), unpack(before[3])))
                whole.add(counts)
                row = (*key, whole.requests, whole.failures, pack(whole.total), pack(whole.queue))
                connection.execute(_UPSERT, row)
        connection.executemany(
            "INSERT INTO served (interval_id, month_s, requests) VALUES (?, ?, ?)"
            " ON CONFLICT (interval_id, month_s) DO UPDATE SET requests = requests + excluded.requests",
            [(interval_id, month_s, requests) for interval_id, requests in minute.served.items()],
        )


def prune(connection: sqlite3.Connection, now_ns: int) -> None:
    """Forget what is older than its level is kept. Called with each minute, so it finds a row or two an endpoint."""
    endpoints = connection.execute("SELECT id FROM endpoint").fetchall()
    for level_s, kept_s in KEPT_S.items():
        before_s = now_ns // SECOND_NS - kept_s
        connection.executemany(
            "DELETE FROM traffic WHERE endpoint = ? AND level_s = ? AND start_s < ?",
            [(endpoint, level_s, before_s) for (endpoint,) in endpoints],
        )


def resolution(since_s: int, until_s: int, step_s: int, now_s: int) -> tuple[int, int]:
    """(level, step) that answer a question for `step_s`: a step is a whole number of levels."""
    step_s = -(-step_s // LEVELS_S[0]) * LEVELS_S[0]
    level_s = max(level for level in LEVELS_S if step_s % level == 0)
    for coarser in LEVELS_S[LEVELS_S.index(level_s) :]:
        level_s = coarser
        fine = (until_s - since_s) // level_s <= ROWS_MAX and since_s >= now_s - KEPT_S.get(level_s, now_s)
        if fine:
            break
    return level_s, -(-step_s // level_s) * level_s


def read_history(
    connection: sqlite3.Connection, slug: str, since_ns: int, until_ns: int, step_s: int, now_ns: int
) -> History:
    """Points of at least `step_s`, on multiples of their step since 1970; the window is widened to whole steps."""
    since_s, until_s = since_ns // SECOND_NS, -(-until_ns // SECOND_NS)
    level_s, step_s = resolution(since_s, until_s, step_s, now_ns // SECOND_NS)
    since_s, until_s = since_s // step_s * step_s, -(-until_s // step_s) * step_s
    rows = connection.execute(
        "SELECT start_s, requests, failures, total, queue FROM traffic"
        " WHERE endpoint = (SELECT id FROM endpoint WHERE slug = ?) AND level_s = ? AND start_s >= ? AND start_s < ?"
        " ORDER BY start_s",
        (slug, level_s, since_s, until_s),
    )
    steps: dict[int, Counts] = {}
    for start_s, requests, failures, total, queue in rows:
        counts = Counts(requests, failures, unpack(total), unpack(queue))
        known = steps.setdefault(start_s // step_s * step_s, counts)
        if known is not counts:
            known.add(counts)
    points = tuple(_point(start_s, counts) for start_s, counts in steps.items())
    whole = Counts()
    for counts in steps.values():
        whole.add(counts)
    return History(
        slug=slug,
        since_ns=since_s * SECOND_NS,
        until_ns=until_s * SECOND_NS,
        step_s=step_s,
        points=points,
        total=_point(since_s, whole),
    )


def read_served(connection: sqlite3.Connection, interval_ids: Sequence[str], month: str | None) -> dict[str, int]:
    """Requests by billing interval, of all time or of a month written YYYY-MM."""
    since_ns, until_ns = (0, 1 << 62) if month is None else month_bounds_ns(month)
    found: dict[str, int] = {}
    for batch in _batches(interval_ids):
        marks = ", ".join("?" * len(batch))
        query = (
            "SELECT interval_id, SUM(requests) FROM served WHERE month_s >= ? AND month_s < ?"  # noqa: S608 - only marks
            f" AND interval_id IN ({marks}) GROUP BY interval_id"
        )
        found.update(connection.execute(query, (since_ns // SECOND_NS, until_ns // SECOND_NS, *batch)).fetchall())
    return found


def _batches(names: Sequence[str]) -> Iterable[Sequence[str]]:
    return (names[first : first + _BATCH] for first in range(0, len(names), _BATCH))


def _point(start_s: int, counts: Counts) -> HistoryPoint:
    p50_us, p95_us, p99_us = percentiles_us(counts.total, (50, 95, 99))
    queue_p50_us, queue_p95_us = percentiles_us(counts.queue, (50, 95))
    return HistoryPoint(
        start_ns=start_s * SECOND_NS,
        requests=counts.requests,
        failures=counts.failures,
        p50_us=p50_us,
        p95_us=p95_us,
        p99_us=p99_us,
        queue_p50_us=queue_p50_us,
        queue_p95_us=queue_p95_us,
    )
