"""Ending by a signal leaves the terminal as it was: checked on a real pseudo-terminal."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys

import pytest

from tests.waiting import until_sync

PROGRAM = """
from app.app import GpudeckApp
from tests.app.fakes import FakeClient, rich
GpudeckApp(FakeClient(rich())).run()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_restores_the_terminal(number: signal.Signals) -> None:
    ours, theirs = pty.openpty()
    environ = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=theirs, stdout=theirs, stderr=theirs, env=environ, start_new_session=True
    )
    os.close(theirs)
    seen = bytearray()

    def pump() -> bytes:
        while select.select([ours], [], [], 0)[0]:
            try:
                piece = os.read(ours, 65_536)
            except OSError:  # EIO: the other side is closed
                break
            if not piece:
                break
            seen.extend(piece)
        return bytes(seen)

    try:
        until_sync(lambda: b"llama-70b" in pump(), timeout_s=60, what="the first picture")
        assert b"\x1b[?1049h" in seen
        program.send_signal(number)
        until_sync(lambda: pump() is not None and program.poll() is not None, timeout_s=30, what="the program to end")
        assert program.returncode == 0
        assert b"\x1b[?1049l" in pump(), "the alternate screen is still on"
        assert b"\x1b[?1000l" in seen, "mouse reporting is still on"
        assert b"\x1b[?25h" in seen, "the cursor is still hidden"
    finally:
        program.kill()
        program.wait()
        os.close(ours)
