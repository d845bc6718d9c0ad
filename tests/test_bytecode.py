"""What a run compiles is there for the processes that it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bytecode import CACHE, share_bytecode

ROOT = Path(__file__).resolve().parent.parent
RUN = """
import subprocess, sys
from tests.bytecode import share_bytecode
share_bytecode()
subprocess.run([sys.executable, "-c", "import app.format; print(app.format.__cached__)"], check=True)
"""


def test_where_writing_it_is_forbidden_it_goes_to_a_directory_of_its_own() -> None:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPYCACHEPREFIX"}
    environ["PYTHONDONTWRITEBYTECODE"] = "1"
    done = subprocess.run(
        [sys.executable, "-c", RUN], cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True, timeout=60, check=True
    )
    compiled = Path(done.stdout.strip())
    assert compiled.is_relative_to(CACHE)
    assert compiled.exists()


def test_where_it_is_written_anyway_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    share_bytecode()
    assert sys.pycache_prefix is None
