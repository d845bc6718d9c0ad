"""Files that nobody else may read and that must be on the disk, whole, before anybody relies on them; and how to look
at one that is in use."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path


def make_private(path: Path) -> None:
    """Create an empty file of mode 0600. Raises OSError; FileExistsError when there is one."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def sync(path: Path) -> None:
    """Return when the file's bytes are on the disk or, of a directory, the names in it. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_read_only(file: Path) -> sqlite3.Connection:
    """A connection to a SQLite file, in use or not, that cannot change it. Raises sqlite3.Error, also when there is
    none."""
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)
