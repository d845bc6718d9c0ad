"""Tables of the ledger: plain SQL, STRICT, append-only where money is concerned (reliability.md 4.2).

Units are in the names: `_u` micro-dollars, `_uh` micro-dollars per hour, `_ns` wall-clock nanoseconds. sqlite-utils
keeps the record of which steps a file has had; `upgrade` runs the missing ones in ONE transaction, so an interrupted
upgrade leaves the old schema or the new one, never a mixture.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from orchestrator.ledger.ports import LedgerError

if TYPE_CHECKING:
    from sqlite_utils import Database, Migrations


class NewerSchema(LedgerError):
    """The file was written by a newer gpudeck."""


APPLICATION_ID: Final = 0x67707564
"""`gpud`: marks the file as a ledger of ours, so that no other SQLite file is ever taken for one."""

_TABLES: Final = """
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE account (
    seq INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 64),
    opened_ns INTEGER NOT NULL
) STRICT;

CREATE TABLE api_key (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (name),
    name TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
    created_ns INTEGER NOT NULL,
    expires_ns INTEGER,
    revoked_ns INTEGER,
    last_used_ns INTEGER
) STRICT;

CREATE TABLE endpoint (
    slug TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (name),
    spec TEXT NOT NULL,
    generation INTEGER NOT NULL CHECK (generation >= 0),
    wanted TEXT NOT NULL CHECK (wanted IN ('enabled', 'disabled', 'suspended', 'failed')),
    problem TEXT,
    created_ns INTEGER NOT NULL,
    saved_ns INTEGER NOT NULL,
    removed_ns INTEGER
) STRICT;

CREATE TABLE worker (
    id TEXT PRIMARY KEY,
    serial INTEGER NOT NULL CHECK (serial >= 0),
    ordinal INTEGER NOT NULL CHECK (ordinal >= 0),
    endpoint TEXT NOT NULL REFERENCES endpoint (slug),
    account TEXT NOT NULL REFERENCES account (name),
    generation INTEGER NOT NULL,
    model TEXT NOT NULL,
    gpu_uuid TEXT NOT NULL,
    gpu_type TEXT NOT NULL,
    surge INTEGER NOT NULL CHECK (surge IN (0, 1)),
    intent_ns INTEGER NOT NULL,
    engine_ref TEXT,
    started_ns INTEGER,
    ready_ns INTEGER,
    ended_ns INTEGER,
    end_source TEXT CHECK (end_source IN ('exit', 'last_seen', 'void')),
    end_cause TEXT,
    end_detail TEXT,
    UNIQUE (endpoint, serial),
    CHECK ((ended_ns IS NULL) = (end_source IS NULL)),
    CHECK ((started_ns IS NULL) = (engine_ref IS NULL))
) STRICT;
CREATE INDEX worker_serial ON worker (serial);
CREATE INDEX worker_running ON worker (id) WHERE ended_ns IS NULL;

CREATE TABLE interval (
    id TEXT PRIMARY KEY,
    worker_id TEXT NOT NULL REFERENCES worker (id),
    endpoint TEXT NOT NULL REFERENCES endpoint (slug),
    account TEXT NOT NULL REFERENCES account (name),
    gpu_type TEXT NOT NULL,
    tier TEXT NOT NULL CHECK (tier IN ('baseline', 'autoscale')),
    rate_uh INTEGER NOT NULL CHECK (rate_uh >= 0),
    price_book TEXT NOT NULL,
    start_ns INTEGER NOT NULL,
    boot_id TEXT NOT NULL,
    last_seen_ns INTEGER NOT NULL,
    end_ns INTEGER CHECK (end_ns >= start_ns),
    end_source TEXT CHECK (end_source IN ('exit', 'last_seen', 'tier_change', 'price_change')),
    absorbed INTEGER NOT NULL DEFAULT 0 CHECK (absorbed IN (0, 1)),
    CHECK ((end_ns IS NULL) = (end_source IS NULL))
) STRICT;
CREATE UNIQUE INDEX interval_open ON interval (worker_id) WHERE end_ns IS NULL;
CREATE INDEX interval_worker ON interval (worker_id, start_ns);
CREATE INDEX interval_account ON interval (account, start_ns);

