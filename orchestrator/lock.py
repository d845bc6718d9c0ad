"""One orchestrator per data directory: an flock held for life. It dies with its holder, however that ends."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

ATTEMPTS = 20
ATTEMPT_PERIOD_S = 0.05
"""A worker's shim that looks whether anybody holds the lock holds it itself for some microseconds."""


class Locked(Exception):
    """Another orchestrator holds the directory. The message names it."""


class DirectoryLock:
    """Taken by the constructor, which raises Locked or OSError. The file says who holds it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not self._take():
            holder = os.pread(self._fd, 200, 0).decode("ascii", "replace").strip() or "an unknown process"
            os.close(self._fd)
            raise Locked(
                f"{file.parent} is in use by another orchestrator ({holder}); "
                "attach to it with `gpudeck`, or stop it with `gpudeck down`"
            )
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"pid {os.getpid()}\n".encode(), 0)

    def _take(self) -> bool:
        for _ in range(ATTEMPTS):
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(ATTEMPT_PERIOD_S)
            else:
                return True
        return False

    def release(self) -> None:
        """Let go. The file stays: removing it would let two holders lock two different inodes."""
        os.close(self._fd)
