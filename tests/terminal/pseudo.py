"""A program on a pseudo-terminal of its own, as its controlling terminal: closing it is what closing a window is."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from app.bench.tui import CONTROL
from tests.terminal.command import ROOT
from tests.waiting import until_sync

LAUNCH = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
MODES = re.compile(rb"\x1b\[\?([0-9;]+)([hl])")
USUAL_MODES = {7, 25}
"""Lines wrap and the cursor shows; mouse, paste, focus, alternate screen are off."""
PATIENCE_S = 90.0


class Pseudo:
    """`seen` is everything that the program wrote. Whoever waits reads it, else the program would block."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], columns: int, rows: int) -> None:
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (rows, columns))
        self.before = self.settings()
        self.seen = bytearray()
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, *command], cwd=ROOT, env=environ, stdin=theirs, stdout=theirs,
            stderr=theirs, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)

    def settings(self) -> list[Any]:
        """The line discipline: echo, line by line, signals by keys."""
        return termios.tcgetattr(self._ours)

    def read(self) -> None:
        """Take in what is there."""
        while self._ours >= 0 and select.select([self._ours], [], [], 0)[0]:
            try:
                piece = os.read(self._ours, 65_536)
            except OSError:  # EIO: nobody has the other end any more
                return
            if not piece:
                return
            self.seen += piece

    @property
    def text(self) -> str:
        """What was written so far, without control codes."""
        self.read()
        return CONTROL.sub("", self.seen.decode("utf-8", "replace"))

    def shows(self, text: str) -> None:
        until_sync(lambda: text in self.text or self.process.poll() is not None, PATIENCE_S, f"{text!r} to be shown")
        assert text in self.text, f"ended with {self.process.returncode}: {self.text[-2_000:]}"

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def ends(self) -> int:
        """Wait for the end of the program; its exit status."""
        until_sync(lambda: self.read() or self.process.poll() is not None, PATIENCE_S, "the program to end")
        self.read()
        return self.process.returncode

    def modes(self) -> set[int]:
        """The terminal's private modes that are on now."""
        on = set(USUAL_MODES)
        for numbers, switch in MODES.findall(self.seen):
            for number in map(int, numbers.split(b";")):
                on.add(number) if switch == b"h" else on.discard(number)
        return on

    def hang_up(self) -> None:
        """Close the window."""
        os.close(self._ours)
        self._ours = -1

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        if self._ours >= 0:
            self.hang_up()


@contextmanager
def pseudo(command: Sequence[str], environ: Mapping[str, str], columns: int = 100, rows: int = 30) -> Iterator[Pseudo]:
    """Whatever happens, the program does not outlive the block."""
    terminal = Pseudo(command, environ, columns, rows)
    try:
        yield terminal
    finally:
        terminal.close()
