"""Checked copies of the ledger, and the way back from one.

A copy is made in two parts. The thread of the ledger copies the pages in small steps, between which money is written;
another thread then packs the copy with VACUUM INTO, checks it whole (integrity_check) and puts it in place under its
final name. So a file with that name is good, and no write waits longer than one step.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from orchestrator.contract.base import SECOND_NS
from orchestrator.ledger.files import make_private, sync
from orchestrator.ledger.journal import head_of
from orchestrator.ledger.ports import LedgerDamaged, LedgerError
from orchestrator.ledger.schema import check_version

KEPT: Final = 7
"""Newest backups that stay, and as many days of which the last one stays: restarts in a row displace no history."""
STEP_PAGES: Final = 256
"""Pages of 4 KiB copied between two looks at the queue of writes: a few milliseconds."""
NAME: Final = re.compile(r"ledger-(\d{8})T\d{6}Z(?:-\d+)?\.db")
PROBLEMS_SHOWN: Final = 3


class Examined(NamedTuple):
    """What a sound ledger file holds."""

    head: int
    last_ns: int | None
    """When the last row of its journal was written."""


class Restored(NamedTuple):
    """A restored ledger, and where the one before was put; None when there was none."""

    path: Path
    aside: Path | None
    examined: Examined


def backups_of(ledger: Path) -> Path:
    """Directory of the backups of the ledger at this path."""
    return ledger.parent / "backups"


def copy_in_steps(connection: sqlite3.Connection, draft: Path, between: Callable[[], None]) -> None:
    """Copy all pages to `draft`, calling `between` after each step. What `between` writes through the same connection
    is in the copy too. Raises sqlite3.Error, OSError and what `between` raises; `draft` is then to be removed."""
    draft.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft.unlink(missing_ok=True)
    make_private(draft)
    with closing(sqlite3.connect(draft, isolation_level=None)) as target:
        target.execute("PRAGMA synchronous = OFF")  # a scratch file: it is read once and removed
        connection.backup(target, pages=STEP_PAGES, progress=lambda *_: between(), sleep=0.01)


def pack(draft: Path, directory: Path, now_ns: int) -> Path:
    """Make `draft` a backup in `directory`: compact, checked, on disk; older ones beyond the kept are removed. Raises
    LedgerError when the copy is damaged (so is the ledger), sqlite3.Error or OSError when it cannot be written."""
    packed = draft.with_suffix(".packed")
    packed.unlink(missing_ok=True)
    make_private(packed)
    try:
        with closing(sqlite3.connect(draft, isolation_level=None)) as copy:
            _require_sound(copy)
            copy.execute("VACUUM INTO ?", (str(packed),))
        examine(packed)
        sync(packed)
        final = _free_name(directory, now_ns)
        packed.rename(final)
        sync(directory)
    finally:
        packed.unlink(missing_ok=True)
        draft.unlink(missing_ok=True)
    for old in expired(list_backups(directory)):
        if old != final:  # a clock that was set back makes the newest one look old
            old.unlink(missing_ok=True)
    return final


def list_backups(directory: Path) -> list[Path]:
    """Newest first."""
    try:
        return sorted((file for file in directory.iterdir() if NAME.fullmatch(file.name)), key=_order, reverse=True)
    except FileNotFoundError:
        return []


def expired(newest_first: list[Path]) -> list[Path]:
    """Those to remove: neither among the newest KEPT nor the last one of one of the newest KEPT days."""
    last_of_day: dict[str, Path] = {}
    for file in newest_first:
        match = NAME.fullmatch(file.name)
        assert match is not None, "listed by that pattern"
        last_of_day.setdefault(match[1], file)
    kept = {*newest_first[:KEPT], *list(last_of_day.values())[:KEPT]}
    return [file for file in newest_first if file not in kept]


def examine(file: Path) -> Examined:
    """Look at a ledger file that nobody has open, without changing it. Raises LedgerError when it is damaged, newer
    than this program, or no ledger."""
    uri = f"{file.absolute().as_uri()}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            _require_sound(connection)
            check_version(connection)
            head, _ = head_of(connection)
            (last_ns,) = connection.execute("SELECT MAX(at_ns) FROM journal").fetchone()
            return Examined(head, last_ns)
    except (sqlite3.Error, OSError) as failure:
        raise LedgerError(f"{file} cannot be read: {failure}") from failure


def newest_good(directory: Path) -> Path | None:
    """The newest backup that is sound and that this program can read."""
    for file in list_backups(directory):
        try:
            examine(file)
        except LedgerError:
            continue
        return file
    return None


def way_back(ledger: Path) -> str:
    """A sentence that says how to restore the ledger at this path, with the command to type."""
    directory = backups_of(ledger)
    try:
        found = newest_good(directory)
    except OSError as error:
        return f"Its backups in {directory} cannot be read: {error.strerror}"
    if found is None:
        return f"There is no good backup in {directory}"
    return f"The newest good backup is of {_taken(found)} UTC; to go back to it: gpudeck ledger restore {found}"


def restore(backup: Path, ledger: Path, now_ns: int) -> Restored:
    """Put a copy of `backup` in the place of the ledger; what was there stays beside it. The caller holds the data
    directory's lock. Raises LedgerError when `backup` is not sound, OSError.

    The ledger is moved before its journal: a crash in between leaves a journal without a ledger, which is refused at
    open; the other way round an old journal would be played into the wrong file.
    """
    examined = examine(backup)
    draft = ledger.with_name(ledger.name + ".restored")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as target:
        with backup.open("rb") as source:
            shutil.copyfileobj(source, target, 1024 * 1024)
        target.flush()
        os.fsync(target.fileno())
    aside = put_aside(ledger, now_ns)
    draft.rename(ledger)
    sync(ledger.parent)
    return Restored(ledger, aside, examined)


def put_aside(file: Path, now_ns: int) -> Path | None:
    """Rename a database and what SQLite keeps beside it, the database first. The name of the first that was there; None
    when none was. Raises OSError."""
    aside = file.with_name(f"{file.name}.damaged-{stamp(now_ns)}")
    moved = [part for part in ("", "-journal", "-wal", "-shm") if file.with_name(file.name + part).exists()]
    for part in moved:
        file.with_name(file.name + part).rename(aside.with_name(aside.name + part))
    return aside.with_name(aside.name + moved[0]) if moved else None


def stamp(now_ns: int) -> str:
    """UTC to the second, as it stands in names of files."""
    return datetime.fromtimestamp(now_ns // SECOND_NS, UTC).strftime("%Y%m%dT%H%M%SZ")


def _taken(file: Path) -> str:
    text = file.name.removeprefix("ledger-")
    return f"{text[:4]}-{text[4:6]}-{text[6:8]} {text[9:11]}:{text[11:13]}"


def _order(file: Path) -> tuple[str, int]:
    name, _, number = file.stem.partition("Z")
    return name, int(number.removeprefix("-") or 0)


def _free_name(directory: Path, now_ns: int) -> Path:
    """A name that sorts behind those of the same second."""
    name = f"ledger-{stamp(now_ns)}"
    numbers = [_order(file)[1] for file in list_backups(directory) if file.name.startswith(name)]
    return directory / (f"{name}-{max(numbers) + 1}.db" if numbers else f"{name}.db")


def _require_sound(connection: sqlite3.Connection) -> None:
    damage = [row[0] for row in connection.execute(f"PRAGMA integrity_check({PROBLEMS_SHOWN})")]
    if damage != ["ok"]:
        raise LedgerDamaged(f"the file is corrupt ({'; '.join(damage)})")
