"""One orchestrator per data directory: an flock held for life. It dies with its holder, however that ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class Locked(Exception):
    """Another orchestrator holds the directory. The message names it."""


class DirectoryLock:
    """Taken by the constructor, which raises Locked or OSError. The file says who holds it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 200, 0).decode("ascii", "replace").strip() or "an unknown process"
            os.close(self._fd)
            raise Locked(
                f"{file.parent} is in use by another orchestrator ({holder}); "
                "attach to it with `gpudeck`, or stop it with `gpudeck down`"
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"pid {os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go. The file stays: removing it would let two holders lock two different inodes."""
        os.close(self._fd)
