"""The statement as plain text, 100 columns, for a terminal or a printer. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import Final

from app.cli.output import Column, render_table
from app.format import plain, rate_per_hour
from app.present import evidence
from app.present.amounts import exact_money, hours, instant
from orchestrator.contract.accounting import Statement, StatementLine

WIDTH: Final = 100


def render_text(statement: Statement, lines: Sequence[StatementLine]) -> str:
    """The whole document. Control characters in names and details are dropped."""
    return "\n".join(_document(statement, lines)) + "\n"


def _document(statement: Statement, lines: Sequence[StatementLine]) -> Iterator[str]:
    title = f"STATEMENT  {plain(statement.account)}{'  (SIMULATED: nobody owes this)' if statement.simulated else ''}"
    yield f"{title}{evidence.period(statement):>{max(1, WIDTH - len(title))}}"
    yield "=" * WIDTH
    yield f"times are UTC, amounts US dollars; taken {instant(statement.taken_at_ns)}"
    yield ""
    yield from _summary(statement)
    yield ""
    yield "CHARGES BY ENDPOINT AND TIER"
    yield _charges(statement)
    if statement.topups:
        yield ""
        yield "TOP-UPS"
        columns = (Column("TIME"), Column("NOTE"), Column("JOURNAL", right=True), Column("AMOUNT", right=True))
        yield render_table(
            columns, [(instant(t.at_ns), t.memo, f"{t.txn_id}", exact_money(t.amount_u)) for t in statement.topups]
        )
    yield ""
    yield f"EVERY LINE ({statement.lines_total:,})"
    for line in lines:
        yield ""
        yield from _line(line, statement)
    yield ""
    yield "=" * WIDTH
    for words in closing_words(statement):
        yield from wrap(words, width=WIDTH)


def _summary(statement: Statement) -> Iterator[str]:
    rows = [
        ("opening balance", statement.opening_u),
        ("+ topped up", statement.topped_up_u),
        ("- charged", statement.charged_u),
        ("= closing balance", statement.closing_u),
    ]
    for name, amount_u in rows:
        yield f"{name:<24}{exact_money(amount_u):>20}"
    if statement.absorbed_u:
        yield f"{'not charged':<24}{exact_money(statement.absorbed_u):>20}   start-ups that failed and our absences"


def _charges(statement: Statement) -> str:
    columns = (
        Column("ENDPOINT"), Column("GPU"), Column("TIER"), Column("RATE", right=True), Column("LINES", right=True),
        Column("TIME", right=True), Column("AMOUNT", right=True), Column("NOT CHARGED", right=True),
    )  # fmt: skip
    rows = [
        (
            c.endpoint, c.gpu_type, c.tier.value, rate_per_hour(c.rate_uh), f"{c.intervals:,}", hours(c.span_ns),
            exact_money(c.amount_u), exact_money(c.absorbed_u) if c.absorbed_u else "",
        )
        for c in statement.charges
    ]  # fmt: skip
    intervals = f"{sum(c.intervals for c in statement.charges):,}"
    span = hours(sum(c.span_ns for c in statement.charges))
    absorbed = exact_money(statement.absorbed_u) if statement.absorbed_u else ""
    rows.append(("total", "", "", "", intervals, span, exact_money(statement.charged_u), absorbed))
    return render_table(columns, rows)


def _line(line: StatementLine, statement: Statement) -> Iterator[str]:
    name = f"{plain(line.endpoint)} {plain(line.label)}  {line.gpu_type}  {line.tier.value}"
    amount = f"{exact_money(line.amount_u)}{' NOT CHARGED' if line.absorbed else ''}"
    yield f"{name}{amount:>{max(1, WIDTH - len(name))}}"
    until = "now" if line.end_ns is None else instant(line.end_ns)
    yield f"  {instant(line.start_ns)} to {until}  {hours(line.span_ns)} at {rate_per_hour(line.rate_uh)}"
    facts = [
        ("begins", f"{evidence.began(line, statement)}; {evidence.life(line)}"),
        ("ends", evidence.end_of(line, statement)),
        ("worker", f"{plain(line.worker_id)}, {plain(line.model)} generation {line.generation}, "
                   f"GPU {plain(line.gpu_uuid)}"),
        ("engine", plain(line.engine_ref or "–")),
        ("interval", f"{plain(line.interval_id)}, price book {plain(line.price_book)}"),
        ("requests", evidence.requests(line)),
    ]  # fmt: skip
    for name, value in facts:
        yield from wrap(value, width=WIDTH, initial_indent=f"  {name:<10}", subsequent_indent=" " * 12)


def closing_words(statement: Statement) -> Iterator[str]:
    """How the amounts come about and what they are checked against."""
    yield "A line costs rate x time, cut off to whole micro-dollars once over the whole interval."
    agreed = "agrees" if statement.reconciles else "DOES NOT AGREE"
    yield (
        f"The ledger's balance {exact_money(statement.ledger_balance_u)} less {exact_money(statement.unposted_u)} "
        f"accrued and not posted yet {agreed} with closing balance and what came after it, "
        f"{exact_money(statement.closing_u + statement.later_u)}."
    )
    yield f"Journal row {statement.head}, SHA-256 {statement.head_hash}"
    yield f"Ledger {plain(statement.instance)}. `gpudeck ledger verify` recomputes every amount and the chain."
