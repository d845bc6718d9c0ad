"""What doctor says of files; what it says of mail and secrets is with those (tests/e2e/test_mail.py, tests/ledger)."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.contract.places import HOME_VARIABLE, Places, places
from orchestrator.doctor import _calls


@pytest.fixture
def home(tmp_path: Path) -> Places:
    found = places({HOME_VARIABLE: str(tmp_path)})
    found.data.mkdir()
    return found


def test_asynchronous_calls_are_nobody_else_s_and_in_no_backup(home: Places) -> None:
    assert _calls(home).detail == "none yet"
    for file in (home.deferred_file, home.webhook_key_file):
        file.touch(0o600)
    kept = _calls(home)
    assert kept.state == "ok"
    assert kept.detail.startswith("deferred.db and webhook.key: readable by you alone, in no backup")
    home.deferred_file.chmod(0o640)
    open_to_others = _calls(home)
    assert (open_to_others.state, open_to_others.detail) == (
        "fail",
        f"others may read {home.deferred_file}: chmod 600",
    )
