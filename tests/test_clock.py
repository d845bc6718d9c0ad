"""The clock goes on across a restart while something is charged, whatever happened to the wall clock."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from orchestrator.clock import continued_now, system_now
from orchestrator.contract.base import HOUR_NS, SECOND_NS

NEAR_NS = 5 * SECOND_NS


def shift(monkeypatch: pytest.MonkeyPatch, by_ns: int) -> None:
    """Set the wall clock."""
    real = time.time_ns
    monkeypatch.setattr("orchestrator.clock.time.time_ns", lambda: real() + by_ns)


@pytest.mark.parametrize("by_ns", [HOUR_NS, -HOUR_NS])
def test_setting_the_wall_clock_charges_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_ns: int) -> None:
    first = continued_now(tmp_path / "clock.json", "boot", 0)
    charged_to_ns = first()
    shift(monkeypatch, by_ns)
    second = continued_now(tmp_path / "clock.json", "boot", charged_to_ns)
    assert 0 <= second() - charged_to_ns < NEAR_NS
    third = continued_now(tmp_path / "clock.json", "boot", 0)
    assert abs(third() - charged_to_ns - by_ns) < NEAR_NS, "with nothing running the wall clock is right again"


def test_after_a_reboot_time_never_starts_before_what_was_charged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    charged_to_ns = continued_now(tmp_path / "clock.json", "boot", 0)()
    shift(monkeypatch, -HOUR_NS)
    now = continued_now(tmp_path / "clock.json", "other boot", charged_to_ns)
    assert 0 <= now() - charged_to_ns < NEAR_NS
    shift(monkeypatch, 3 * HOUR_NS)
    assert continued_now(tmp_path / "clock.json", "yet another", charged_to_ns)() - charged_to_ns > HOUR_NS


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"boot_id": "boot", "anchor_ns": "1"}', '{"boot_id": "boot"}'])
def test_a_damaged_file_is_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "clock.json").write_text(text)
    before_ns = system_now()()
    assert 0 <= continued_now(tmp_path / "clock.json", "boot", before_ns)() - before_ns < NEAR_NS
    assert json.loads((tmp_path / "clock.json").read_bytes())["boot_id"] == "boot"


def test_a_directory_that_cannot_be_written_does_not_stop_time(tmp_path: Path) -> None:
    now = continued_now(tmp_path / "missing" / "clock.json", "boot", 1)
    assert now() <= now()
