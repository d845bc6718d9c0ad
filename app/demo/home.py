"""The private place of a tour: a temporary GPUDECK_HOME, its own orchestrator, and the proof that nothing is left."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from app.client import SocketClient
from app.signals import leaving_on_signals
from app.spawn import EXIT_CONFIGURATION, SpawnError, ensure_orchestrator, process_runs, stop_orchestrator
from orchestrator.contract.places import HOME_VARIABLE, places

DRAIN_S: Final = 60.0
KILL_S: Final = 5.0


@dataclass
class PrivateHome:
    """A running orchestrator of one's own. `left_running` is filled in by `close`, and again at the end."""

    directory: Path
    client: SocketClient
    pid: int
    instance: str
    keep: bool
    left_running: tuple[str, ...] = field(default=())

    def abandon(self) -> None:
        """Last resort of a program that cannot go on: ask the orchestrator to drain, wait for its end, remove the
        directory unless it is to be kept. Blocks; needs no event loop."""
        with suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGTERM)
        for _ in range(int(DRAIN_S / 0.1)):
            if not process_runs(self.pid):
                break
            time.sleep(0.1)
        if not self.keep:
            shutil.rmtree(self.directory, ignore_errors=True)

    async def close(self) -> None:
        """Drain and stop; kill what does not end by itself. Idempotent."""
        try:
            await stop_orchestrator(self.client, "drain", timeout_s=DRAIN_S)
        except (TimeoutError, ConnectionError):
            await _kill(self.pid)
        await self.client.aclose()
        self.left_running = leftovers(self.instance)


@asynccontextmanager
async def private_home(
    *,
    engine: str,
    gpus: str | None,
    keep: bool,
    talk: Callable[[str], None],
    command: Sequence[str] | None = None,
) -> AsyncIterator[PrivateHome]:
    """Start an orchestrator in a new temporary directory; stop it and remove the directory at the end.

    The gateway takes any free port. `command` replaces the orchestrator by another program. SIGTERM and SIGHUP cancel
    the running task, so that what was started is stopped on the way out. Raises what spawn.ensure_orchestrator raises;
    SpawnError also when the place for temporary files is too deep for a socket path.
    """
    task = asyncio.current_task()
    assert task is not None
    with leaving_on_signals(task.cancel):
        async with _private_home(engine, gpus, keep, talk, command) as home:
            yield home


@asynccontextmanager
async def _private_home(
    engine: str, gpus: str | None, keep: bool, talk: Callable[[str], None], command: Sequence[str] | None
) -> AsyncIterator[PrivateHome]:
    directory = Path(tempfile.mkdtemp(prefix="gpudeck-demo-"))
    try:
        # Should all else fail, a SIGTERM is enough to stop the workers too.
        environ = {**os.environ, HOME_VARIABLE: str(directory), "GPUDECK_ON_EXIT": "drain", "GPUDECK_FAULTS": "true"}
        try:
            where = places(environ)
        except ValueError as error:
            raise SpawnError(
                f"TMPDIR: {str(error).removeprefix(f'{HOME_VARIABLE}: ')}", EXIT_CONFIGURATION, ()
            ) from error
        client = await ensure_orchestrator(where, engine=engine, gpus=gpus, port=0, environ=environ, command=command)
        hello = await client.hello()
        home = PrivateHome(directory, client, hello.pid, hello.instance, keep)
        try:
            yield home
        finally:
            try:
                with leaving_on_signals(lambda: None):  # it is on its way: a second signal must not cut it short
                    await home.close()
            except BaseException:
                # A second Ctrl-C: no time to watch, but the orchestrator still drains by itself.
                with suppress(ProcessLookupError):
                    os.kill(home.pid, signal.SIGTERM)
                raise
    finally:
        if keep:
            talk(f"kept: {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)


async def _kill(pid: int) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
        for _ in range(int(KILL_S / 0.1)):
            if not process_runs(pid):
                return
            await asyncio.sleep(0.1)


def leftovers(instance: str) -> tuple[str, ...]:
    """Processes of this instance's workers that still run, found by the variable every worker process carries.

    Containers are not seen from here: the docker engine's own end answers for them.
    """
    mark = f"GPUDECK_INSTANCE={instance}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # ended meanwhile, or another user's
        if instance and mark in variables and process_runs(int(entry.name)):
            found.append(f"process {entry.name}")
    return tuple(found)
