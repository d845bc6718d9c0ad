"""Opening the ledger file: created whole or not at all, checked before use, never recreated over a damaged one."""

from __future__ import annotations

import logging
import sqlite3
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from orchestrator.ledger.backups import way_back
from orchestrator.ledger.files import make_private, sync
from orchestrator.ledger.journal import head_of
from orchestrator.ledger.ports import LedgerError
from orchestrator.ledger.schema import NewerSchema, check_version, upgrade
from orchestrator.ledger.sealing import seal_spec, sealer_of
from orchestrator.ledger.transactions import transaction

log = logging.getLogger(__name__)

WAL_SAFE_VERSION: Final = (3, 51, 3)
"""Before it, a WAL reset can corrupt the file (reliability.md 4.7)."""
QUICK_CHECK_ROWS: Final = 3
QUICK_CHECK_BYTES: Final = 32 * 1024 * 1024
"""A larger file is not read whole before serving begins (77 MB take 0.65 s, and it grows by 130 MB per worker and
year): its head is checked here, and the whole of it in the backup that every start makes."""
MESSAGE_MAX: Final = 1_000

FAILURES: Final = (
    ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError,
    ValueError, sqlite3.Error,
)  # fmt: skip
"""What reading or writing a damaged, full or locked file can raise, and what a defect of ours can: a job that fails
with any of them fails alone."""


class Opened(NamedTuple):
    """The one connection and the identity of the file behind it."""

    connection: sqlite3.Connection
    device: int
    inode: int


def journal_settings(sqlite_version: tuple[int, ...]) -> tuple[str, str]:
    """(journal_mode, synchronous) that are safe with this SQLite."""
    return ("wal", "FULL") if sqlite_version >= WAL_SAFE_VERSION else ("delete", "EXTRA")


def plain(message: str) -> str:
    """`message` fit to be shown: SQLite quotes the bytes of a damaged row, which may hold control codes."""
    text = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in message)
    return text if len(text) <= MESSAGE_MAX else text[: MESSAGE_MAX - 1] + "…"


class Damaged(LedgerError):
    """The file cannot be used, but a backup of it can: `_naming` adds the way back."""


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except Damaged as refusal:
        raise LedgerError(plain(f"ledger {path}: {refusal}. {way_back(path)}")) from refusal
    except LedgerError as refusal:
        raise LedgerError(plain(f"ledger {path}: {refusal}")) from refusal
    except sqlite3.OperationalError as failure:  # locked, or the disk: the file itself may be whole
        raise LedgerError(plain(f"ledger {path}: cannot be opened: {failure}")) from failure
    except sqlite3.DatabaseError as failure:
        raise LedgerError(plain(f"ledger {path}: cannot be opened: {failure}. {way_back(path)}")) from failure
    except FAILURES as failure:
        raise LedgerError(plain(f"ledger {path}: cannot be opened: {failure}")) from failure


def create_ledger(path: Path, now: Callable[[], int], busy_timeout_ms: int) -> None:
    """Create the ledger, and its directory, unless something is there. Raises LedgerError naming the file, and why."""
    with _naming(path):
        if not path.exists():
            _create(path, now, busy_timeout_ms)


def open_ledger(path: Path, busy_timeout_ms: int) -> Opened:
    """Open and check the ledger at `path`, upgrading its schema. Raises LedgerError naming the file, and why."""
    with _naming(path):
        return _open_existing(path, busy_timeout_ms)


def _create(path: Path, now: Callable[[], int], busy_timeout_ms: int) -> None:
    """Build the file under another name and rename it into place: whoever finds `path` finds a whole ledger, so an
    empty one is known to be damaged."""
    for leftover in _sidecars(path):
        if leftover.exists():
            raise Damaged(
                f"{leftover.name} exists but the ledger itself does not: it was moved or deleted. Put it back, or "
                f"remove {leftover.name} to begin anew"
            )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    for leftover in (draft, *_sidecars(draft)):
        leftover.unlink(missing_ok=True)
    make_private(draft)
    with closing(_connect(draft, busy_timeout_ms)) as connection:
        connection.execute("PRAGMA synchronous = EXTRA")
        _upgrade(connection, path)
        connection.execute("DELETE FROM meta WHERE key = 'scrub'")  # nothing was ever in this file
        identity = [("instance", uuid.uuid4().hex), ("created_ns", str(now()))]
        with transaction(connection, "IMMEDIATE"):
            connection.executemany("INSERT INTO meta (key, value) VALUES (?, ?)", identity)
    draft.rename(path)
    sync(path.parent)


