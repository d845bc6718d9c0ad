"""A day with the command line: a real orchestrator, a real worker, from `up` to `down`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.spawn import process_runs
from orchestrator.contract.places import HOME_VARIABLE
from tests.app.cli_runner import data_sync, gpudeck_sync
from tests.waiting import until_sync

PICTURE = Path(__file__).parents[2] / "assets" / "images" / "landscape.jpg"


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Short, because a socket path has 100 bytes at most; whatever happens, nothing keeps running."""
    monkeypatch.delenv("GPUDECK_API_KEY", raising=False)
    with tempfile.TemporaryDirectory(prefix="gd-") as directory:
        monkeypatch.setenv(HOME_VARIABLE, directory)
        yield Path(directory)
        assert gpudeck_sync("down").exit_code == 0


def test_from_up_to_down(home: Path) -> None:
    started = data_sync("up", "--engine", "process", "--gpus", "L40:2", "--port", "0", "--timeout", "60")
    assert started["started"] is True
    assert started["simulated_gpus"] is True
    assert data_sync("up")["started"] is False

    create = ("endpoint", "create", "sketch", "--model", "sketch", "--gpu", "L40", "--workers", "1-2")
    quote = data_sync(*create, "--dry-run")["quote"]
    assert isinstance(quote, dict)
    assert quote["worst_case_per_hour_u"] == 2_670_000 + 3_600 * 4_240
    assert data_sync(*create, "--wait", "--wait-timeout", "60")["state"] == "serving"
    again = gpudeck_sync(*create)
    assert again.exit_code == 4
    assert "sketch" in again.stderr

    out = home / "out.png"
    called = gpudeck_sync("call", "sketch", "--image", str(PICTURE), "-q", "max_side=128", "--out", str(out))
    assert called.exit_code == 0, called.stderr
    assert out.read_bytes().startswith(b"\x89PNG")
    assert "worker sketch-1" in called.stderr
    assert gpudeck_sync("call", "sketch", "--json", "{}").exit_code == 1, "the worker refuses a call without a picture"
    assert gpudeck_sync("call", "sketch", "--key", "wrong", "--json", "{}").exit_code == 4

    assert "ready" in gpudeck_sync("ps").stdout
    # The worker writes the line after its reply, and it goes through a pipe to the file.
    until_sync(lambda: "POST /predict" in gpudeck_sync("logs", "sketch").stdout, what="the call in the log")
    too_much = gpudeck_sync("endpoint", "update", "sketch", "--workers", "2-11")
    assert too_much.exit_code == 4, "more than 10 workers need the operator's limit"

    gone = gpudeck_sync("endpoint", "rm", "sketch", "--yes")
    assert gone.exit_code == 0, gone.stderr
    bill = data_sync("bill")
    assert isinstance(bill["total_u"], int)
    assert bill["total_u"] > 0
    assert data_sync("ledger", "verify")["ok"] is True

    pid = started["pid"]
    assert isinstance(pid, int)
    assert gpudeck_sync("down").exit_code == 0
    assert not process_runs(pid)
    assert gpudeck_sync("status").exit_code == 69
