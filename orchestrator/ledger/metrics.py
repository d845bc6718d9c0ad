"""History of traffic in a file of its own beside the ledger, `metrics.db`.

Not in the ledger's file, because it is not money: it may be lost without harm, so a damaged one is put aside and begun
anew instead of stopping the start; it is neither chained, verified nor backed up; and a query for a panel, in a thread
of its own, never makes a posting wait.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from orchestrator.contract.history import History
from orchestrator.core.decisions import Decided
from orchestrator.core.history import Minute, Requests
from orchestrator.core.scaling import Memory, dump, load
from orchestrator.ledger.backups import put_aside
from orchestrator.ledger.decisions import SCHEMA as DECISIONS
from orchestrator.ledger.decisions import add_decisions, read_decisions
from orchestrator.ledger.files import open_read_only
from orchestrator.ledger.opening import FAILURES, plain
from orchestrator.ledger.ports import LedgerError
from orchestrator.ledger.requests import SCHEMA as REQUESTS
from orchestrator.ledger.requests import add_requests, read_requests
from orchestrator.ledger.series import SCHEMA as SERIES
from orchestrator.ledger.series import add_minutes, prune, read_history, read_served
from orchestrator.ledger.transactions import transaction

log = logging.getLogger(__name__)

T = TypeVar("T")
APPLICATION_ID: Final = 0x67706D74
"""`gpmt`"""
MEMORIES: Final = """
CREATE TABLE memory (
    endpoint INTEGER PRIMARY KEY REFERENCES endpoint (id),
    saved TEXT NOT NULL
) STRICT;
"""
STEPS: Final = (SERIES, DECISIONS + REQUESTS + MEMORIES)
"""How the tables came to be. A published step never changes; the file's version is the number of steps it has."""


