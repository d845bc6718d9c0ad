"""The ledger: the journal of one account, from every cent to its worker and its evidence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container

from app import actions
from app.format import plain
from app.messages import Dialog, DialogWanted, QuestionAnswered, QuestionAsked, StatementArrived, StatementWanted
from app.present import condition, ledger
from app.present.condition import Condition, Kind
from app.present.statement_html import render_html
from app.present.text import Line
from app.screens.filtered import FilteredScreen
from app.statements import write_private
from app.widgets.chrome import FilterBar
from app.widgets.panel import Panel
from app.widgets.row_panel import RowPanel
from orchestrator.contract.accounting import JournalPage, JournalRow, Statement, StatementLine
from orchestrator.contract.query import AskJournal, AskVerify, Verification
from orchestrator.contract.snapshot import AccountView

PAGE_ROWS: Final = 300
RELOAD_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class AccountOf:
    """The account, its statement over the period, and the newest verification."""

    account: AccountView | None
    statement: Statement | None
    verified: Verification | None


class SumsPanel(Panel):
    """`view` is an `AccountOf`."""

    NUMBER = 1
    NAME = "Account"

    def paint(self, width: int, height: int) -> list[Line]:
        if not isinstance(self.view, AccountOf):
            return []
        lines = ledger.account_rows(self.view.account, self.view.statement, width)
        return lines + (ledger.verification_rows(self.view.verified, width) if self.view.verified else [])


class JournalPanel(RowPanel):
    """`view` is a tuple of `JournalRow`, newest first; the cursor is the number of one."""

    NUMBER = 2
    NAME = "Journal"
    EMPTY: ClassVar[str] = "No rows.\nThe journal begins with the first top-up; charges follow while workers run."

    @property
    def rows(self) -> tuple[JournalRow, ...]:
        return self.view if isinstance(self.view, tuple) else ()

    @property
    def chosen(self) -> JournalRow | None:
        """The row that the cursor is on."""
        return self.rows[self.index] if self.index >= 0 else None

    def row_keys(self) -> list[str]:
        return [str(row.txn_id) for row in self.rows]

    def paint(self, width: int, height: int) -> list[Line]:
        return ledger.journal_rows(self.rows, self.index, width)


@dataclass(frozen=True, slots=True)
class EvidenceOf:
    """A row, and the statement in which its interval is."""

    row: JournalRow
    lines: dict[str, StatementLine]
    statement: Statement | None


class EvidencePanel(Panel):
    """`view` is an `EvidenceOf`."""

    NUMBER = 3
    NAME = "What it rests on"
    EMPTY: ClassVar[str] = "Choose a row of the journal."

    def paint(self, width: int, height: int) -> list[Line]:
        if not isinstance(self.view, EvidenceOf):
            return []
        return ledger.evidence_rows(self.view.row, self.view.lines, self.view.statement, width)


class LedgerScreen(FilteredScreen):
    """Reads the newest page again every few seconds, and an older one when the cursor reaches the end."""

    WHERE = actions.Where.LEDGER
    LISTED = JournalPanel
    CSS_PATH = "ledger.tcss"
    BINDINGS: ClassVar[list[BindingType]] = actions.bindings(actions.Where.LEDGER)

    def __init__(self) -> None:
        super().__init__()
        self.account: str | None = None
        self.month: str | None = None
        self._rows: dict[int, JournalRow] = {}
        self._older: int | None = None
        """Cursor of the page before the oldest one that has been read."""
        self._statement: Statement | None = None
        self._lines: dict[str, StatementLine] = {}
        self._all_lines: tuple[StatementLine, ...] = ()
        self._verified: Verification | None = None
        self._problem: str | None = None

    def panels(self) -> ComposeResult:
        yield SumsPanel(id="sums")
        with Container(id="books"):
            yield JournalPanel(id="journal")
            yield EvidencePanel(id="evidence")
        yield FilterBar()

    def on_mount(self) -> None:
        seen = self.gpudeck.snapshot
        self.account = seen.accounts[0].name if seen and seen.accounts else None
        self.query_one(JournalPanel).focus()
        self.set_interval(RELOAD_S, self.reload)
        self.reload()

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width < 110, "-compact")

    def reload(self) -> None:
        """Ask for the newest page and the statement, unless nobody would see them."""
        if self.account is not None and self.is_current and not self.feed.paused:
            self.post_message(QuestionAsked(self._query(None)))
            self.post_message(StatementWanted(self.account, self.month))

    def _query(self, cursor: int | None) -> AskJournal:
        since_ns, until_ns = ledger.bounds(self.month)
        return AskJournal(account=self.account, newest=True, cursor=cursor, limit=PAGE_ROWS, since_ns=since_ns,
                          until_ns=until_ns)  # fmt: skip

    @on(QuestionAnswered)
    def _take(self, event: QuestionAnswered) -> None:
        if isinstance(event.query, AskVerify):
            self._verified = event.answer if isinstance(event.answer, Verification) else None
            if event.problem is not None:
                self.notify(event.problem, title="Not verified", severity="error", markup=False)
        elif event.query in (self._query(None), self._query(self._older)):
            self._take_page(event.query, event.answer, event.problem)
        self.show()

    def _take_page(self, query: Any, answer: Any, problem: str | None) -> None:
        self._problem = problem
        if isinstance(answer, JournalPage):
            first = not self._rows
            self._rows.update((row.txn_id, row) for row in answer.rows)
            if first or query.cursor is not None:
                self._older = answer.next

    @on(StatementArrived)
    def _take_statement(self, event: StatementArrived) -> None:
        if (event.account, event.month) != (self.account, self.month):
            return
        if event.statement is not None:
            self._statement, self._all_lines = event.statement, event.lines
            self._lines = {line.interval_id: line for line in event.lines}
        self._problem = event.problem
        self.show()

    def show(self) -> None:
        state = condition.of_feed(self.snapshot, self.feed)
        if state.kind is Kind.LIVE and self._problem is not None:
            state = Condition(Kind.FAILED, self._problem)
        found = self.snapshot.accounts if self.snapshot else ()
        account = next((each for each in found if each.name == self.account), None)
        sums, journal, evidence = (self.query_one(each) for each in (SumsPanel, JournalPanel, EvidencePanel))
        for panel in (sums, journal, evidence):
            panel.condition = state
        sums.view = AccountOf(account, self._statement, self._verified)
        sums.note = f"{plain(self.account or '')} · {self.month or 'all time'}"
        rows = sorted(self._rows.values(), key=lambda row: -row.txn_id)
        journal.view = tuple(ledger.matching(rows, self.needle))
        more = "" if self._older is None else ", more below"
        journal.note = self.filter_note(f"{len(rows):,} rows{more}")
        self._show_evidence()

    def _show_evidence(self) -> None:
        row = self.query_one(JournalPanel).chosen
        self.query_one(EvidencePanel).view = EvidenceOf(row, self._lines, self._statement) if row else None

    @on(RowPanel.Moved)
    def _follow(self) -> None:
        self._show_evidence()
        journal = self.query_one(JournalPanel)
        if journal.index == len(journal.rows) - 1 and self._older is not None:
            self.post_message(QuestionAsked(self._query(self._older)))

    # --- actions

    @on(RowPanel.Opened)
    def action_show_evidence(self) -> None:
        """Go over to what the row rests on, which may be longer than its panel."""
        self.query_one(EvidencePanel).focus()

    def action_verify_ledger(self) -> None:
        self.post_message(QuestionAsked(AskVerify()))

    def action_earlier_month(self) -> None:
        self._turn(-1)

    def action_later_month(self) -> None:
        self._turn(1)

    def _turn(self, step: int) -> None:
        if self.snapshot is not None:
            self.month = ledger.stepped(self.month, step, self.snapshot.taken_at_ns)
            self._forget()

    def action_next_account(self) -> None:
        names = [each.name for each in self.snapshot.accounts] if self.snapshot else []
        if self.account in names:
            self.account = names[(names.index(self.account) + 1) % len(names)]
            self._forget()

    def _forget(self) -> None:
        self._rows, self._older, self._statement, self._lines, self._all_lines = {}, None, None, {}, ()
        self.query_one(JournalPanel).view = ()
        self.show()
        self.reload()

    def action_export_statement(self) -> None:
        """Write the statement as HTML beside where gpudeck was started; an existing file is never overwritten."""
        if self._statement is None:
            return
        if not self._statement.reconciles:
            self.notify(
                "The statement does not agree with the journal; verify it first.", severity="error", markup=False
            )
            return
        name = "".join(each if each.isalnum() else "-" for each in self.account or "account")
        path = Path.cwd() / f"statement-{name}-{self.month or 'all'}-{self._statement.head}.html"
        if path.exists():
            self.notify(f"{path} is there already.", severity="warning", markup=False)
            return
        try:
            write_private(path, render_html(self._statement, self._all_lines))
        except OSError as error:
            self.notify(f"cannot write {path}: {error.strerror}", severity="error", markup=False)
        else:
            self.notify(f"{self._statement.lines_total:,} lines in {path}", title="Exported", markup=False)

    def action_top_up(self) -> None:
        self.post_message(DialogWanted(Dialog.TOP_UP))

    def action_show_accounts(self) -> None:
        self.post_message(DialogWanted(Dialog.ACCOUNTS))

    def action_show_keys(self) -> None:
        self.post_message(DialogWanted(Dialog.KEYS))

    def action_go_to(self, number: int) -> None:
        """Focus the panel with that number."""
        self.query_one((SumsPanel, JournalPanel, EvidencePanel)[number - 1]).focus()
