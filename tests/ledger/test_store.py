"""The thread, the file and its locks: how the ledger behaves when the machine does not."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.contract.base import HOUR_NS
from orchestrator.core.writes import CreditAdded, CreditRequired, Write
from orchestrator.ledger.opening import journal_settings, open_ledger
from orchestrator.ledger.ports import CreditChanged, LedgerError
from orchestrator.ledger.store import SqliteLedger
from tests.ledger.samples import T0, Wall, account, endpoint, intent, interval, opened, posting, worker_day


def raw(path: Path) -> closing[sqlite3.Connection]:
    """A stranger's connection."""
    return closing(sqlite3.connect(path, isolation_level=None, timeout=0))


def topup(number: int, memo: str = "") -> CreditAdded:
    return CreditAdded("local", 1 + number, f"key-{number}", memo, T0)


def test_thread_is_named_and_joined(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db", Wall())
    assert "gpudeck-ledger" in {thread.name for thread in threading.enumerate()}
    last = ledger.write(account())
    ledger.close()
    ledger.close()
    assert last.done(), "close finishes what was queued"
    assert "gpudeck-ledger" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(LedgerError, match="it is closed"):
        ledger.load().result()


def test_a_refused_file_leaves_no_thread(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"")
    with pytest.raises(LedgerError, match="is empty: it was truncated"):
        SqliteLedger(tmp_path / "ledger.db", Wall())
    assert "gpudeck-ledger" not in {thread.name for thread in threading.enumerate()}


def test_file_and_directory_are_private(tmp_path: Path) -> None:
    path = tmp_path / "data" / "ledger.db"
    with opened(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o644)
    with opened(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["ledger.db"]


def test_settings_fit_the_version_of_sqlite(tmp_path: Path) -> None:
    assert journal_settings((3, 40, 1)) == journal_settings((3, 51, 2)) == ("delete", "EXTRA")
    assert journal_settings((3, 51, 3)) == ("wal", "FULL")
    with opened(tmp_path / "ledger.db"):
        pass
    mode, synchronous = journal_settings(sqlite3.sqlite_version_info)
    with closing(open_ledger(tmp_path / "ledger.db", 5_000).connection) as connection:
        actual = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "trusted_schema", "busy_timeout")
        }
    assert actual == {
        "journal_mode": mode,
        "synchronous": {"FULL": 2, "EXTRA": 3}[synchronous],
        "foreign_keys": 1,
        "trusted_schema": 0,
        "busy_timeout": 5_000,
    }


def test_the_instance_id_is_made_once(tmp_path: Path) -> None:
    with opened(tmp_path / "a.db") as ledger:
        first = ledger.load().result().instance
    with opened(tmp_path / "a.db") as ledger:
        assert ledger.load().result().instance == first
    with opened(tmp_path / "b.db") as ledger:
        assert ledger.load().result().instance != first


@pytest.mark.parametrize("table", ["journal", "entry"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE {} SET rowid = rowid",
        "UPDATE {} SET amount_u = amount_u + 1",
        "DELETE FROM {}",
        "INSERT OR REPLACE INTO {} SELECT * FROM {} LIMIT 1",
    ],
)
def test_money_is_append_only_even_for_a_stranger(tmp_path: Path, table: str, statement: str) -> None:
    with opened(tmp_path / "ledger.db") as ledger:
        ledger.write((*account(), endpoint(), *worker_day())).result()
    if table == "entry" and "rowid" in statement:
        statement = "UPDATE {} SET txn_id = txn_id"
    with raw(tmp_path / "ledger.db") as stranger:
        before = stranger.execute(f"SELECT * FROM {table}").fetchall()
        assert len(before) >= 2
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            stranger.execute(statement.replace("{}", table))
        assert stranger.execute(f"SELECT * FROM {table}").fetchall() == before


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE interval SET rate_uh = 1", "never change"),
        ("UPDATE interval SET start_ns = 1", "never change"),
        ("UPDATE interval SET end_ns = end_ns + 1", "is closed"),
        ("UPDATE interval SET end_ns = NULL, end_source = NULL", "is closed"),
        ("DELETE FROM interval", "are kept"),
        (
            "INSERT INTO interval SELECT 'again', worker_id, endpoint, account, gpu_type, tier, rate_uh, price_book,"
            " start_ns + 1, boot_id, last_seen_ns, NULL, NULL, NULL, 0 FROM interval",
            "overlaps",
        ),
    ],
)
def test_the_terms_of_an_interval_are_frozen(tmp_path: Path, statement: str, message: str) -> None:
    with opened(tmp_path / "ledger.db") as ledger:
        ledger.write((*account(), endpoint(), *worker_day())).result()
    with raw(tmp_path / "ledger.db") as stranger, pytest.raises(sqlite3.IntegrityError, match=message):
        stranger.execute(statement)


