"""The ledger screen over a real ledger with a month of history: rows, evidence, filter, months, verify, export."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.present import ledger as rows
from app.present.statement_html import render_html
from app.present.text import text, width
from app.screens.dashboard import DashboardScreen
from app.screens.ledger import EvidencePanel, JournalPanel, LedgerScreen
from app.statements import write_private
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.query import AskJournal, AskStatement, AskVerify, Query, Unanswered
from orchestrator.contract.snapshot import Snapshot
from orchestrator.ledger.store import SqliteLedger
from tests.app.driving import running
from tests.app.fakes import rich
from tests.app.pictures import assert_picture, screen_text
from tests.ledger.month import NOW_NS, history
from tests.ledger.samples import Wall, opened
from tests.waiting import until


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteLedger]:
    with opened(tmp_path_factory.mktemp("books") / "ledger.db", Wall(NOW_NS)) as made:
        for batch in history(over=True):
            made.write(batch).result()
        yield made


def answers(ledger: SqliteLedger) -> Callable[[Query], Any]:
    """What the orchestrator's desk would say."""

    def answer(query: Query) -> Any:
        match query:
            case AskJournal():
                page = ledger.journal(query).result()
                # The chain begins with the ledger's own random name: a picture needs hashes that stay.
                return page.model_copy(
                    update={"rows": tuple(r.model_copy(update={"hash": "5eed" * 16}) for r in page.rows)}
                )
            case AskStatement(account=account, month=month, after=after, limit=limit):
                return ledger.statement(account, month, NOW_NS, after=after, limit=limit).result()
            case AskVerify():
                return ledger.verify().result()
        return Unanswered(code="not_found", message="nobody knows")

    return answer


def state(**more: Any) -> Snapshot:
    """A snapshot in which the account of the history comes first."""
    made = rich(**more)
    research = made.accounts[0].model_copy(update={"name": "research"})
    return made.model_copy(update={"accounts": (research, *made.accounts), "taken_at_ns": NOW_NS})


async def test_every_row_leads_to_its_worker_and_evidence(ledger: SqliteLedger) -> None:
    async with running(state(), size=(160, 50)) as (app, client, pilot):
        client.answer = answers(ledger)
        await pilot.press("m")
        await until(lambda: isinstance(app.screen, LedgerScreen))
        await until(lambda: "agrees with the journal" in screen_text(app))
        journal = app.screen.query_one(JournalPanel)
        await until(lambda: len(journal.rows) > 5)
        assert [row.txn_id for row in journal.rows] == sorted((row.txn_id for row in journal.rows), reverse=True)
        charge = next(index for index, row in enumerate(journal.rows) if row.entry == "posting")
        journal.select(charge)
        await until(lambda: "container" in screen_text(app))
        found = journal.rows[charge]
        shown = screen_text(app)
        assert found.label is not None
        assert found.label in shown
        evidence = "\n".join(text(line) for line in app.screen.query_one(EvidencePanel).lines(60, 40))
        for word in ("worker", "life", "began", "ended", "requests", "chain"):
            assert word in evidence
        await pilot.press("v")
        await until(lambda: "drift 0" in screen_text(app))
        journal.select(0)
        await pilot.click(JournalPanel, offset=(20, 4))
        assert journal.index == 2
        assert app.focused is journal
        await pilot.press("enter")
        assert app.focused is app.screen.query_one(EvidencePanel)
        journal.focus()
        await pilot.click(JournalPanel, offset=(20, 5), times=2)
        await until(lambda: app.focused is app.screen.query_one(EvidencePanel))
        assert journal.index == 3
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, DashboardScreen))


