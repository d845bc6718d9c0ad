"""Named points at which the process can be made to die, to prove that nothing is lost there (reliability.md section 2).

`GPUDECK_CRASH_AT=engine.start.after#2` ends this process with SIGKILL at the second passage of that point. For tests of
gpudeck itself: without the variable a point costs one comparison. Every name is in POINTS, and the crash harness
(tests/bench/crash.py) goes through all of them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import Final

VARIABLE: Final = "GPUDECK_CRASH_AT"
BATCHES: Final = ("command", "intent", "started", "ready", "ended", "posting", "heartbeat")
"""Kinds of ledger transaction; one that does several of these things passes the points of each."""
CALLS: Final = ("start", "stop", "remove", "list")
"""Engine calls."""
POINTS: Final = (
    *(f"commit.{kind}.{side}" for kind in BATCHES for side in ("before", "after")),
    *(f"engine.{call}.{side}" for call in CALLS for side in ("before", "after")),
    "boot.loaded",  # the ledger has been read
    "boot.listed",  # the engine has told what it holds
    "boot.adopted",  # the state is restored, its writes are queued
    "boot.serving",  # the control socket listens
)


class _Fuse:
    """The armed point and how many passages are left."""

    def __init__(self) -> None:
        self.name: str | None = None
        self.left = 0


_fuse: Final = _Fuse()


def arm(environ: Mapping[str, str]) -> None:
    """Read the variable. Raises ValueError for a name that is no point, or a number below 1."""
    text = environ.get(VARIABLE)
    if not text:
        return
    name, _, number = text.partition("#")
    if name not in POINTS:
        raise ValueError(f"{VARIABLE}: no point {name[:80]!a}; there are: {', '.join(POINTS)}")
    if not number.isdecimal() or int(number) < 1:
        raise ValueError(f"{VARIABLE}: give the number of the passage after #, from 1 on, as in {name}#1")
    _fuse.name, _fuse.left = name, int(number)


def point(name: str) -> None:
    """Pass the point `name`; the end of this process if it is the armed one and its time has come."""
    if name != _fuse.name:
        return
    _fuse.left -= 1
    if _fuse.left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
