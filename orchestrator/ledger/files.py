"""Files that nobody else may read and that must be on the disk, whole, before anybody relies on them."""

from __future__ import annotations

import os
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
