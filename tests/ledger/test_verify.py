"""Verification finds what someone changed behind the ledger's back, and names the row."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.contract.base import HOUR_NS
from orchestrator.core.writes import CreditAdded, IntervalClosed, WorkerEnded
from tests.ledger.samples import L40_UH, T0, Wall, account, endpoint, intent, interval, opened, posting, worker_day

LATER = Wall(T0 + 48 * HOUR_NS)


@pytest.fixture
def ledger_file(tmp_path: Path) -> Path:
    """Two top-ups (journal 1 and 2), a closed interval a.1 (journal 3), an open one b.1 (journal 4)."""
    path = tmp_path / "ledger.db"
    of = interval("b.1", "b")
    with opened(path) as ledger:
        ledger.write((*account(), CreditAdded("local", 5, "second", "", T0), endpoint(), *worker_day())).result()
        ledger.write((intent("b", 2), of, posting(of, T0 + HOUR_NS))).result()
    return path


def test_a_healthy_ledger(ledger_file: Path) -> None:
    with opened(ledger_file, LATER) as ledger:
        verification = ledger.verify().result()
    assert len(verification.head_hash) == 64
    assert verification.model_dump(exclude={"kind", "totals", "head_hash"}) == {
        "ok": True,
        "intervals": 2,
        "entries": 8,
        "drift_u": 0,
        "problems": (),
        "notes": (),
        "rates": 0,
        "head": 4,
    }


@pytest.mark.parametrize(
    ("statement", "expected", "drift_u"),
    [
        ("UPDATE journal SET memo = 'gift' WHERE txn_id = 1", "journal 1: its hash does not match", 0),
        ("UPDATE journal SET amount_u = 6 WHERE txn_id = 2", "journal 2: its entries are not those", 0),
        ("UPDATE journal SET balance_u = 7 WHERE txn_id = 2", "journal 2: balance of 'local' is written as 7", 0),
        ("UPDATE journal SET posted_u = posted_u + 1 WHERE txn_id = 3", "running totals of interval 'a.1'", 0),
        ("DELETE FROM journal WHERE txn_id = 2", "journal 3: 2 was expected, rows are missing", 0),
        ("DELETE FROM journal WHERE txn_id = 2", "entry of txn 2: the journal has no such row", 0),
        ("UPDATE entry SET amount_u = amount_u + 1 WHERE txn_id = 1 AND amount_u > 0", "entries add up to 1", 0),
        ("UPDATE entry SET amount_u = amount_u + 1 WHERE txn_id = 1 AND amount_u > 0", "all entries together", 0),
        (
            "UPDATE entry SET account_code = 'customer:credit:me' WHERE txn_id = 2 AND amount_u > 0",
            "account 'me': entries give a balance of 5, top-ups less postings 0",
            0,
        ),
        ("UPDATE interval SET end_ns = end_ns - 3600000000000 WHERE id = 'a.1'", "interval 'a.1': 640", L40_UH),
        ("UPDATE interval SET rate_uh = rate_uh + 1 WHERE id = 'a.1'", "64080000 posted, 64080024 due", 24),
        (
            "UPDATE interval SET rate_uh = 10 WHERE id = 'b.1'",
            "open interval 'b.1': 2670000 posted, only",
            L40_UH - 480,
        ),
        ("UPDATE interval SET tier = 'autoscale' WHERE id = 'a.1'", "journal 3: its entries are not those", 0),
        ("DELETE FROM worker WHERE id = 'a'", "interval 'a.1': its worker 'a' has no intent", 0),
        ("UPDATE worker SET ended_ns = 1, end_source = 'exit' WHERE id = 'b'", "'b.1' is open although its worker", 0),
        ("UPDATE interval SET worker_id = 'a' WHERE id = 'b.1'", "'b.1' of worker 'a' overlap", 0),
        (
            "DROP INDEX interval_open; UPDATE interval SET worker_id = 'a', end_ns = NULL, end_source = NULL",
            "worker 'a' has two open intervals, 'a.1' and 'b.1'",
            0,
        ),
        ("DELETE FROM interval WHERE id = 'b.1'", "journal 4: its interval 'b.1' does not exist", 0),
        ("DELETE FROM endpoint", "worker row 1 refers to a endpoint that does not exist", 0),
        ("UPDATE meta SET value = 'other' WHERE key = 'instance'", "journal 1: its hash does not match", 0),
    ],
)
def test_tampering_is_named(ledger_file: Path, statement: str, expected: str, drift_u: int) -> None:
    with closing(sqlite3.connect(ledger_file, isolation_level=None)) as stranger:
        triggers = stranger.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            stranger.execute(f"DROP TRIGGER {name}")
        stranger.executescript(statement)
        for _, sql in triggers:
            stranger.execute(sql)
    with opened(ledger_file, LATER) as ledger:
        verification = ledger.verify().result()
    assert not verification.ok
    assert any(expected in problem for problem in verification.problems), verification.problems
    assert verification.drift_u == drift_u


def test_switched_off_rules_are_named(ledger_file: Path) -> None:
    with closing(sqlite3.connect(ledger_file, isolation_level=None)) as stranger:
        stranger.execute("DROP TRIGGER journal_no_update")
    with opened(ledger_file, LATER) as ledger:
        verification = ledger.verify().result()
    assert verification.problems == (
        "schema object 'journal_no_update' is not as gpudeck made it: rules may have been switched off",
    )


def test_an_end_before_the_last_posting_is_kept_and_reported(ledger_file: Path) -> None:
    end_ns = T0 + HOUR_NS // 2
    with opened(ledger_file, LATER) as ledger:
        ended = WorkerEnded("b", end_ns, "exit", "clean", "")
        ledger.write((IntervalClosed("b.1", end_ns, "exit", False), ended)).result()
        verification = ledger.verify().result()
    assert verification.drift_u == L40_UH // 2
    assert verification.problems == (f"interval 'b.1': {L40_UH} posted, {L40_UH // 2} due from {T0} to {end_ns}",)


def test_a_clock_set_back_is_no_problem_of_the_ledger(ledger_file: Path) -> None:
    with opened(ledger_file, Wall(T0)) as ledger:
        assert ledger.verify().result().ok


def test_many_problems_are_cut_short(tmp_path: Path) -> None:
    with opened(tmp_path / "ledger.db") as ledger:
        ledger.write(account()).result()
        ledger.write([CreditAdded("local", 1, f"key-{n}", "", T0) for n in range(150)]).result()
    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as stranger:
        stranger.execute("UPDATE meta SET value = 'other' WHERE key = 'instance'")
        stranger.execute("DROP TRIGGER journal_no_update")
        stranger.execute("UPDATE journal SET balance_u = 1")
    with opened(tmp_path / "ledger.db") as ledger:
        problems = ledger.verify().result().problems
    assert len(problems) == 101
    assert problems[-1] == "and 203 more problems"
