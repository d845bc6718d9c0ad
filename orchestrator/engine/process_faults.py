"""Faults done to a worker of the process engine: signals to its model, and a word to its supervisor."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from orchestrator.engine.process_record import ShimRecord
from orchestrator.engine.process_table import is_alive, send_signal


def kill(shim: ShimRecord) -> bool:
    """SIGKILL to the model; its supervisor collects what it leaves. False when it has ended."""
    return shim.model_pid is not None and send_signal(shim.model_pid, shim.model_ticks, signal.SIGKILL)


def freeze(shim: ShimRecord, *, on: bool) -> bool:
    """Stop the model and all of its process group, or let them go on. False when it has ended."""
    pid = shim.model_pid
    if pid is None or not is_alive(pid, shim.model_ticks):
        return False
    try:
        os.killpg(pid, signal.SIGSTOP if on else signal.SIGCONT)
    except ProcessLookupError:
        return False
    return True


def squeeze(directory: Path) -> bool:
    """Ask the supervisor for a memory limit below what any model uses: it looks once a second. Raises OSError."""
    (directory / "squeeze").touch(mode=0o600)
    return True