@pytest.mark.parametrize("value", [0.5, "much", b"1"])
def test_strict_tables_refuse_other_types(tmp_path: Path, value: object) -> None:
    with opened(tmp_path / "ledger.db"):
        pass
    with raw(tmp_path / "ledger.db") as stranger, pytest.raises(sqlite3.IntegrityError, match="cannot store"):
        stranger.execute("INSERT INTO account (name, opened_ns) VALUES ('a', ?)", (value,))
    with raw(tmp_path / "ledger.db") as stranger:
        tables = dict(
            stranger.execute(
                "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND type = 'table'"
                " AND name NOT LIKE 'sqlite_%' AND name NOT LIKE '_sqlite_%'"
            ).fetchall()
        )
    assert {"account", "api_key", "command", "endpoint", "entry", "event", "interval", "journal", "meta", "worker"} <= (
        set(tables)
    )
    assert set(tables.values()) == {1}


def test_of_two_creates_at_once_exactly_one_passes(tmp_path: Path) -> None:
    """Credit for one; each batch checks it and takes it. The check is inside the transaction, so one must fail."""
    with opened(tmp_path / "ledger.db") as ledger:
        for round_number in range(50):
            owner, slug = f"owner{round_number}", f"demo{round_number}"
            ledger.write((*account(owner, 100), endpoint(slug, owner))).result()
            results = create_twice(ledger, owner, slug)
            failures = [result.exception() for result in results]
            assert sum(failure is None for failure in failures) == 1
            (refused,) = [failure for failure in failures if failure is not None]
            assert isinstance(refused, CreditChanged)
            assert refused.balance_u == 50
        assert ledger.load().result().balances_u == {f"owner{n}": 50 for n in range(50)}
        assert ledger.verify().result().ok


def create_twice(ledger: SqliteLedger, owner: str, slug: str) -> list[Future[None]]:
    """Two threads that hand over a batch at the same instant."""
    together = threading.Barrier(2)
    results: list[Future[None]] = []

    def create(side: int) -> None:
        worker = f"{slug}-{side}"
        of = interval(f"{worker}.1", worker, slug=slug, owner=owner, rate_uh=50)
        batch: tuple[Write, ...] = (CreditRequired(owner, 60), intent(worker, side, slug, owner), of)
        together.wait()
        results.append(ledger.write((*batch, posting(of, T0 + HOUR_NS))))

    threads = [threading.Thread(target=create, args=(side,)) for side in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


async def test_a_cancelled_task_does_not_lose_its_write(tmp_path: Path) -> None:
    with opened(tmp_path / "ledger.db") as ledger:
        for number in range(20):
            ledger.write((*account(), topup(number)))
        waiting = asyncio.ensure_future(asyncio.wrap_future(ledger.write((topup(99),))))
        await asyncio.sleep(0)
        waiting.cancel()
        bill = await asyncio.wrap_future(ledger.bill("local", None, T0))
    assert bill.topped_up_u == 1_000_000_000 + sum(range(1, 21)) + 100


def test_locked_by_a_stranger(tmp_path: Path) -> None:
    with opened(tmp_path / "ledger.db", busy_timeout_ms=50) as ledger, raw(tmp_path / "ledger.db") as stranger:
        ledger.write(account()).result()
        stranger.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LedgerError, match=r"ledger\.db: database is locked \(SQLITE_BUSY\)"):
            ledger.write((topup(1),)).result()
        with pytest.raises(LedgerError, match="locked"):
            ledger.load().result()
        with pytest.raises(LedgerError, match="locked"):
            SqliteLedger(tmp_path / "ledger.db", Wall(), busy_timeout_ms=50)
        stranger.execute("ROLLBACK")
        ledger.write((topup(1),)).result()
        assert ledger.bill("local", None, T0).result().topped_up_u == 1_000_000_002


