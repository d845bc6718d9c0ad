"""The dashboard on a pseudo-terminal, as a user has it: time to the first picture, from key to picture, and CPU time.

The deck is made up and played by a process of its own. A key counts as answered when its effect is in what the
terminal received: `j` and `k` move the mark `▌` to the next endpoint's row, while the feed goes on.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.bench.deck import slug
from orchestrator.contract.places import HOME_VARIABLE, places

CONTROL: Final = re.compile(r"\x1b(?:\[[0-9;?<>=$]*[a-zA-Z~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][A-Z0-9]|[=>78])")
TICKS: Final = os.sysconf("SC_CLK_TCK")
PATIENCE_S: Final = 60.0
KEY_GAP_S: Final = 0.237
"""Not in step with the feed, so that keys fall before, into and after a picture."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is measured: the deck, the terminal, seconds of rest for the CPU share, and keys."""

    endpoints: int = 50
    workers: int = 500
    columns: int = 120
    rows: int = 40
    seconds: float = 10.0
    keys: int = 60


@dataclass(frozen=True, slots=True)
class Measured:
    """Milliseconds and a share of one core (1.0 is all of it)."""

    first_paint_ms: float
    key_p50_ms: float
    key_p95_ms: float
    key_max_ms: float
    cpu_share: float
    cpu_share_keys: float
    """While keys were pressed too."""
    frames_per_s: float
    """Snapshots taken at rest, each after the last one was on the screen. Far below 4, the machine was too busy for
    the shares of a core to mean what they say."""
    bytes_per_s: float
    """What the terminal received at rest."""
    memory_mib: float


def percentile(values: list[float], share: float) -> float:
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


class Screen:
    """A program on a pseudo-terminal, and everything that it wrote there."""

    def __init__(self, command: list[str], environ: dict[str, str], columns: int, rows: int) -> None:
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.set_blocking(self.ours, False)
        self._loop = asyncio.get_running_loop()
        self.received = bytearray()
        self.total = 0
        self._news = asyncio.Event()
        self.started = self._loop.time()
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ, start_new_session=True
        )
        os.close(theirs)
        self._loop.add_reader(self.ours, self._read)

    def _read(self) -> None:
        try:
            piece = os.read(self.ours, 1 << 20)
        except OSError:  # EIO: the program has gone
            self._loop.remove_reader(self.ours)
            return
        self.total += len(piece)
        self.received += piece
        self._news.set()

    async def shows(self, text: str) -> float:
        """Wait until `text` was received since the last `press`; the moment, in seconds of the event loop's clock.
        Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE_S):
            while text not in CONTROL.sub("", self.received.decode("utf-8", "replace")):
                self._news.clear()
                await self._news.wait()
        return self._loop.time()

    def press(self, key: str) -> float:
        """Send a key; the moment."""
        self.received.clear()
        os.write(self.ours, key.encode())
        return self._loop.time()

    def cpu_s(self) -> float:
        """CPU seconds that the program has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory_mib(self) -> float:
        """Resident memory."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    async def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(self.process.wait, 10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)
        self._loop.remove_reader(self.ours)
        os.close(self.ours)


async def measure(wanted: Wanted) -> Measured:
    """Play the deck, open the dashboard on it, measure, close both. Raises TimeoutError when nothing is shown."""
    with tempfile.TemporaryDirectory(prefix="gd-") as home:
        environ = {**os.environ, HOME_VARIABLE: home, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        for name in ("COLUMNS", "LINES", "TMUX", "NO_COLOR"):
            environ.pop(name, None)
        socket = places(environ).socket_file
        socket.parent.mkdir(parents=True)
        size = [str(wanted.endpoints), str(wanted.workers)]
        player = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "app.bench.player", str(socket), *size, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert player.stdout is not None, "stdout is a pipe"
            async with asyncio.timeout(PATIENCE_S):
                await player.stdout.readline()
            taken = Taken(player.stdout)
            screen = Screen([sys.executable, "-m", "app"], environ, wanted.columns, wanted.rows)
            try:
                return await _figures(screen, taken, wanted)
            finally:
                await screen.close()
                await taken.close()
        finally:
            with suppress(ProcessLookupError):
                player.terminate()
            await player.wait()


class Taken:
    """Counts the frames that the player says were taken from it."""

    def __init__(self, lines: asyncio.StreamReader) -> None:
        self.count = 0
        self._counting = asyncio.create_task(self._read(lines))

    async def _read(self, lines: asyncio.StreamReader) -> None:
        while await lines.readline():
            self.count += 1

    async def close(self) -> None:
        self._counting.cancel()
        with suppress(asyncio.CancelledError):
            await self._counting


async def _figures(screen: Screen, taken: Taken, wanted: Wanted) -> Measured:
    loop = asyncio.get_running_loop()
    painted = await screen.shows(slug(0)) - screen.started
    await screen.shows(_marked(0))
    await asyncio.sleep(2.0)  # what the start leaves behind is not rest
    at, cpu, written, frames = loop.time(), screen.cpu_s(), screen.total, taken.count
    await asyncio.sleep(wanted.seconds)
    rest_s = loop.time() - at
    share, flow = (screen.cpu_s() - cpu) / rest_s, (screen.total - written) / rest_s
    frames_per_s = (taken.count - frames) / rest_s
    waits: list[float] = []
    at, cpu = loop.time(), screen.cpu_s()
    for number in range(wanted.keys):
        # Up and down over the first rows, none of which is ever scrolled away.
        down = number // 6 % 2 == 0
        row = number % 6 + 1 if down else 5 - number % 6
        pressed = screen.press("j" if down else "k")
        waits.append((await screen.shows(_marked(row)) - pressed) * 1_000)
        await asyncio.sleep(KEY_GAP_S)
    busy = (screen.cpu_s() - cpu) / (loop.time() - at)
    return Measured(
        painted * 1_000, percentile(waits, 0.5), percentile(waits, 0.95), max(waits), share, busy, frames_per_s, flow,
        screen.memory_mib(),
    )  # fmt: skip


def _marked(row: int) -> str:
    return f"▌ {slug(row)}"
