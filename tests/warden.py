"""Ends what a test run has started and left behind, however the run ends.

An orchestrator that `gpudeck` starts outlives its starter by design, and so do the hosts of end-to-end tests, tmux and
engines, which have sessions of their own. A run that is killed stops none of them. So every run puts a mark into its
environment, which all its descendants inherit, and starts a warden: a process that waits for the end of the run and
then kills whatever carries the mark. Nothing in the product knows of it.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

MARK = "DECK_TEST_RUN"
"""Not named like a setting of gpudeck, which would be read as one."""
ROUNDS = 100
PAUSE_S = 0.05
"""Between two rounds: one that was being started while the first went on is found by the next."""


def watch_over_this_run() -> None:
    """Mark this process and start its warden, unless it belongs to a run that has one (a worker of xdist)."""
    if MARK in os.environ or not hasattr(os, "pidfd_open"):
        return
    mark = uuid.uuid4().hex
    nothing = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
    argv = [sys.executable, "-I", "-S", __file__, str(os.getpid()), mark]
    os.posix_spawn(sys.executable, argv, os.environ, file_actions=nothing, setsid=True)
    os.environ[MARK] = mark


def marked(mark: str) -> list[int]:
    """Processes that carry the mark. What this user may not look at is none of the run's."""
    line = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if line in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def main(run: int, mark: str) -> None:
    """Wait for the end of process `run`, then end what it left."""
    with suppress(ProcessLookupError):
        select.select([os.pidfd_open(run)], [], [])
    for _ in range(ROUNDS):
        left = marked(mark)
        if not left:
            return
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
