"""Other processes, looked at and signalled so that a reused pid is never taken for the one meant."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.engine.process_record import ShimRecord
from orchestrator.engine.shim import start_ticks, stat_fields

LOG: Final = logging.getLogger(__name__)
POLL_S: Final = 0.5


def is_alive(pid: int, ticks: int | None) -> bool:
    """Does the process with this pid and start still run? A zombie does not. Without /proc the pid alone decides."""
    if ticks is None:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True
    try:
        fields = stat_fields(pid)
    except OSError:
        return False
    return fields[0] not in {"Z", "X"} and int(fields[19]) == ticks


def is_supervised(shim: ShimRecord, boot_id: str) -> bool:
    """Is the supervisor of this record alive? The start ticks count from boot, so another boot decides by itself."""
    return shim.boot_id == boot_id and is_alive(shim.shim_pid, shim.shim_ticks)


def is_paused(pid: int | None) -> bool:
    """Stopped by SIGSTOP or a debugger."""
    if pid is None:
        return False
    try:
        return stat_fields(pid)[0] in {"T", "t"}
    except OSError:
        return False


def send_signal(pid: int, ticks: int | None, number: signal.Signals) -> bool:
    """Signal exactly the process meant; False when it is gone."""
    if not hasattr(os, "pidfd_open"):
        if not is_alive(pid, ticks):
            return False
        os.kill(pid, number)
        return True
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        # The descriptor names one process for good; the check after opening it excludes a reused pid.
        if not is_alive(pid, ticks):
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def sweep(instance: str, worker_id: str) -> list[int]:
    """Kill what a worker left behind without a supervisor, found by the variables in its environment. Returns pids.

    The kernel ends a model with its supervisor; the model's own children know no such bond.
    """
    wanted = {f"GPUDECK_INSTANCE={instance}".encode(), f"GPUDECK_WORKER={worker_id}".encode()}
    killed: list[int] = []
    for entry in Path("/proc").glob("[0-9]*") if Path("/proc/self").exists() else ():
        try:
            pid, ticks = int(entry.name), start_ticks(int(entry.name))
            if wanted <= set((entry / "environ").read_bytes().split(b"\0")) and send_signal(pid, ticks, signal.SIGKILL):
                killed.append(pid)
        except OSError:
            continue  # another user's, or ended since the listing
    return killed


@dataclass(slots=True)
class _Watched:
    pid: int
    ticks: int | None
    descriptor: int | None
    ended: asyncio.Event


class ExitWatch:
    """Tells when processes that need not be our children end. One event loop; `on_end(key)` is called in it."""

    def __init__(self, on_end: Callable[[str], None]) -> None:
        self._on_end = on_end
        self._watched: dict[str, _Watched] = {}
        self._poll: asyncio.Task[None] | None = None
        self._closed = False

    def add(self, key: str, pid: int, ticks: int | None) -> None:
        """Watch a process; once per key. If it has ended already, `on_end` is called soon."""
        if key in self._watched or self._closed:
            return
        loop = asyncio.get_running_loop()
        watched = self._watched[key] = _Watched(pid, ticks, None, asyncio.Event())
        try:
            watched.descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            loop.call_soon(self._ended, key, watched)
            return
        except (AttributeError, OSError) as error:  # macOS, an old kernel, or no descriptors left
            LOG.debug("watching %s by polling: %s", key, error)
            if self._poll is None:
                self._poll = loop.create_task(self._keep_polling())
            return
        if is_alive(pid, ticks):
            loop.add_reader(watched.descriptor, self._ended, key, watched)
        else:
            loop.call_soon(self._ended, key, watched)

    async def wait(self, key: str, timeout_s: float) -> bool:
        """True once the watched process has ended (or is not watched), False when `timeout_s` passed first."""
        watched = self._watched.get(key)
        if watched is None:
            return True
        try:
            await asyncio.wait_for(watched.ended.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Forget everything; nothing is watched any more. Idempotent."""
        self._closed = True
        for watched in self._watched.values():
            self._release(watched)
        self._watched.clear()
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None

    def _release(self, watched: _Watched) -> None:
        if watched.descriptor is not None:
            asyncio.get_running_loop().remove_reader(watched.descriptor)
            os.close(watched.descriptor)
            watched.descriptor = None

    def _ended(self, key: str, watched: _Watched) -> None:
        if self._watched.get(key) is not watched:
            return  # closed meanwhile
        del self._watched[key]
        self._release(watched)
        try:
            os.waitpid(watched.pid, os.WNOHANG)  # as PID 1 of a container we are its parent and must collect it
        except ChildProcessError:
            LOG.debug("%s (pid %d) has ended", key, watched.pid)
        watched.ended.set()
        self._on_end(key)

    async def _keep_polling(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            for key, watched in list(self._watched.items()):
                if watched.descriptor is None and not is_alive(watched.pid, watched.ticks):
                    self._ended(key, watched)
