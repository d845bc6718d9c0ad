"""Backups: whole, checked, made while money is written, and a way back from each refusal to open."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.places import HOME_VARIABLE, places
from orchestrator.core.writes import CreditAdded
from orchestrator.ledger import backups, opening, schema, store
from orchestrator.ledger.ports import LedgerDamaged, LedgerError
from orchestrator.ledger.store import SqliteLedger
from orchestrator.lock import DirectoryLock
from tests.ledger.crash_batches import batch
from tests.ledger.crash_batches import opening as first_batch
from tests.ledger.samples import T0, Wall, account, opened
from tests.waiting import until_sync

LATER = Wall(T0 + 3_600 * SECOND_NS)
DAY_NS = 86_400 * SECOND_NS
ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger of twenty workers in a directory of its own."""
    found = tmp_path / "data" / "ledger.db"
    with opened(found) as ledger:
        ledger.write(first_batch()).result()
        for number in range(20):
            ledger.write(batch(number)).result()
    return found


def money(path: Path) -> list[object]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT * FROM journal").fetchall()
        return rows + connection.execute("SELECT * FROM entry").fetchall()


def topup(number: int) -> CreditAdded:
    return CreditAdded("local", 1 + number, f"more-{number}", "", T0)


def test_a_backup_is_a_private_ledger_with_the_same_money(path: Path) -> None:
    with opened(path, LATER) as ledger:
        made = ledger.back_up().result()
        again = ledger.back_up().result()
    assert made.name == "ledger-20251009T095320Z.db"
    assert again.name == "ledger-20251009T095320Z-1.db"
    assert money(made) == money(path)
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.parent.stat().st_mode) == 0o700
    assert sorted(file.name for file in made.parent.iterdir()) == [again.name, made.name]
    with opened(made, LATER) as ledger:
        assert ledger.verify().result().problems == ()
    assert backups.examine(again).head == 41