async def test_filter_month_and_account_change_what_is_asked_and_shown(ledger: SqliteLedger) -> None:
    async with running(state()) as (app, client, pilot):
        client.answer = answers(ledger)
        await pilot.press("m")
        await until(lambda: isinstance(app.screen, LedgerScreen) and len(app.screen.query_one(JournalPanel).rows) > 5)
        journal = app.screen.query_one(JournalPanel)
        everything = len(journal.rows)
        await pilot.press("slash", *"top-up", "enter")
        await until(lambda: 0 < len(journal.rows) < everything)
        assert {row.entry for row in journal.rows} == {"topup"}
        await pilot.press("slash", "escape")
        await until(lambda: len(journal.rows) == everything)
        await pilot.press("left_square_bracket")
        month = rows.month_of(NOW_NS)
        await until(lambda: f"research · {month}" in screen_text(app))
        since_ns, until_ns = rows.bounds(month)
        await until(lambda: any(isinstance(q, AskJournal) and q.since_ns == since_ns for q in client.asked))
        assert all(since_ns <= row.at_ns < until_ns for row in journal.rows)  # type: ignore[operator]
        await pilot.press("right_square_bracket", "A")
        await until(lambda: any(isinstance(q, AskStatement) and q.account == "local" for q in client.asked))


async def test_the_statement_is_written_once_private_and_whole(
    ledger: SqliteLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with running(state()) as (app, client, pilot):
        client.answer = answers(ledger)
        await pilot.press("m")
        await until(lambda: "agrees with the journal" in screen_text(app))
        await pilot.press("ctrl+o")
        await until(lambda: len(list(tmp_path.glob("*.html"))) == 1)
        file = next(tmp_path.glob("*.html"))
        statement = ledger.statement("research", None, NOW_NS).result()
        assert file.read_text(encoding="utf-8") == render_html(statement, statement.lines)
        assert file.stat().st_mode & 0o077 == 0
        file.write_text("mine")
        await pilot.press("ctrl+o")
        await pilot.pause()
        assert file.read_text() == "mine"


async def test_a_ledger_that_cannot_be_read_says_why() -> None:
    async with running(state()) as (app, client, pilot):
        client.answer = lambda _: Unanswered(code="unavailable", message="the ledger is busy")
        await pilot.press("m")
        await until(lambda: "the ledger is busy" in screen_text(app))


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_picture(ledger: SqliteLedger, size: tuple[int, int]) -> None:
    async with running(state(), size=size) as (app, client, pilot):
        client.answer = answers(ledger)
        await pilot.press("m")
        await until(lambda: isinstance(app.screen, LedgerScreen) and len(app.screen.query_one(JournalPanel).rows) > 5)
        await until(lambda: "agrees" in screen_text(app))
        await pilot.press("v", "j", "j")
        await until(lambda: "drift 0" in screen_text(app))
        await pilot.pause()
        assert_picture(app, f"ledger-{size[0]}x{size[1]}")


@pytest.mark.parametrize(
    ("month", "step", "found"),
    [
        (None, -1, "2026-11"), ("2026-11", -1, "2026-10"), ("2026-01", -1, "2025-12"), ("2025-12", 1, "2026-01"),
        ("2026-11", 1, None), (None, 1, None),
    ],
)  # fmt: skip
def test_months_go_back_from_now_and_end_in_all_time(month: str | None, step: int, found: str | None) -> None:
    assert rows.stepped(month, step, 1_795_500_000 * SECOND_NS) == found


def test_a_month_is_half_open_in_utc() -> None:
    since_ns, until_ns = rows.bounds("2026-12")
    assert (since_ns, until_ns) == (1_796_083_200 * SECOND_NS, 1_798_761_600 * SECOND_NS)
    assert rows.bounds(None) == (None, None)


@given(st.integers(30, 220))
def test_lines_never_exceed_their_room(room: int) -> None:
    assert all(width(line) <= room for line in rows.account_rows(None, None, room))


def test_a_private_file_is_whole_or_absent(tmp_path: Path) -> None:
    target = tmp_path / "s.html"
    write_private(target, "x")
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("x", 0o600)
    with pytest.raises(OSError, match="No such file"):
        write_private(tmp_path / "no" / "s.html", "x")
    (tmp_path / "link").symlink_to(target)
    write_private(tmp_path / "link", "y")
    assert ((tmp_path / "link").is_symlink(), target.read_text()) == (True, "y")
    os.mkfifo(tmp_path / "pipe")
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_private(tmp_path / "pipe", "z")
    assert os.read(reading, 9) == b"z"
    os.close(reading)
    (tmp_path / "folder").mkdir()
    for folder in (tmp_path / "folder", Path("/")):
        with pytest.raises(IsADirectoryError):
            write_private(folder, "x")
    assert not (tmp_path / "folder.part").exists()