def _open_existing(path: Path, busy_timeout_ms: int) -> Opened:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise LedgerError("it is not a regular file")
    if found.st_size == 0:
        raise Damaged("the file is empty: it was truncated. It is never recreated")
    for private, mode in ((path, 0o600), (path.parent, 0o700)):
        if stat.S_IMODE(private.stat().st_mode) & 0o077:
            private.chmod(mode)
    with ExitStack() as on_failure:
        connection = _connect(path, busy_timeout_ms)
        on_failure.callback(connection.close)
        _configure(connection)
        if found.st_size <= QUICK_CHECK_BYTES:
            damage = [row[0] for row in connection.execute(f"PRAGMA quick_check({QUICK_CHECK_ROWS})")]
            if damage != ["ok"]:
                raise Damaged(f"the file is corrupt ({'; '.join(damage)})")
        if not _is_current(connection):
            _back_up(connection, path)
            _upgrade(connection, path)
        if connection.execute("SELECT 1 FROM meta WHERE key = 'instance'").fetchone() is None:
            raise Damaged("the file is corrupt (its instance id is missing)")
        _check_head(connection)
        _scrub(connection)
        on_failure.pop_all()
    return Opened(connection, found.st_dev, found.st_ino)


def _upgrade(connection: sqlite3.Connection, path: Path) -> None:
    sealer = sealer_of(path)
    upgrade(connection, lambda spec: seal_spec(spec, sealer))


def _scrub(connection: sqlite3.Connection) -> None:
    """Pack the file once after a step that hid something: its free space may still hold what that was. A disk too full
    for it does not keep the ledger from opening; the next start tries again."""
    if connection.execute("SELECT 1 FROM meta WHERE key = 'scrub'").fetchone() is None:
        return
    try:
        connection.execute("VACUUM")
        connection.execute("DELETE FROM meta WHERE key = 'scrub'")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the log of a write-ahead file holds old pages too
    except sqlite3.OperationalError as failure:
        log.warning("the ledger was not packed, its free space may hold secrets of an older version: %s", failure)


def _is_current(connection: sqlite3.Connection) -> bool:
    try:
        return check_version(connection)
    except NewerSchema as newer:
        raise Damaged(str(newer)) from newer


def _check_head(connection: sqlite3.Connection) -> None:
    """The last rows of the journal are what the next one is chained to: begin with a look at them."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    if not 0 <= free < pages:
        raise Damaged(f"the file is corrupt ({free} of its {pages} pages are marked as free)")
    last_id, last_hash = head_of(connection)
    (rows,) = connection.execute("SELECT COUNT(*) FROM entry WHERE txn_id = ?", (last_id,)).fetchone()
    if len(last_hash) != 32 or (last_id and rows != 2):
        raise Damaged(f"the file is corrupt (row {last_id} of its journal is not whole)")


def _back_up(connection: sqlite3.Connection, path: Path) -> None:
    """A compact copy beside the ledger, named after its schema, before an upgrade changes it (reliability.md O9)."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    copy = path.with_name(f"{path.name}.schema{version}")
    # A copy that is there already comes from an upgrade that did not happen: the ledger is the newer one.
    copy.unlink(missing_ok=True)
    make_private(copy)
    connection.execute("VACUUM INTO ?", (str(copy),))


def _connect(path: Path, busy_timeout_ms: int) -> sqlite3.Connection:
    # mode=rw: SQLite itself must never create the file. isolation_level None: no transaction but our own.
    uri = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, timeout=busy_timeout_ms / 1000, isolation_level=None)
    with ExitStack() as on_failure:
        on_failure.callback(connection.close)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        # What is deleted is overwritten, whatever SQLite was built with.
        connection.execute("PRAGMA secure_delete = ON")
        on_failure.pop_all()
    return connection


def _configure(connection: sqlite3.Connection) -> None:
    mode, synchronous = journal_settings(sqlite3.sqlite_version_info)
    (actual,) = connection.execute(f"PRAGMA journal_mode = {mode}").fetchone()
    if actual != mode:
        raise LedgerError(f"its journal mode is {actual} and could not be changed to {mode}")
    connection.execute(f"PRAGMA synchronous = {synchronous}")


def _sidecars(path: Path) -> tuple[Path, ...]:
    return tuple(path.with_name(path.name + suffix) for suffix in ("-journal", "-wal", "-shm"))
