"""A run that is killed leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.spawn import process_runs
from tests.waiting import until_sync
from tests.warden import MARK, marked

ROOT = Path(__file__).resolve().parent.parent
RUN = """
import subprocess, sys, time
from tests.warden import watch_over_this_run
watch_over_this_run()
left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"], start_new_session=True)
print(left.pid, flush=True)
time.sleep(100)
"""


pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="a warden needs pidfd_open (Linux 5.3)")


def test_what_this_run_starts_is_marked() -> None:
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as child:
        assert child.pid in marked(os.environ[MARK])
        assert child.stdin is not None
        child.stdin.close()


def test_what_a_killed_run_has_started_ends_with_it() -> None:
    environ = {name: value for name, value in os.environ.items() if name != MARK}
    with subprocess.Popen([sys.executable, "-c", RUN], cwd=ROOT, env=environ, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        left = int(run.stdout.readline())
        assert process_runs(left)
        run.kill()
    until_sync(lambda: not process_runs(left), 30, "the end of what a killed run left")
