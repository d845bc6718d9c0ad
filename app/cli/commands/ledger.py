"""Commands about the bill and the ledger behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from app.cli.options import common, complete_slug, settings

Callback = TypeVar("Callback", bound=Callable[..., Any])


@click.command()
@click.option("--month", metavar="YYYY-MM", help="One month, in UTC; everything without it.")
@click.option("--lines", is_flag=True, help="Every interval instead of sums.")
@click.option("--text", is_flag=True, help="The whole statement as text.")
@click.option("--html", metavar="FILE", help="The whole statement, made for printing; - is stdout.")
@click.option("--book", metavar="NAME", help="The same time under another price book, side by side.")
@common
def bill(month: str | None, lines: bool, text: bool, html: str | None, book: str | None) -> None:
    """What was charged, by endpoint and tier.

    A statement (--text, --html) leads every line to its worker, its container,
    the evidence of its start and stop, and its requests.

    \b
    Examples:
      gpudeck bill
      gpudeck bill --month 2026-03 --lines
      gpudeck bill --month 2026-03 --html march.html
      gpudeck bill --book my-prices
    """
    if sum((lines, text, html is not None, book is not None)) > 1:
        raise click.UsageError("give one of --lines, --text, --html and --book")
    from app.cli import bill as bills

    if book is not None:
        bills.show_comparison(settings(), account=settings().owner, month=month, book=book)
    elif text or html is not None:
        bills.show_statement(settings(), account=settings().owner, month=month, file=html)
    else:
        bills.show_bill(settings(), account=settings().owner, month=month, lines=lines)


@click.group()
@common
def ledger() -> None:
    """Read, check, copy and restore the ledger.

    \b
    Examples:
      gpudeck ledger show --endpoint sketch
      gpudeck ledger verify
    """


def filters(command: Callback) -> Callback:
    """Which rows of the journal."""
    options = (
        click.option("--endpoint", metavar="SLUG", shell_complete=complete_slug, help="Of one endpoint."),
        click.option("--worker", metavar="WORKER", help="Of one worker: its id or label."),
        click.option("--since", metavar="WHEN", help="Written at or after: 2026-03-01, 2026-03-01T12:00, 24h ago."),
        click.option("--until", metavar="WHEN", help="Written before."),
        click.option("--kind", type=click.Choice(["topup", "posting", "absorbed"]), help="Only these."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@ledger.command("show")
@filters
@click.option(
    "-n", "--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, metavar="N", help="Newest rows."
)
@common
def ledger_show(limit: int, **chosen: Any) -> None:
    """The newest rows of the journal, with the balance after each.

    \b
    Examples:
      gpudeck ledger show --since 24h
      gpudeck ledger show --endpoint sketch --worker w2 --kind posting
    """
    from app.cli import ledger as work

    work.show_ledger(settings(), work.Filters(account=settings().account, **chosen), limit=limit)


@ledger.command("export")
@filters
@click.option("--csv", "form", flag_value="csv", help="Comma separated, for a spreadsheet.")
@click.option("--jsonl", "form", flag_value="jsonl", help="One JSON object a line (the default).")
@click.option("--out", metavar="FILE", help="A file instead of stdout.")
@common
def ledger_export(form: str | None, out: str | None, **chosen: Any) -> None:
    """Every row of the journal: exact integers, and dollars as text.

    \b
    Examples:
      gpudeck ledger export --csv --out ledger.csv
      gpudeck ledger export --jsonl --since 2026-03-01 | jq .change_usd
    """
    from app.cli import ledger as work

    work.export_ledger(
        work.Filters(account=settings().account, **chosen), form="csv" if form == "csv" else "jsonl", file=out
    )


@ledger.command("verify")
@common
def ledger_verify() -> None:
    """Recompute every amount, rate and hash; exit code 1 when one is off.

    \b
    Example:
      gpudeck ledger verify -o json
    """
    from app.cli.ledger import verify_ledger

    verify_ledger(settings())


@ledger.command("backup")
@common
def ledger_backup() -> None:
    """Copy the ledger now, check the copy, say where it is.

    \b
    Example:
      gpudeck ledger backup
    """
    from app.cli.ledger import back_up_ledger

    back_up_ledger(settings())


@ledger.command("restore")
@click.argument("file", type=click.Path())
@common
def ledger_restore(file: str) -> None:
    """Go back to the backup FILE; the ledger of now is kept aside.

    \b
    Example:
      gpudeck ledger restore ledger-20260301T120000Z.db
    """
    from app.cli.ledger import restore_ledger

    restore_ledger(settings(), file)
