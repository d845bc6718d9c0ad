"""What doctor says of files; what it says of mail and secrets is with those (tests/e2e/test_mail.py, tests/ledger)."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.contract.places import HOME_VARIABLE, Places, places
from orchestrator.doctor import _calls, _ledger
from orchestrator.ledger.store import SqliteLedger


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


def test_a_ledger_that_will_not_open_says_so_and_shows_the_way_back(home: Places) -> None:
    assert _ledger(home.ledger_file).detail == "none yet"
    ledger = SqliteLedger(home.ledger_file, lambda: 0)
    in_use = _ledger(home.ledger_file)
    ledger.close()
    assert (in_use.state, in_use.detail) == ("ok", "0 journal rows; `gpudeck ledger verify` recomputes them")
    with closing(sqlite3.connect(home.ledger_file)) as connection:
        connection.execute("PRAGMA user_version = 99")
    newer = _ledger(home.ledger_file)
    assert newer.state == "fail"
    assert "its schema 99 is newer than" in newer.detail
    assert "There is no good backup in" in newer.detail
    home.ledger_file.write_bytes(b"no database at all" * 100)
    assert "file is not a database" in _ledger(home.ledger_file).detail
