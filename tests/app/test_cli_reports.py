"""Commands that run one of the orchestrator's own programs: how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from app.spawn import process_runs
from orchestrator.contract.places import HOME_VARIABLE
from tests.app.cli_runner import gpudeck_sync
from tests.waiting import until_sync

ROOT = Path(__file__).parents[2]


def test_a_mail_can_be_tried_with_an_address(home: Path) -> None:
    result = gpudeck_sync("mail", "test", "ada@example.org")
    assert "not configured" in result.stdout
    assert "usage" not in result.stderr


def test_one_that_is_asked_to_end_takes_its_program_along(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import os, pathlib, signal\npathlib.Path('pid').write_text(f'{os.getpid()} ')\nsignal.pause()\n"
    )
    command = "from app.cli.reports import run_program; run_program(['wait'], 60, 'slow')"
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}", HOME_VARIABLE: str(tmp_path)}
    running = subprocess.Popen(
        [sys.executable, "-c", command], cwd=tmp_path, env=environ, stderr=subprocess.PIPE, text=True
    )
    with running:
        written = tmp_path / "pid"
        until_sync(lambda: written.exists() and written.read_text().endswith(" "), 60)
        running.send_signal(signal.SIGTERM)
        _, said = running.communicate(timeout=60)
    assert "interrupted" in said
    until_sync(lambda: not process_runs(int(written.read_text())), 60)
