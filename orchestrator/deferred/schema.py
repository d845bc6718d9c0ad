"""The file `deferred.db`: its tables, and how it is opened.

WAL with synchronous FULL: a commit is on the disk when it returns, which is what a 202 promises. One connection in
exclusive mode is all there ever is, so the race between two connections that resets a WAL wrongly before SQLite 3.51.3
(reliability.md 4.7) cannot happen here.

Bodies and results are in clear, for this user only (0600), and overwritten when they are purged (secure_delete). The
file is in no backup, on purpose: a queue that is restored would run calls again that have been answered since. It
survives a crash and a power cut; with the disk it is lost.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from pathlib import Path
from typing import Final

from orchestrator.ledger.backups import put_aside
from orchestrator.ledger.opening import QUICK_CHECK_BYTES, plain

log = logging.getLogger(__name__)

APPLICATION_ID: Final = 0x67706464
"""`gpdd`"""
VERSION: Final = 1
BODY: Final = 0
RESULT: Final = 1
"""Kinds of part."""

SCHEMA: Final = """
CREATE TABLE request (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    slug TEXT NOT NULL,
    account TEXT NOT NULL,
    key_id TEXT NOT NULL,
    base TEXT NOT NULL,                     -- scheme and authority it was sent to, for the URLs of its webhook
    target BLOB NOT NULL,                   -- what the worker is asked for
    head BLOB NOT NULL,                     -- field lines for the worker; never a key
    state TEXT NOT NULL CHECK (state IN ('QUEUED', 'PROCESSING', 'COMPLETED', 'FAILED', 'CANCELLED')),
    accepted_ns INTEGER NOT NULL,
    started_ns INTEGER,
    ended_ns INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    attempts_max INTEGER NOT NULL,
    idempotency_key TEXT,
    fingerprint BLOB NOT NULL,              -- SHA-256 of endpoint, target and body
    body_bytes INTEGER NOT NULL,
    result_bytes INTEGER NOT NULL DEFAULT 0,
    worker_status INTEGER,
    worker_id TEXT,
    result_head BLOB,                       -- field lines of the reply
    code TEXT,
    reason TEXT,
    hook_url TEXT,
    hook_state TEXT NOT NULL DEFAULT 'none' CHECK (hook_state IN ('none', 'waiting', 'owed', 'delivered', 'given_up')),
    hook_attempts INTEGER NOT NULL DEFAULT 0,
    hook_due_ns INTEGER,
    hook_problem TEXT,
    CHECK ((ended_ns IS NULL) = (state IN ('QUEUED', 'PROCESSING')))
) STRICT;
CREATE UNIQUE INDEX request_idempotent ON request (account, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX request_turn ON request (slug, state, seq);
CREATE INDEX request_ended ON request (ended_ns) WHERE ended_ns IS NOT NULL;
CREATE INDEX request_owed ON request (hook_due_ns) WHERE hook_state = 'owed';
CREATE TABLE part (
    request_id TEXT NOT NULL,
    kind INTEGER NOT NULL,
    n INTEGER NOT NULL,
    bytes BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX part_of ON part (request_id, kind, n);
CREATE TABLE signer (
    account TEXT PRIMARY KEY,
    generation INTEGER NOT NULL,
    rotated_ns INTEGER NOT NULL,
    command_id TEXT NOT NULL
) STRICT;
"""
"""Rows of `part` come before the row of their request: a body is on the disk before it is accepted."""


def open_file(path: Path, now_ns: int) -> sqlite3.Connection:
    """The file, made when there is none. One that is damaged or not ours is put aside, with an error in the log: live
    requests must not wait for somebody to mend it. Raises OSError, sqlite3.Error."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        return _open(path)
    except sqlite3.OperationalError:  # locked, or the disk: the file may be whole
        raise
    except sqlite3.DatabaseError as failure:
        _put_aside(path, now_ns, str(failure))
    return _open(path)


def _open(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before the first table, else it has no effect
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        _prepare(connection, whole=path.stat().st_size <= QUICK_CHECK_BYTES)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, *, whole: bool) -> None:
    """Make the tables, or see that they are there; `whole` reads everything, which takes a second for 120 MB."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (objects,) = connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
    if (application, version, objects) == (0, 0, 0):
        connection.executescript(
            f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"
            " COMMIT;"
        )
        return
    if (application, version) != (APPLICATION_ID, VERSION):
        raise sqlite3.DatabaseError(f"it is no queue of version {VERSION}")
    damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0] if whole else "ok"
    if damage != "ok":
        raise sqlite3.DatabaseError(str(damage))


def _put_aside(path: Path, now_ns: int, problem: str) -> None:
    aside = put_aside(path, now_ns)
    log.error(
        "the queue of asynchronous calls cannot be used (%s): put aside as %s. What waited in it is lost, and so is"
        " which secret signs webhooks: make a new one for each account that has any (gpudeck requests secret)",
        plain(problem),
        aside,
    )
