"""Find the running orchestrator, start one that outlives this process, or stop it.

The child gets a session of its own (a Ctrl-C in this terminal is not for it), no stdin, and a file for whatever its
interpreter or a library writes to stdout and stderr; its own log is elsewhere (places.log_file).
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

from app.client import Gone, NotRunning, SocketClient, command_id, program_version
from app.format import plain
from orchestrator.contract.command import Refused, Shutdown
from orchestrator.contract.places import HOME_VARIABLE, Places
from orchestrator.contract.places import places as places_of
from orchestrator.contract.snapshot import Snapshot

POLL_S: Final = 0.05
STOP_S: Final = 5.0
START_S: Final = 60.0
"""A driver that is not kept loaded takes up to half a minute to answer its first question."""
EXIT_CONFIGURATION: Final = 78
EXIT_LOCKED: Final = 75
"""Exit status of `orchestrator serve` when another one holds the lock."""
LINES_MAX: Final = 12
CAPTURE_BYTES_MAX: Final = 1024 * 1024
"""The captured output is started afresh above this size; a healthy orchestrator writes nothing to it."""


class SpawnError(Exception):
    """The orchestrator did not come up. `exit_code` is None when it neither answered nor ended in time."""

    def __init__(self, message: str, exit_code: int | None, lines: tuple[str, ...]) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.lines = lines
        """The last lines it wrote to stdout or stderr, oldest first."""


async def attach(places: Places) -> SocketClient | None:
    """A connected client of the running orchestrator, or None when none runs.

    Raises ConnectionError (ProtocolMismatch, Gone) when something is there that this program cannot talk to.
    """
    client = SocketClient(places.socket_file)
    try:
        await client.hello()
    except NotRunning:
        return None
    return client


async def ensure_orchestrator(
    places: Places,
    *,
    engine: str | None = None,
    gpus: str | None = None,
    port: int | None = None,
    timeout_s: float = START_S,
    environ: Mapping[str, str] | None = None,
    command: Sequence[str] | None = None,
) -> SocketClient:
    """Attach to the running orchestrator, else start one and wait at most `timeout_s` seconds until it says Hello.

    `engine`, `gpus` (such as `L40:2,H100:1`) and `port` matter only to a new one; None leaves them to the settings.
    `environ` defaults to os.environ; GPUDECK_HOME is set in the child so that it uses the same `places`. `command`
    replaces the whole argv. One that is not waited for any more (cancelled) is stopped. Raises SpawnError, and
    ConnectionError for a running orchestrator of another version.
    """
    running = await attach(places)
    if running is not None:
        return running
    argv = command if command is not None else serve_command(engine, gpus, port)
    child = _Child(places, argv, environ if environ is not None else os.environ)
    try:
        return await _answering(places, child, timeout_s)
    except asyncio.CancelledError:
        await child.stopped()
        raise


async def _answering(places: Places, child: _Child, timeout_s: float) -> SocketClient:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        client = await attach(places)
        if client is not None:
            return client
        code = child.exit_code
        # Somebody else won the race for the lock: their orchestrator is about to listen, ours has ended.
        if code is not None and (code != EXIT_LOCKED or loop.time() >= deadline):
            raise child.failure(code)
        if loop.time() >= deadline:
            child.terminate()
            raise child.failure(None, timeout_s)
        await asyncio.sleep(POLL_S)


class StopRefused(Exception):
    """The orchestrator will not stop now; the message is its own sentence."""


async def stop_orchestrator(
    client: SocketClient,
    mode: Literal["leave", "drain"],
    *,
    timeout_s: float,
    on_state: Callable[[Snapshot], None] = lambda _: None,
) -> None:
    """Send Shutdown and wait until the process has ended; `on_state` hears how it goes.

    Raises TimeoutError after `timeout_s` seconds (the stop goes on by itself), StopRefused, and ConnectionError when
    no orchestrator was there in the first place.
    """
    pid = (await client.hello()).pid
    async with asyncio.timeout(timeout_s):
        try:
            outcome = await client.send(Shutdown(id=command_id(), mode=mode))
        except (Gone, NotRunning):
            outcome = None  # it ended before its answer was on the way, which is what was asked for
        if isinstance(outcome, Refused):
            raise StopRefused(outcome.message)
        with suppress(ConnectionError):
            async for state in client.snapshots():
                on_state(state)
        while True:
            if not process_runs(pid):
                return
            await asyncio.sleep(POLL_S)


def process_runs(pid: int) -> bool:
    """Whether the process exists and has not ended; one that nobody collected yet (a zombie) has ended."""
    try:
        # The state follows the name, which stands in parentheses and may itself contain anything.
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return False
    return state not in ("Z", "X")


def serve_command(engine: str | None, gpus: str | None, port: int | None) -> list[str]:
    """argv of `orchestrator serve` with this interpreter. Only what was asked for becomes a flag: a flag outranks the
    environment and the settings file."""
    command = [sys.executable, "-m", "orchestrator", "serve"]
    if engine:
        command += ["--engine", engine]
    if gpus:
        command += ["--gpus", gpus]
    if port is not None:
        command += ["--port", str(port)]
    return command


def child_environ(places: Places, environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` changed so that contract.places.places() gives `places`, whatever the working directory.

    Raises ValueError when no value of GPUDECK_HOME does.
    """
    if HOME_VARIABLE not in environ and places_of(environ) == places:
        return dict(environ)
    changed = {**environ, HOME_VARIABLE: str(places.config.parent)}
    if places_of(changed) != places:
        raise ValueError(f"{HOME_VARIABLE}: no value of it leads to {places}")
    return changed


