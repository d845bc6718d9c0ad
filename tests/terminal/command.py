"""`gpudeck` as a user's shell runs it: a process of its own, over a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from orchestrator.contract.places import HOME_VARIABLE

ROOT = Path(__file__).resolve().parents[2]
GPUDECK = (sys.executable, "-m", "app")


def environ(home: Path, **more: str) -> dict[str, str]:
    """The environment of a terminal without multiplexer, whose size is what the terminal says it is."""
    found = {**os.environ, HOME_VARIABLE: str(home), "LANG": "C.UTF-8", "TERM": "xterm-256color", **more}
    for name in ("TMUX", "COLUMNS", "LINES", "NO_COLOR", "GPUDECK_THEME"):
        if name not in more:
            found.pop(name, None)
    return found


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*GPUDECK, *arguments], env=environ(home), cwd=ROOT, capture_output=True, text=True, check=False
    )


def data(home: Path, *arguments: str) -> Any:
    """What `gpudeck ARGUMENTS -o json` prints."""
    done = run(home, *arguments, "-o", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
