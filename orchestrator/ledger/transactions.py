"""All or nothing, in SQLite. Written out, since Python's and sqlite-utils' own begin deferred and commit behind one's
back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal


@contextmanager
def transaction(connection: sqlite3.Connection, kind: Literal["IMMEDIATE", "DEFERRED"]) -> Iterator[None]:
    """Committed at the end of the block, rolled back when it raises. IMMEDIATE takes the lock to write at once;
    DEFERRED reads one snapshot. Raises sqlite3.Error."""
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
