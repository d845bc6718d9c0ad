"""The registry of crash points, the variable, and that the program passes exactly the points it names."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import crash

ROOT = Path(crash.__file__).parent


def test_the_program_passes_no_point_that_is_not_registered() -> None:
    """That each registered one is reached is shown by tests/e2e/test_crash.py."""
    passed = set()
    for file in ROOT.rglob("*.py"):
        passed |= set(re.findall(r'\bpoint\(f?"([^"]+)"\)', file.read_text()))
    plain = {name for name in passed if "{" not in name}
    assert plain <= set(crash.POINTS)
    assert passed - plain == {"commit.{kind}.before", "commit.{kind}.after"}
    assert plain == {name for name in crash.POINTS if not name.startswith("commit.")}


def test_without_the_variable_nothing_happens() -> None:
    crash.arm({})
    for name in crash.POINTS:
        crash.point(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nowhere#1", "no point 'nowhere'; there are: commit.command.before"),
        ("boot.loaded", "number of the passage"),
        ("boot.loaded#0", "number of the passage"),
        ("boot.loaded#-1", "number of the passage"),
        ("boot.loaded#x", "number of the passage"),
    ],
)
def test_a_bad_variable_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        crash.arm({crash.VARIABLE: text})


@pytest.mark.parametrize(("number", "survived"), [(1, 0), (3, 2)])
def test_the_process_dies_at_the_nth_passage(number: int, survived: int) -> None:
    program = (
        "import os\nfrom orchestrator import crash\ncrash.arm(os.environ)\n"
        "for _ in range(5):\n    crash.point('boot.listed')\n    crash.point('boot.loaded')\n    os.write(1, b'.')\n"
    )
    environ = {**os.environ, crash.VARIABLE: f"boot.loaded#{number}"}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, timeout=30, check=False)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == b"." * survived
