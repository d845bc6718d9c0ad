"""`gpudeck bill`: sums, lines, the printable statement, and the same time under another price book."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from app.cli.exits import CliError, Exit
from app.cli.options import Settings
from app.cli.output import Column, print_blank, print_fields, print_json, print_table, say
from app.cli.session import Session, talk
from app.format import NOTHING, money, rate_per_hour, seconds
from app.present.amounts import exact_money, hours
from app.present.statement_html import render_html
from app.present.statement_text import render_text
from app.statements import StatementTorn, whole_statement, write_private
from orchestrator.contract.accounting import Comparison, ComparisonRow, Statement, StatementLine
from orchestrator.contract.query import AskBill, AskComparison, Bill, BillLine


def show_bill(settings: Settings, *, account: str, month: str | None, lines: bool) -> None:
    """`gpudeck bill`."""

    async def work(session: Session) -> Bill:
        return await session.ask(AskBill(account=account, month=month), Bill)

    found = talk(work)
    if settings.json:
        print_json(found)
        return
    if found.lines:
        print_table(*(_every_line(found.lines) if lines else _sums(found.lines)))
        print_blank()
    totals = [("total", money(found.total_u)), ("topped up", money(found.topped_up_u))]
    if found.simulated:
        totals.insert(0, ("SIMULATED", "the bill of a lab: nobody owes it"))
    if found.absorbed_u:
        totals.insert(-1, ("not charged", money(found.absorbed_u)))
    print_fields([*totals, ("balance", money(found.balance_u))])


def show_statement(settings: Settings, *, account: str, month: str | None, file: str | None) -> None:
    """`gpudeck bill --text` and, with `file`, `--html FILE`. Raises CliError for a statement that does not add up: it
    is not handed out."""

    async def work(session: Session) -> tuple[Statement, list[StatementLine]]:
        try:
            return await whole_statement(lambda query: session.ask(query, Statement), account, month)
        except StatementTorn as error:
            raise CliError(str(error), Exit.TIMEOUT) from error

    found, lines = talk(work)
    if not found.reconciles:
        raise CliError(
            f"the statement of {account} does not agree with the balance in the ledger", Exit.FAILURE,
            "`gpudeck ledger verify` says where",
        )  # fmt: skip
    if file is not None and file != "-":
        _write(Path(file), render_html(found, lines))
        if settings.json:
            print_json({"file": file, "closing_u": found.closing_u, "charged_u": found.charged_u})
        else:
            say(f"statement of {account}: {found.lines_total:,} lines, written to {file}")
    elif settings.json:
        print_json({**found.model_dump(mode="json"), "lines": [line.model_dump(mode="json") for line in lines]})
    else:
        click.echo(render_html(found, lines) if file == "-" else render_text(found, lines), nl=False)


def show_comparison(settings: Settings, *, account: str, month: str | None, book: str) -> None:
    """`gpudeck bill --book NAME`."""

    async def work(session: Session) -> Comparison:
        return await session.ask(AskComparison(account=account, month=month, book=book), Comparison)

    found = talk(work)
    if settings.json:
        print_json(found)
        return
    columns = (
        Column("ENDPOINT"), Column("GPU"), Column("TIER"), Column("LINES", right=True), Column("TIME", right=True),
        Column("CHARGED", right=True), Column(f"BY {book}".upper(), right=True), Column("DIFFERENCE", right=True),
    )  # fmt: skip
    if found.rows:
        print_table(columns, [_compared(row) for row in found.rows])
        print_blank()
    totals = [
        ("charged by " + (", ".join(found.books) or "no book"), exact_money(found.amount_u)),
        (f"by {found.other_book}", exact_money(found.other_u)),
        ("difference", _signed(found.difference_u)),
    ]
    if found.unpriced_u:
        totals.append((f"not priced in {found.other_book}", exact_money(found.unpriced_u)))
    print_fields(totals)


def _compared(row: ComparisonRow) -> Sequence[str]:
    other = "no price" if row.other_u is None else exact_money(row.other_u)
    difference = NOTHING if row.difference_u is None else _signed(row.difference_u)
    return (
        row.endpoint, row.gpu_type, row.tier.value, f"{row.intervals:,}", hours(row.span_ns), exact_money(row.amount_u),
        other, difference,
    )  # fmt: skip


def _signed(amount_u: int) -> str:
    return f"+{exact_money(amount_u)}" if amount_u > 0 else exact_money(amount_u)


def _write(file: Path, document: str) -> None:
    try:
        write_private(file, document)
    except OSError as error:
        raise CliError(f"--html: {file} cannot be written: {error.strerror}", Exit.FAILURE) from error


def _sums(lines: Iterable[BillLine]) -> tuple[Sequence[Column], list[Sequence[str]]]:
    """One row per endpoint, GPU type, tier and rate; time that was not charged stands apart."""
    sums: dict[tuple[str, str, str, int, bool], list[BillLine]] = {}
    for line in lines:
        terms = (line.endpoint, line.gpu_type, line.tier.value, line.rate_uh, line.absorbed)
        sums.setdefault(terms, []).append(line)
    columns = (
        Column("ENDPOINT"), Column("GPU"), Column("TIER"), Column("RATE", right=True), Column("INTERVALS", right=True),
        Column("TIME", right=True), Column("AMOUNT", right=True),
    )  # fmt: skip
    rows: list[Sequence[str]] = [
        (
            endpoint,
            gpu,
            f"{tier} (not charged)" if absorbed else tier,
            rate_per_hour(rate_uh),
            f"{len(group):,}",
            seconds(int(sum(line.seconds for line in group))),
            money(sum(line.amount_u for line in group)),
        )
        for (endpoint, gpu, tier, rate_uh, absorbed), group in sums.items()
    ]
    return columns, rows


def _every_line(lines: Iterable[BillLine]) -> tuple[Sequence[Column], list[Sequence[str]]]:
    columns = (
        Column("ENDPOINT"), Column("WORKER"), Column("GPU"), Column("TIER"), Column("RATE", right=True),
        Column("TIME", right=True), Column("AMOUNT", right=True), Column("END"),
    )  # fmt: skip
    rows: list[Sequence[str]] = [
        (
            line.endpoint,
            line.label,
            line.gpu_type,
            f"{line.tier.value} (not charged)" if line.absorbed else line.tier.value,
            rate_per_hour(line.rate_uh),
            seconds(int(line.seconds)),
            money(line.amount_u),
            "running" if line.end_ns is None else line.end_source or NOTHING,
        )
        for line in lines
    ]
    return columns, rows
