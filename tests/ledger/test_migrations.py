"""A file of every schema there ever was becomes one of today: verified, with the same money, or left as it was."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.ledger.schema import SCHEMA_VERSION, STEPS
from tests.ledger.fixtures.make import HERE
from tests.ledger.month import NOW_NS, history
from tests.ledger.samples import Wall, opened

ROOT = Path(__file__).parents[2]
VERSIONS = range(1, SCHEMA_VERSION + 1)


def money(path: Path) -> list[object]:
    with closing(sqlite3.connect(path)) as connection:
        journal = connection.execute(
            "SELECT txn_id, kind, account, amount_u, balance_u, interval_id, upto_ns, absorbed, posted_u, billed_u,"
            " key, memo, at_ns, hash FROM journal ORDER BY txn_id"
        ).fetchall()
        return journal + connection.execute("SELECT * FROM entry ORDER BY 1, 2").fetchall()


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def build(version: int, path: Path) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript((HERE / f"schema{version}.sql").read_text(encoding="utf-8"))
    return path


def test_there_is_a_fixture_of_every_schema() -> None:
    assert {int(file.stem.removeprefix("schema")) for file in HERE.glob("schema*.sql")} == set(VERSIONS), (
        "run `python -m tests.ledger.fixtures.make` when a schema is new"
    )
    assert len({name for name, _ in STEPS}) == len(STEPS)


@pytest.mark.parametrize("version", VERSIONS)
def test_it_becomes_the_newest_with_equal_money(tmp_path: Path, version: int) -> None:
    path = build(version, tmp_path / "ledger.db")
    before = money(path)
    with opened(tmp_path / "today.db", Wall(NOW_NS)) as today:
        for batch in history():
            today.write(batch).result()
        expected, state = today.statement("research", "2026-03", NOW_NS).result(), today.load().result()
    with opened(path, Wall(NOW_NS)) as ledger:
        verification = ledger.verify().result()
        found, saved = ledger.statement("research", "2026-03", NOW_NS).result(), ledger.load().result()
        for batch in history():
            ledger.write(batch).result()  # the next start repeats what it is not sure of
    assert verification.problems == ()
    assert version_of(path) == SCHEMA_VERSION
    assert money(path) == before
    same = {"instance": "", "head_hash": ""}
    assert found.model_copy(update=same) == expected.model_copy(update=same)
    assert (saved.balances_u, saved.endpoints, saved.workers) == (state.balances_u, state.endpoints, state.workers)
    assert {i.opened: i.posted_u for i in saved.intervals} == {i.opened: i.posted_u for i in state.intervals}
    copies = [entry.name for entry in tmp_path.glob("ledger.db.schema*")]
    assert copies == ([] if version == SCHEMA_VERSION else [f"ledger.db.schema{version}"])


KILLED = """
import os, signal, sys
from pathlib import Path
import sqlite_utils  # once, before the forks
from orchestrator.ledger import opening, schema
from orchestrator.ledger.store import SqliteLedger

count, limit, whole = 0, 0, schema.upgrade

def count_down():
    global count
    count += 1
    if count == limit:
        os.kill(os.getpid(), signal.SIGKILL)
    return 0

def upgrade(connection, *rest):
    connection.set_progress_handler(count_down, 20)
    whole(connection, *rest)
    connection.set_progress_handler(None, 0)

opening.upgrade = upgrade
directory, steps = Path(sys.argv[1]), 0
for number, part in enumerate((0.0, 0.0001, 0.33, 0.8, 1.0)):
    reader, writer = os.pipe()
    limit = max(1, int(steps * part)) if number else 0
    child = os.fork()
    if child == 0:
        SqliteLedger(directory / f"{number}.db", lambda: 0).close()
        os.write(writer, str(count).encode())
        os._exit(0)
    os.close(writer)
    steps = steps or int(os.read(reader, 20))
    _, status = os.waitpid(child, 0)
    sys.stdout.write(f"{steps} {os.waitstatus_to_exitcode(status)}\\n")
"""


def test_a_kill_in_the_middle_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    """SIGKILL after so many instructions of SQLite's machine, from the first step of the upgrade to its commit."""
    paths = [build(1, tmp_path / f"{number}.db") for number in range(5)]
    before = money(paths[0])
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    steps, codes = zip(*(map(int, line.split()) for line in done.stdout.splitlines()), strict=True)
    assert steps[0] > 50
    assert codes == (0, *[-signal.SIGKILL] * 4)
    left = [version_of(path) for path in paths]  # whoever opens the file rolls an unfinished upgrade back
    assert left[:2] == [SCHEMA_VERSION, 1]
    assert set(left) == {1, SCHEMA_VERSION}, "a mixture"
    for path in paths:
        with opened(path, Wall(NOW_NS)) as ledger:
            assert ledger.verify().result().problems == ()
        assert (money(path), version_of(path)) == (before, SCHEMA_VERSION)
