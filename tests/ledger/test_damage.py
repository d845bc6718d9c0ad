"""Files that are not what they should be: refused with their name and the reason, never recreated."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.contract.base import SECOND_NS
from orchestrator.ledger import schema
from orchestrator.ledger.ports import LedgerError
from orchestrator.ledger.store import SqliteLedger
from tests.ledger.crash_batches import batch, opening
from tests.ledger.samples import T0, Wall, account, opened

LATER = Wall(T0 + 3_600 * SECOND_NS)


def money(path: Path) -> list[object]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT * FROM journal").fetchall()
        return rows + connection.execute("SELECT * FROM entry").fetchall()


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("healthy") / "ledger.db"
    with opened(path) as ledger:
        ledger.write(opening()).result()
        for number in range(20):
            ledger.write(batch(number)).result()
    return path


@pytest.mark.parametrize("seed", range(40))
def test_flipped_bytes_are_noticed(healthy: Path, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    content = bytearray(healthy.read_bytes())
    where = range(100) if seed < 8 else range(len(content))  # the header is small and deserves more than its share
    for offset in chance.sample(where, chance.choice((1, 3, 50))):
        content[offset] ^= chance.randrange(1, 256)
    path = tmp_path / "ledger.db"
    path.write_bytes(content)
    refusal, verified = examine(path)
    if refusal is not None:
        assert str(path) in refusal
        assert refusal.isprintable()
        assert path.stat().st_size == len(content)
    elif verified:
        assert money(path) == money(healthy), "money changed and nobody noticed"
        assert instance_of(path) == instance_of(healthy)


def examine(path: Path) -> tuple[str | None, bool]:
    """(why the ledger was refused, whether it verified)."""
    try:
        with opened(path, LATER) as ledger:
            ledger.load().result()
            return None, ledger.verify().result().ok
    except LedgerError as refused:
        return str(refused), False


def instance_of(path: Path) -> str:
    with opened(path, LATER) as ledger:
        return ledger.load().result().instance


@pytest.mark.parametrize("table", ["command", "api_key", "event", "journal"])
def test_a_damaged_page_is_found_at_open_whether_used_or_not(healthy: Path, tmp_path: Path, table: str) -> None:
    with closing(sqlite3.connect(healthy)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    content = bytearray(healthy.read_bytes())
    content[(page - 1) * size : page * size] = b"\xff" * size
    (tmp_path / "ledger.db").write_bytes(content)
    with pytest.raises(LedgerError, match=r"ledger\.db: .*(corrupt|malformed)"):
        SqliteLedger(tmp_path / "ledger.db", LATER)
    assert (tmp_path / "ledger.db").read_bytes() == content


@pytest.mark.parametrize("keep", [1, 99, 100, 4096, 4097, 20_000])
def test_a_truncated_file_is_refused(healthy: Path, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(healthy.read_bytes()[:keep])
    with pytest.raises(LedgerError, match=r"ledger\.db: "):
        SqliteLedger(path, LATER)
    assert path.stat().st_size == keep


def test_a_newer_schema_is_refused_untouched(healthy: Path, tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(healthy.read_bytes())
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=rf"schema {schema.SCHEMA_VERSION + 1} is newer than"):
        SqliteLedger(path, LATER)
    assert path.read_bytes() == before


def test_a_strangers_database_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (a)")
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="not a gpudeck ledger"):
        SqliteLedger(path, LATER)
    assert path.read_bytes() == before


def test_things_that_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "text").write_text("hello, this is a text and not a database at all " * 100)
    for name, reason in (("directory", "not a regular file"), ("text", "file is not a database")):
        with pytest.raises(LedgerError, match=reason):
            SqliteLedger(tmp_path / name, LATER)
    with pytest.raises(LedgerError, match="File exists"):
        SqliteLedger(tmp_path / "text" / "ledger.db", LATER)


def test_a_lost_ledger_with_its_journal_left_behind_is_not_recreated(tmp_path: Path) -> None:
    (tmp_path / "ledger.db-journal").write_bytes(b"\0" * 512)
    with pytest.raises(LedgerError, match=r"ledger\.db-journal exists but the ledger itself does not"):
        SqliteLedger(tmp_path / "ledger.db", LATER)
    assert not (tmp_path / "ledger.db").exists()


def test_an_unfinished_creation_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "ledger.db.new").write_bytes(b"half")
    (tmp_path / "ledger.db.new-journal").write_bytes(b"half")
    with opened(tmp_path / "ledger.db") as ledger:
        ledger.write(account()).result()
    assert [entry.name for entry in tmp_path.iterdir()] == ["ledger.db"]


def test_an_upgrade_is_whole_and_keeps_a_copy(healthy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(healthy.read_bytes())
    old = schema.STEPS
    monkeypatch.setattr(schema, "SCHEMA_VERSION", len(old) + 1)
    broken = "ALTER TABLE account ADD COLUMN email TEXT; CREATE TABLE meta (a TEXT) STRICT;"
    monkeypatch.setattr(schema, "STEPS", (*old, ("m999_broken", broken)))
    with pytest.raises(LedgerError, match="table meta already exists"):
        SqliteLedger(path, LATER)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(old),)
        assert "email" not in {row[1] for row in connection.execute("PRAGMA table_info(account)")}
    monkeypatch.setattr(schema, "STEPS", (*old, ("m999_email", "ALTER TABLE account ADD COLUMN email TEXT;")))
    with opened(path, LATER) as ledger:
        ledger.write(batch(20)).result()
        assert ledger.load().result().last_serial == 21
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(old) + 1,)
        assert "email" in {row[1] for row in connection.execute("PRAGMA table_info(account)")}
    assert money(tmp_path / f"ledger.db.schema{len(old)}") == money(healthy)