def test_a_write_waits_for_a_strangers_lock(tmp_path: Path) -> None:
    with opened(tmp_path / "ledger.db", busy_timeout_ms=30_000) as ledger, raw(tmp_path / "ledger.db") as stranger:
        stranger.execute("BEGIN EXCLUSIVE")
        waiting = ledger.write(account())
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.05)
        stranger.execute("ROLLBACK")
        waiting.result()


def test_a_reader_that_stays_blocks_the_commit_and_nothing_else(tmp_path: Path) -> None:
    if journal_settings(sqlite3.sqlite_version_info)[0] == "wal":
        pytest.skip("with WAL readers never block a commit")
    with opened(tmp_path / "ledger.db", busy_timeout_ms=50) as ledger, raw(tmp_path / "ledger.db") as stranger:
        ledger.write(account()).result()
        stranger.execute("BEGIN")
        stranger.execute("SELECT * FROM journal").fetchone()
        with pytest.raises(LedgerError, match="locked"):
            ledger.write((topup(1),)).result()
        assert ledger.bill("local", None, T0).result().topped_up_u == 1_000_000_000
        stranger.execute("ROLLBACK")
        ledger.write((topup(1),)).result()
        assert ledger.verify().result().ok


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one mebibyte."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"mounting a small tmpfs is not allowed here: {mounted.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            return


def test_disk_full_is_reported_and_survived(small_disk: Path) -> None:
    with opened(small_disk / "ledger.db") as ledger:
        ledger.write((*account(), endpoint())).result()
        fill(small_disk / "filler")
        for attempt in range(3):
            with pytest.raises(LedgerError, match=r"ledger\.db: .*(full|disk I/O)"):
                ledger.write((topup(attempt, "x" * 20_000), *worker_day())).result()
        assert ledger.bill("local", None, T0).result().topped_up_u == 1_000_000_000
        (small_disk / "filler").unlink()
        ledger.write((topup(0, "x" * 20_000), *worker_day())).result()
        assert ledger.verify().result().problems == ()
        assert ledger.bill("local", None, T0).result().topped_up_u == 1_000_000_001


def test_a_new_ledger_on_a_full_disk_leaves_nothing_half(small_disk: Path) -> None:
    fill(small_disk / "filler")
    with pytest.raises(LedgerError, match="cannot be opened"):
        SqliteLedger(small_disk / "ledger.db", Wall())
    assert not (small_disk / "ledger.db").exists()
    (small_disk / "filler").unlink()
    with opened(small_disk / "ledger.db") as ledger:
        ledger.write(account()).result()
    assert [entry.name for entry in small_disk.iterdir()] == ["ledger.db"]


def test_a_removed_or_replaced_file_takes_no_writes(tmp_path: Path) -> None:
    path, aside = tmp_path / "ledger.db", tmp_path / "aside.db"
    with opened(path) as ledger:
        ledger.write(account()).result()
        path.rename(aside)
        with pytest.raises(LedgerError, match="was removed while it was in use"):
            ledger.write((topup(1),)).result()
        path.write_bytes(aside.read_bytes())
        with pytest.raises(LedgerError, match="was replaced by another one"):
            ledger.write((topup(1),)).result()
        aside.rename(path)
        ledger.write((topup(1),)).result()
        assert ledger.verify().result().ok