class MetricsStore:
    """One thread owns the one connection. A file that cannot be used is put aside, never a reason not to start."""

    def __init__(self, path: Path, now: Callable[[], int]) -> None:
        self.path = path
        self._now = now
        self._connection: sqlite3.Connection | None = None
        self._closed = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="gpudeck-metrics")

    def add(self, minutes: Iterable[Minute]) -> Future[None]:
        """Add to what is stored, all of it or nothing. LedgerError in the future when it could not be written: the
        caller keeps them and tries again."""
        batch = tuple(minutes)
        return self._submit(lambda connection: self._add(connection, batch))

    def history(self, slug: str, since_ns: int, until_ns: int, step_s: int) -> Future[History]:
        """The traffic of one endpoint; one that never had any has no points. ValueError for an empty window."""
        if until_ns <= since_ns:
            raise ValueError("until_ns: must be later than since_ns")
        return self._submit(lambda c: read_history(c, slug, since_ns, until_ns, step_s, self._now()))

    def served(self, interval_ids: Iterable[str], month: str | None = None) -> Future[dict[str, int]]:
        """Requests served in each of these billing intervals, of all time or of a month written YYYY-MM; an interval
        without any is absent."""
        wanted = tuple(interval_ids)
        return self._submit(lambda connection: read_served(connection, wanted, month))

    def add_decisions(self, entries: Iterable[Decided]) -> Future[None]:
        """Append to the decision journal, all of it or nothing. LedgerError in the future as `add` has it."""
        batch = tuple(entries)

        def work(connection: sqlite3.Connection) -> None:
            with transaction(connection, "IMMEDIATE"):
                add_decisions(connection, batch)

        return self._submit(work)

    def decisions(self, slug: str, until_ns: int | None = None, last: int = 20) -> Future[tuple[Decided, ...]]:
        """The newest `last` entries up to `until_ns`, oldest first."""
        return self._submit(lambda connection: read_decisions(connection, slug, until_ns, last))

    def requests(self, slug: str, since_ns: int = 0, newest: int = 200_000) -> Future[Requests]:
        """The endpoint's requests one by one, in order of arrival."""
        return self._submit(lambda connection: read_requests(connection, slug, since_ns, newest))

    def save_memories(self, memories: Mapping[str, Memory]) -> Future[None]:
        """What policies have learned, by endpoint: replaces what was saved, endpoints that are absent included."""
        saved = dict(memories)

        def work(connection: sqlite3.Connection) -> None:
            with transaction(connection, "IMMEDIATE"):
                _save_memories(connection, saved)

        return self._submit(work)

    def memories(self) -> Future[dict[str, Memory]]:
        """What was saved last."""
        return self._submit(_read_memories)

    def close(self) -> None:
        """Finish what was queued and close the file. Idempotent."""
        if not self._closed:
            self._closed = True
            self._thread.submit(self._disconnect)
            self._thread.shutdown(wait=True)

    def _submit(self, job: Callable[[sqlite3.Connection], T]) -> Future[T]:
        if self._closed:
            refused: Future[T] = Future()
            refused.set_exception(LedgerError(f"metrics {self.path}: it is closed"))
            return refused
        return self._thread.submit(self._guarded, job)

    def _guarded(self, job: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = _open(self.path, self._now())
            return job(self._connection)
        except sqlite3.DatabaseError as failure:
            self._disconnect()
            if not isinstance(failure, sqlite3.OperationalError):  # locked or full: the file may be whole
                _put_aside(self.path, self._now(), str(failure))
            raise LedgerError(plain(f"metrics {self.path}: {failure}")) from failure
        except FAILURES as failure:
            raise LedgerError(plain(f"metrics {self.path}: {failure}")) from failure

    def _add(self, connection: sqlite3.Connection, minutes: tuple[Minute, ...]) -> None:
        with transaction(connection, "IMMEDIATE"):
            add_minutes(connection, minutes)
            for minute in minutes:
                add_requests(connection, minute.requests.items())
            prune(connection, self._now())

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def open_to_read(path: Path) -> sqlite3.Connection:
    """A second connection that cannot change the file, for a process beside the orchestrator or without one.

    Raises LedgerError when there is no file, or one of an earlier version (the orchestrator brings it up to date).
    """
    try:
        connection = open_read_only(path)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as failure:
        raise LedgerError(plain(f"metrics {path}: {failure}")) from failure
    if version != len(STEPS):
        connection.close()
        raise LedgerError(plain(f"metrics {path}: it is of version {version}, not {len(STEPS)}: start gpudeck once"))
    return connection


def _save_memories(connection: sqlite3.Connection, memories: Mapping[str, Memory]) -> None:
    connection.execute("DELETE FROM memory")
    for slug, memory in memories.items():
        connection.execute("INSERT OR IGNORE INTO endpoint (slug) VALUES (?)", (slug,))
        connection.execute(
            "INSERT INTO memory (endpoint, saved) SELECT id, ? FROM endpoint WHERE slug = ?",
            (json.dumps(dump(memory), separators=(",", ":")), slug),
        )


def _read_memories(connection: sqlite3.Connection) -> dict[str, Memory]:
    rows = connection.execute("SELECT slug, saved FROM memory JOIN endpoint ON endpoint.id = memory.endpoint")
    return {slug: load(json.loads(saved)) for slug, saved in rows}


def _open(path: Path, now_ns: int) -> sqlite3.Connection:
    """The file, made when there is none; one that is damaged or of another version is put aside first."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for attempt in (1, 2):
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
        try:
            # A lost minute of traffic is no harm: one fsync a minute is enough, and none for the rollback journal.
            connection.execute("PRAGMA synchronous = NORMAL")
            problem = _prepare(connection)
        except sqlite3.OperationalError:
            connection.close()
            raise
        except sqlite3.DatabaseError as failure:
            problem = str(failure)
        if problem is None:
            return connection
        connection.close()
        if attempt == 1:
            _put_aside(path, now_ns, problem)
    raise LedgerError(f"a new file cannot be used either: {problem}")


def _prepare(connection: sqlite3.Connection) -> str | None:
    """Make the tables in an empty file; what is wrong with the file, or None."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (objects,) = connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
    new = (application, version, objects) == (0, 0, 0)
    if not new and (application != APPLICATION_ID or not 0 < version <= len(STEPS)):
        return f"it is no history of version {len(STEPS)} or before"
    damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if damage != "ok":
        return str(damage)
    if version < len(STEPS):
        connection.executescript(
            f"BEGIN IMMEDIATE; {''.join(STEPS[version:])} PRAGMA application_id = {APPLICATION_ID};"
            f" PRAGMA user_version = {len(STEPS)}; COMMIT;"
        )
    return None


def _put_aside(path: Path, now_ns: int, problem: str) -> None:
    aside = put_aside(path, now_ns)
    log.error("the history of traffic cannot be used (%s): put aside as %s, a new one begins", plain(problem), aside)
