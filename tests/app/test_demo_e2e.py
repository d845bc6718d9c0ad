"""The demo as a user runs it: real orchestrator, real worker processes, real pictures, in a directory of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.contract.places import HOME_VARIABLE
from tests.processes import holders
from tests.waiting import until_sync

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "app", "demo", "--headless", "--engine", "process", "-o", "json", "--timeout", "200")


@pytest.fixture
def environ() -> Iterator[dict[str, str]]:
    """A directory for temporary files with a short name (a socket path has 100 bytes at most), and a GPUDECK_HOME that
    the demo must not touch."""
    with tempfile.TemporaryDirectory(prefix="gd-") as temporary:
        yield {**os.environ, HOME_VARIABLE: "/nowhere/at/all", "TMPDIR": temporary, "PYTHONPATH": str(ROOT)}


def test_the_headless_demo_keeps_every_promise(environ: dict[str, str]) -> None:
    done = subprocess.run(COMMAND, env=environ, cwd=ROOT, capture_output=True, timeout=240, check=False)
    talk = done.stderr.decode()
    assert done.returncode == 0, talk
    report = json.loads(done.stdout)
    assert report["ok"] is True
    assert report["engine"] == "process"
    assert report["simulated_gpus"] is True
    assert report["requests"]["failed"] == 0
    assert report["requests"]["succeeded"] == sum(report["per_worker"].values())
    assert len(report["per_worker"]) == 2, "both workers answered"
    assert max(ready for _, _, ready, _ in report["workers_over_time"]) == 2
    assert all(start["first_byte_ms"] >= start["healthy_ms"] > 0 for start in report["cold_starts"])
    # The bill, recomputed by hand from its own lines: floor(rate × nanoseconds / 1 h), and nothing still open.
    for line in report["ledger"]:
        assert line["amount_u"] == line["rate_uh"] * (line["end_ns"] - line["start_ns"]) // 3_600_000_000_000
    assert report["total_u"] == sum(line["amount_u"] for line in report["ledger"] if not line["absorbed"])
    assert report["balance_u"] == report["topped_up_u"] - report["total_u"]
    assert "SIMULATED" in talk
    temporary = Path(environ["TMPDIR"])
    assert list(temporary.iterdir()) == [], "the home is gone"
    assert holders(temporary) == []


@pytest.mark.parametrize("when", [b"starting a private orchestrator", b"is ready"])
def test_a_terminated_demo_leaves_nothing_behind(environ: dict[str, str], when: bytes) -> None:
    temporary = Path(environ["TMPDIR"])
    child = subprocess.Popen(COMMAND, env=environ, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert child.stderr is not None
        for line in child.stderr:
            if when in line:
                break
        until_sync(lambda: len(list(temporary.iterdir())) == 1, what="its home")
        [home] = temporary.iterdir()
        assert home.name.startswith("gpudeck-demo-")
        until_sync(lambda: holders(home), what="its orchestrator to run")
        child.send_signal(signal.SIGTERM)
        _, talk = child.communicate(timeout=120)
    finally:
        child.kill()
        child.communicate()
    assert child.returncode == 130
    assert b"gpudeck: interrupted" in talk
    assert b"Traceback" not in talk
    until_sync(lambda: holders(temporary) == [], what="the orchestrator and its workers to end")
    assert list(temporary.iterdir()) == [], talk.decode()