def test_money_is_written_while_a_backup_is_made(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs run between two steps of the copy: they do not wait for its end, and the copy is whole."""
    monkeypatch.setattr(backups, "STEP_PAGES", 1)
    done: list[int] = []
    with opened(path, LATER) as ledger:
        backup = ledger.back_up()
        for number in range(60):
            write = ledger.write((topup(number),))
            write.add_done_callback(lambda _, n=number: done.append(n) if not backup.done() else None)
        refused = ledger.back_up()
        made = backup.result()
        with pytest.raises(LedgerError, match="a backup is being made already"):
            refused.result()
        assert ledger.verify().result().problems == ()
    assert done == list(range(60))
    with opened(made, LATER) as copy:
        assert copy.verify().result().problems == ()
        topped_up_u = copy.bill("local", None, T0).result().topped_up_u
    with opened(path, LATER) as whole:
        assert whole.bill("local", None, T0).result().topped_up_u == topped_up_u, "all writes came before the last step"


def test_a_write_that_fails_during_a_backup_fails_alone(path: Path) -> None:
    with opened(path, LATER) as ledger:
        backup = ledger.back_up()
        bad = ledger.write((CreditAdded("nobody", 1, "k", "", T0),))
        good = ledger.write((topup(1),))
        assert isinstance(bad.exception(), LedgerError)
        good.result()
        assert backups.examine(backup.result()).head >= 41


def test_closing_during_a_backup_leaves_no_half(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backups, "STEP_PAGES", 1)
    ledger = SqliteLedger(path, LATER)
    waiting = threading.Event()
    ledger.write((topup(1),)).add_done_callback(lambda _: waiting.wait(60))
    backup, last = ledger.back_up(), ledger.write((topup(2),))
    closing_thread = threading.Thread(target=ledger.close)
    closing_thread.start()
    until_sync(lambda: ledger._jobs.qsize() == 3, what="backup, write and end to be queued")
    waiting.set()
    closing_thread.join()
    with pytest.raises(LedgerError, match="closed before its backup was complete"):
        backup.result()
    last.result()
    assert list(backups.backups_of(path).iterdir()) == []


def test_a_damaged_ledger_makes_no_backup(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "QUICK_CHECK_BYTES", 0)
    damage(path, "event")
    with opened(path, LATER) as ledger:
        with pytest.raises(LedgerDamaged, match=r"ledger\.db: .*(corrupt|malformed)"):
            ledger.back_up().result()
        ledger.write((topup(1),)).result()
    assert list(backups.backups_of(path).iterdir()) == []


def damage(path: Path, table: str) -> None:
    """Overwrite the first page of a table."""
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


def test_a_large_file_is_verified_in_a_copy(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "VERIFY_BYTES", 0)
    with opened(path, LATER) as ledger:
        found = ledger.verify().result()
        ledger.write((topup(1),)).result()
    assert (found.ok, found.head) == (True, 41)
    assert list(backups.backups_of(path).iterdir()) == []


def test_a_large_file_is_not_read_whole_at_open(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "QUICK_CHECK_BYTES", 0)
    with opened(path, LATER) as ledger:
        assert ledger.verify().result().ok
    damage(path, "journal")
    with pytest.raises(LedgerError, match=r"ledger\.db: .*(corrupt|malformed)"):
        SqliteLedger(path, LATER)


def named(days: list[int], times: int = 1) -> list[Path]:
    return [Path(f"ledger-202603{day:02}T{hour:02}0000Z.db") for day in reversed(days) for hour in range(times, 0, -1)]


def test_the_newest_stay_and_one_of_each_day() -> None:
    assert backups.expired(named([1, 2, 3, 4, 5, 6, 7])) == []
    assert backups.expired(named([1, 2, 3, 4, 5, 6, 7, 8])) == named([1])
    restarts = [*named([9], 20), *named([1, 2, 3, 4, 5, 6, 7, 8])]
    kept = [file for file in restarts if file not in backups.expired(restarts)]
    assert kept == [*named([9], 20)[:7], *named([3, 4, 5, 6, 7, 8])]


def test_a_clock_set_back_does_not_remove_the_new_one(path: Path) -> None:
    wall = Wall(T0 + 30 * DAY_NS)
    with opened(path, wall) as ledger:
        for _ in range(9):
            wall.ns += DAY_NS
            ledger.back_up().result()
        assert len(backups.list_backups(backups.backups_of(path))) == 7
        wall.ns = T0 + DAY_NS
        assert ledger.back_up().result().exists()


@contextmanager
def refused(path: Path) -> Iterator[list[str]]:
    found: list[str] = []
    yield found
    with pytest.raises(LedgerError) as failure:
        SqliteLedger(path, LATER)
    found.append(str(failure.value))


@pytest.mark.parametrize("how", ["damaged", "truncated", "empty", "newer", "lost"])
def test_a_refusal_names_the_newest_good_backup(path: Path, how: str) -> None:
    wall = Wall(T0 + DAY_NS)
    with opened(path, wall) as ledger:
        good = ledger.back_up().result()
        wall.ns += DAY_NS
        bad = ledger.back_up().result()
    bad.write_bytes(bad.read_bytes()[:5_000])
    if how == "damaged":
        damage(path, "entry")
    elif how == "lost":
        path.rename(path.with_name("ledger.db-journal"))
    elif how == "newer":
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION + 1}")
    else:
        path.write_bytes(path.read_bytes()[: 4_096 if how == "truncated" else 0])
    with refused(path) as sentence:
        pass
    assert sentence[0].endswith(
        f"The newest good backup is of 2025-10-10 08:53 UTC; to go back to it: gpudeck ledger restore {good}"
    )
    good.unlink()
    with refused(path) as sentence:
        pass
    assert sentence[0].endswith(f"There is no good backup in {path.parent / 'backups'}")


def test_a_locked_file_is_no_reason_to_restore(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as stranger:
        stranger.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LedgerError, match="locked") as failure:
            SqliteLedger(path, LATER, busy_timeout_ms=10)
    assert "backup" not in str(failure.value)


def test_a_restore_keeps_what_was_there(path: Path) -> None:
    with opened(path, LATER) as ledger:
        made = ledger.back_up().result()
        ledger.write((topup(1),)).result()
    damaged = path.read_bytes()[:-1]
    path.write_bytes(damaged)
    path.with_name("ledger.db-journal").write_bytes(b"hot")
    done = backups.restore(made, path, T0)
    assert money(path) == money(made)
    assert done.aside == path.with_name("ledger.db.damaged-20251009T085320Z")
    assert done.aside.read_bytes() == damaged
    assert path.with_name("ledger.db.damaged-20251009T085320Z-journal").read_bytes() == b"hot"
    assert not path.with_name("ledger.db-journal").exists()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with opened(path, LATER) as ledger:
        ledger.write(batch(20)).result()
        assert ledger.verify().result().problems == ()


def test_a_restore_of_rubbish_changes_nothing(path: Path, tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish.db"
    rubbish.write_bytes(path.read_bytes()[:20_000])
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=r"corrupt|malformed"):
        backups.restore(rubbish, path, T0)
    rubbish.write_text("no database")
    with pytest.raises(LedgerError, match="not a database"):
        backups.restore(rubbish, path, T0)
    assert path.read_bytes() == before
    assert {entry.name for entry in path.parent.iterdir()} == {"ledger.db"}


def test_an_open_directory_is_tightened(path: Path) -> None:
    path.parent.chmod(0o755)
    with opened(path, LATER):
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def program(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", *arguments],
        cwd=ROOT, env={**os.environ, HOME_VARIABLE: str(home)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_program_backs_up_and_restores_only_alone(tmp_path: Path) -> None:
    where = places({HOME_VARIABLE: str(tmp_path)})
    assert program(tmp_path, "backup").returncode == 65
    with opened(where.ledger_file) as ledger:
        ledger.write(account()).result()
    made = json.loads(program(tmp_path, "backup").stdout)
    assert made["head"] == 1
    lock = DirectoryLock(where.lock_file)
    running = program(tmp_path, "restore", made["path"])
    lock.release()
    assert (running.returncode, "in use by another orchestrator" in running.stderr) == (75, True)
    itself = program(tmp_path, "restore", str(where.ledger_file))
    assert (itself.returncode, "is the ledger itself" in itself.stderr) == (65, True)
    where.ledger_file.write_bytes(b"")
    done = json.loads(program(tmp_path, "restore", made["path"]).stdout)
    assert (done["head"], done["last"]) == (1, "2025-10-09T08:53:20+00:00")
    assert Path(done["aside"]).read_bytes() == b""
    with opened(where.ledger_file) as ledger:
        assert ledger.load().result().balances_u == {"local": 1_000_000_000}