CREATE TABLE journal (
    txn_id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('topup', 'posting')),
    account TEXT NOT NULL REFERENCES account (name),
    amount_u INTEGER NOT NULL CHECK (amount_u > 0),
    balance_u INTEGER NOT NULL,
    interval_id TEXT REFERENCES interval (id),
    upto_ns INTEGER,
    absorbed INTEGER CHECK (absorbed IN (0, 1)),
    posted_u INTEGER,
    billed_u INTEGER CHECK (billed_u BETWEEN 0 AND posted_u),
    key TEXT UNIQUE,
    memo TEXT,
    at_ns INTEGER NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    UNIQUE (interval_id, upto_ns),
    CHECK (
        CASE kind
            WHEN 'topup' THEN key IS NOT NULL AND memo IS NOT NULL AND interval_id IS NULL AND upto_ns IS NULL
                AND absorbed IS NULL AND posted_u IS NULL AND billed_u IS NULL
            ELSE key IS NULL AND memo IS NULL AND interval_id IS NOT NULL AND upto_ns IS NOT NULL
                AND absorbed IS NOT NULL AND posted_u IS NOT NULL AND billed_u IS NOT NULL
        END
    )
) STRICT;
CREATE INDEX journal_account ON journal (account, txn_id);
CREATE INDEX journal_day ON journal (interval_id, at_ns);

CREATE TABLE entry (
    txn_id INTEGER NOT NULL REFERENCES journal (txn_id),
    account_code TEXT NOT NULL CHECK (
        account_code IN ('revenue:baseline', 'revenue:autoscale', 'platform:absorbed', 'equity:topup')
        OR account_code LIKE 'customer:credit:_%'
    ),
    amount_u INTEGER NOT NULL CHECK (amount_u <> 0),
    PRIMARY KEY (txn_id, account_code)
) STRICT, WITHOUT ROWID;

CREATE TABLE command (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    outcome TEXT NOT NULL,
    at_ns INTEGER NOT NULL
) STRICT;

CREATE TABLE event (
    seq INTEGER PRIMARY KEY,
    at_ns INTEGER NOT NULL,
    level TEXT NOT NULL CHECK (level IN ('info', 'good', 'warning', 'error')),
    text TEXT NOT NULL,
    endpoint TEXT,
    worker TEXT
) STRICT;
"""

_TRIGGERS: Final = """
CREATE TRIGGER journal_no_update BEFORE UPDATE ON journal
BEGIN SELECT RAISE(ABORT, 'journal is append-only'); END;
CREATE TRIGGER journal_no_delete BEFORE DELETE ON journal
BEGIN SELECT RAISE(ABORT, 'journal is append-only'); END;
CREATE TRIGGER journal_no_replace BEFORE INSERT ON journal
WHEN EXISTS (SELECT 1 FROM journal WHERE txn_id = NEW.txn_id)
    OR EXISTS (SELECT 1 FROM journal WHERE key = NEW.key)
    OR EXISTS (SELECT 1 FROM journal WHERE interval_id = NEW.interval_id AND upto_ns = NEW.upto_ns)
BEGIN SELECT RAISE(ABORT, 'journal is append-only: this posting exists'); END;

CREATE TRIGGER entry_no_update BEFORE UPDATE ON entry
BEGIN SELECT RAISE(ABORT, 'entry is append-only'); END;
CREATE TRIGGER entry_no_delete BEFORE DELETE ON entry
BEGIN SELECT RAISE(ABORT, 'entry is append-only'); END;
CREATE TRIGGER entry_no_replace BEFORE INSERT ON entry
WHEN EXISTS (SELECT 1 FROM entry WHERE txn_id = NEW.txn_id AND account_code = NEW.account_code)
BEGIN SELECT RAISE(ABORT, 'entry is append-only: this entry exists'); END;

