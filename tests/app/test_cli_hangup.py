"""A full-screen program whose terminal goes away must end, even when its main thread hangs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROGRAM = """
import pathlib, signal, sys, threading
from app.cli.hangup import HangupGuard
signal.signal(signal.SIGHUP, signal.SIG_IGN)
will = pathlib.Path(sys.argv[1])
with HangupGuard(lambda: will.write_text("done"), grace_s=0.1):
    sys.stdout.write("ready\\n"); sys.stdout.flush()
    if sys.argv[2] == "hang":
        threading.Event().wait()
sys.exit(7)
"""


def run(will: Path, mode: str) -> tuple[int, int]:
    """Start PROGRAM on a terminal of its own; returns its pid's exit status and the master end, still open."""
    master, slave = os.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(will), mode], stdin=slave, stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    os.close(slave)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        if mode == "hang":
            os.close(master)
        return child.wait(timeout=30), master


def test_a_hung_program_ends_and_leaves_its_will(tmp_path: Path) -> None:
    status, _ = run(tmp_path / "will", "hang")
    assert status == 129
    assert (tmp_path / "will").read_text() == "done"


def test_a_program_that_leaves_by_itself_is_not_touched(tmp_path: Path) -> None:
    status, master = run(tmp_path / "will", "leave")
    os.close(master)
    assert status == 7
    assert not (tmp_path / "will").exists()
