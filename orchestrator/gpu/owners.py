"""Whose process holds a GPU: from a host process id to the worker it belongs to.

Every engine starts its workers with GPUDECK_WORKER in their environment, and children inherit it. /proc shows the first
environment of a process of the same user, or of any process to root; what may not be read is simply not known.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

VARIABLE: Final = "GPUDECK_WORKER"
DEPTH_MAX: Final = 64
"""Most ancestors looked at. Reading parents one by one is no snapshot: a reused pid could otherwise close a circle."""
ENVIRON_BYTES_MAX: Final = 1024 * 1024

_WORKER_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_PROC: Final = Path("/proc")


def worker_of(pid: int, proc: Path = _PROC) -> str | None:
    """Id of the worker that owns the host process `pid`, from its environment or that of its nearest ancestor that has
    one; None for a foreign process, one that has ended, and one whose environment may not be read.

    The id is what the process claims: any process may set the variable, so the caller must know the worker too.
    """
    for _ in range(DEPTH_MAX):
        if pid <= 0:
            return None
        worker_id = _claimed(proc / str(pid) / "environ")
        if worker_id is not None:
            return worker_id
        pid = _parent(proc / str(pid) / "stat")
    return None


def _claimed(path: Path) -> str | None:
    prefix = f"{VARIABLE}=".encode()
    try:
        with path.open("rb") as file:
            variables = file.read(ENVIRON_BYTES_MAX).split(b"\0")
    except OSError:  # ended meanwhile, or another user's: not known, and the parents may still be readable
        return None
    for variable in variables:
        if variable.startswith(prefix):
            text = variable.removeprefix(prefix).decode("ascii", "replace")
            return text if _WORKER_ID.fullmatch(text) else None
    return None


def _parent(path: Path) -> int:
    """Parent's id, 0 when there is none or it cannot be read."""
    try:
        # The second field is the command in parentheses and may itself hold spaces and parentheses.
        fields = path.read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0
    return int(fields[1]) if len(fields) > 1 and fields[1].isdigit() else 0