CREATE TRIGGER interval_terms_frozen BEFORE UPDATE OF
    id, worker_id, endpoint, account, gpu_type, tier, rate_uh, price_book, start_ns, boot_id ON interval
BEGIN SELECT RAISE(ABORT, 'the terms of an interval never change'); END;
CREATE TRIGGER interval_ends_once BEFORE UPDATE OF end_ns, end_source, absorbed ON interval
WHEN OLD.end_ns IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'interval is closed'); END;
CREATE TRIGGER interval_no_delete BEFORE DELETE ON interval
BEGIN SELECT RAISE(ABORT, 'intervals are kept'); END;
CREATE TRIGGER interval_no_overlap BEFORE INSERT ON interval
WHEN EXISTS (SELECT 1 FROM interval WHERE worker_id = NEW.worker_id AND end_ns > NEW.start_ns)
BEGIN SELECT RAISE(ABORT, 'interval overlaps another one of its worker'); END;
"""

_INTERVAL_COLUMNS: Final = """
    id, worker_id, endpoint, account, gpu_type, tier, rate_uh, price_book, start_ns, boot_id, last_seen_ns, end_ns,
    end_source, absorbed
"""

_ABSENCE: Final = f"""
CREATE TABLE interval_next (
    id TEXT PRIMARY KEY,
    worker_id TEXT NOT NULL REFERENCES worker (id),
    endpoint TEXT NOT NULL REFERENCES endpoint (slug),
    account TEXT NOT NULL REFERENCES account (name),
    gpu_type TEXT NOT NULL,
    tier TEXT NOT NULL CHECK (tier IN ('baseline', 'autoscale')),
    rate_uh INTEGER NOT NULL CHECK (rate_uh >= 0),
    price_book TEXT NOT NULL,
    start_ns INTEGER NOT NULL,
    boot_id TEXT NOT NULL,
    last_seen_ns INTEGER NOT NULL,
    idle_since_ns INTEGER,
    end_ns INTEGER CHECK (end_ns >= start_ns),
    end_source TEXT CHECK (
        end_source IN ('exit', 'last_seen', 'tier_change', 'price_change', 'absence', 'suspend')
    ),
    absorbed INTEGER NOT NULL DEFAULT 0 CHECK (absorbed IN (0, 1)),
    CHECK ((end_ns IS NULL) = (end_source IS NULL))
) STRICT;
INSERT INTO interval_next ({_INTERVAL_COLUMNS}) SELECT {_INTERVAL_COLUMNS} FROM interval ORDER BY rowid;
DROP TABLE interval;
ALTER TABLE interval_next RENAME TO interval;
CREATE UNIQUE INDEX interval_open ON interval (worker_id) WHERE end_ns IS NULL;
CREATE INDEX interval_worker ON interval (worker_id, start_ns);
CREATE INDEX interval_account ON interval (account, start_ns);
{_TRIGGERS[_TRIGGERS.index("CREATE TRIGGER interval_terms_frozen") :]}
"""  # noqa: S608 - names of our own
"""What an absence needs (reliability.md B4, P5): since when a worker was idle at its last heartbeat, and two more
reasons for an interval to end. A CHECK cannot be changed in place, so the table is made anew."""

_MAIL: Final = """
ALTER TABLE account ADD COLUMN mail TEXT;
ALTER TABLE account ADD COLUMN warnings INTEGER NOT NULL DEFAULT 0 CHECK (warnings >= 0);
ALTER TABLE account ADD COLUMN alerted_uh INTEGER NOT NULL DEFAULT 0 CHECK (alerted_uh >= 0);
ALTER TABLE account ADD COLUMN suspensions INTEGER NOT NULL DEFAULT 0 CHECK (suspensions >= 0);
ALTER TABLE api_key ADD COLUMN endpoints TEXT NOT NULL DEFAULT '';
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (name),
    kind TEXT NOT NULL CHECK (kind IN ('warning', 'suspended')),
    crossing_no INTEGER NOT NULL CHECK (crossing_no > 0),
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    queued_ns INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'sent', 'failed')),
    attempts INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    problem TEXT,
    tried_ns INTEGER,
    UNIQUE (account, kind, crossing_no)
) STRICT;
CREATE INDEX outbox_queued ON outbox (seq) WHERE state = 'queued';
"""
"""Mails that are owed, one per downward crossing; what was watched of an account's credit; slugs (in a comma-separated
list, empty for all) that a key is confined to."""

NEVER_NS: Final = 9_223_372_036_854_775_807
"""Stands for the end of an open interval where ends are compared."""

_SECRETS: Final = f"""
UPDATE endpoint SET spec = sealed_spec(spec);
INSERT INTO meta (key, value) VALUES ('scrub', 'pending');
CREATE INDEX interval_endpoint ON interval (endpoint, COALESCE(end_ns, {NEVER_NS}));
"""  # noqa: S608 - names of our own
"""Values of secret variables are sealed (sealing.py); then the file is packed, so that no page keeps what they were.
The index is for what an endpoint cost over time."""

STEPS: Final[tuple[tuple[str, str], ...]] = (
    ("m001_ledger", _TABLES + _TRIGGERS),
    ("m002_absence", _ABSENCE),
    ("m003_mail", _MAIL),
    ("m004_secrets", _SECRETS),
)
"""Migrations by name, in order. A published step never changes; a new one is appended."""

SCHEMA_VERSION: Final = len(STEPS)
"""What `PRAGMA user_version` says once all steps have run."""


def migrations() -> Migrations:
    """STEPS as sqlite-utils migrations of the set `gpudeck`."""
    # Imported here: sqlite-utils brings numpy along (0.3 s), and a ledger that is up to date needs neither.
    from sqlite_utils import Migrations

    registered = Migrations("gpudeck")

    def register(name: str, script: str) -> None:
        @registered(name=name)
        def run(db: Database) -> None:
            db.executescript(script)

    for name, script in STEPS:
        register(name, script)
    return registered


def upgrade(connection: sqlite3.Connection, sealed_spec: Callable[[str], str]) -> None:
    """Run the missing steps in one transaction. `sealed_spec` seals the secrets in an endpoint's JSON. Raises
    sqlite3.Error and what `sealed_spec` raises, after which nothing has changed."""
    from sqlite_utils import Database

    failures: list[Exception] = []

    def seal(spec: str) -> str:
        try:
            return sealed_spec(spec)
        except (LedgerError, OSError, ValueError) as failure:  # SQLite would say no more than that a function failed
            failures.append(failure)
            raise

    connection.create_function("sealed_spec", 1, seal)
    (enforced,) = connection.execute("PRAGMA foreign_keys").fetchone()
    # A step that makes a table anew drops the old one, which others refer to by name; off only outside a transaction.
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Inside an open transaction sqlite-utils nests its own as savepoints and commits nothing.
        migrations().apply(Database(connection, execute_plugins=False))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except sqlite3.OperationalError:
        if failures:
            raise failures[0] from None
        raise
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.execute(f"PRAGMA foreign_keys = {enforced}")


def check_version(connection: sqlite3.Connection) -> bool:
    """True when the schema is current, False when steps are missing. Raises LedgerError for a stranger's or a newer
    file (reliability.md O9: an older program leaves a newer ledger untouched)."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise LedgerError("it is not a gpudeck ledger (its application id is another); it was left untouched")
    if version > SCHEMA_VERSION:
        raise NewerSchema(
            f"its schema {version} is newer than {SCHEMA_VERSION}, the newest this gpudeck knows; upgrade gpudeck. "
            "the file was left untouched"
        )
    return bool(version == SCHEMA_VERSION)


def schema_sql(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """(name, SQL) of every object of the schema that has SQL, by name, without those of SQLite and sqlite-utils."""
    rows = connection.execute("SELECT name, sql, tbl_name FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
    return [(name, sql) for name, sql, table in rows if not table.startswith(("sqlite_", "_sqlite_"))]