def captured_output(places: Places) -> Path:
    """Where stdout and stderr of the orchestrator go, beside its log."""
    return places.log_file.with_suffix(".stderr")


def _working_directory() -> Path:
    """`/`, so that no mount is kept busy; the source tree when gpudeck runs from one that was never installed."""
    return Path("/") if program_version() != "0" else Path(__file__).parent.parent


class _Child:
    """The started process. Never killed when this object or this program ends."""

    def __init__(self, places: Places, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self._capture = captured_output(places)
        self._capture.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(self._capture, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
            if output.tell() > CAPTURE_BYTES_MAX:
                output.truncate(0)
            self._offset = self._capture.stat().st_size
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=child_environ(places, environ),
                cwd=_working_directory(),
                start_new_session=True,
            )
        # Reaps the child when it ends while we live; otherwise it would stay a zombie that looks alive to others.
        threading.Thread(target=self._process.wait, name="orchestrator-reaper", daemon=True).start()

    @property
    def exit_code(self) -> int | None:
        return self._process.returncode

    def terminate(self) -> None:
        with suppress(ProcessLookupError):
            self._process.terminate()

    async def stopped(self) -> None:
        """Terminate it and see it end; one that starts its end just now is left to it after a few seconds."""
        self.terminate()
        for _ in range(int(STOP_S / POLL_S)):
            if self.exit_code is not None:
                return
            await asyncio.sleep(POLL_S)

    def failure(self, code: int | None, timeout_s: float = 0.0) -> SpawnError:
        lines = self._last_lines()
        what = f"did not answer within {timeout_s:g} s and was stopped" if code is None else f"ended with status {code}"
        because = (
            lines[-1].removeprefix("gpudeck: ") if lines else f"it wrote nothing; its log is beside {self._capture}"
        )
        return SpawnError(f"the orchestrator {what}: {because}", code, lines)

    def _last_lines(self) -> tuple[str, ...]:
        with self._capture.open("rb") as output:
            output.seek(self._offset)
            text = output.read(CAPTURE_BYTES_MAX).decode(errors="replace")
        return tuple(line for line in map(plain, text.splitlines()) if line.strip())[-LINES_MAX:]
