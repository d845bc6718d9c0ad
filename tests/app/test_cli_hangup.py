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
will, mode, grace_s = pathlib.Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
wanted = threading.Event()
with HangupGuard(wanted.set, lambda: will.write_text("done"), grace_s=grace_s):
    sys.stdout.write("ready\\n"); sys.stdout.flush()
    if mode == "hang":
        threading.Event().wait()
    if mode == "draw":
        wanted.wait()
        sys.stderr.write("one more picture"); sys.stderr.flush()
sys.exit(7)
"""


def run(will: Path, mode: str, grace_s: float) -> int:
    """Start PROGRAM on a terminal of its own, which goes away once it is ready unless the program is to leave by
    itself; returns its exit status."""
    master, slave = os.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(will), mode, str(grace_s)],
        stdin=slave, stdout=subprocess.PIPE, stderr=slave, cwd=ROOT, text=True,
    )  # fmt: skip
    os.close(slave)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        if mode != "leave":
            os.close(master)
        status = child.wait(timeout=60)
    if mode == "leave":
        os.close(master)
    return status


def test_a_hung_program_ends_and_leaves_its_will(tmp_path: Path) -> None:
    assert run(tmp_path / "will", "hang", 0.1) == 129
    assert (tmp_path / "will").read_text() == "done"


def test_a_program_that_leaves_by_itself_is_not_touched(tmp_path: Path) -> None:
    assert run(tmp_path / "will", "leave", 60) == 7
    assert not (tmp_path / "will").exists()


def test_one_that_still_draws_is_asked_to_leave_and_its_last_picture_is_no_error(tmp_path: Path) -> None:
    assert run(tmp_path / "will", "draw", 60) == 7
    assert not (tmp_path / "will").exists()
