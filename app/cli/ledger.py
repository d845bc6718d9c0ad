"""`gpudeck ledger`: its rows, their export, its verification, backup and restore."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

import click

from app.cli.accounts import parse_span
from app.cli.endpoints import demand_consent
from app.cli.exits import CliError, Exit
from app.cli.options import Settings
from app.cli.output import Column, print_blank, print_fields, print_json, print_table, say
from app.cli.reports import run_program
from app.cli.session import Session, complete, connected, talk
from app.format import duration, plain
from app.present.amounts import exact, exact_money, instant, iso
from orchestrator.contract.accounting import BackupMade, JournalPage, JournalRow
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.query import AskBackup, AskJournal, AskVerify, Verification

PAGE_ROWS: Final = 2_000
COPY_S: Final = 3_600.0
DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:\d{2})?)?")
"""UTC, unless it says how far it is from it."""
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
LATEST_NS: Final = (1 << 63) - 1
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet runs a cell that begins so; such a text gets an apostrophe in front."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What `ledger show` and `ledger export` are asked for, as typed."""

    account: str | None = None
    endpoint: str | None = None
    worker: str | None = None
    since: str | None = None
    until: str | None = None
    kind: Literal["topup", "posting", "absorbed"] | None = None

    async def query(self, session: Session, *, newest: bool) -> AskJournal:
        """Raises CliError for a time that is none."""
        now_ns = 0
        if any(text is not None and not DATE.fullmatch(text) for text in (self.since, self.until)):
            now_ns = (await session.snapshot()).taken_at_ns
        return AskJournal(
            account=self.account,
            endpoint=self.endpoint,
            worker=self.worker,
            entry=self.kind,
            since_ns=None if self.since is None else parse_instant("--since", self.since, now_ns),
            until_ns=None if self.until is None else parse_instant("--until", self.until, now_ns),
            newest=newest,
            limit=PAGE_ROWS,
        )


def parse_instant(option: str, text: str, now_ns: int) -> int:
    """Nanoseconds of `2026-03-01`, `2026-03-01T12:00` (UTC), `2026-03-01 12:00:07.250+01:00`, or of a span before now,
    such as `24h`. Raises CliError naming `option`, also for what is before 1970 or after 2262."""
    if DATE.fullmatch(text):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise CliError(f"{option}: '{text}' is no date", Exit.USAGE) from error
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        at_ns = (moment - EPOCH) // MICROSECOND * 1_000
    else:
        try:
            at_ns = now_ns - parse_span(option, text) * SECOND_NS
        except CliError as error:
            hint = "write it as 2026-03-01, 2026-03-01T12:00 (UTC, or with +01:00 behind it) or, counted back, 24h"
            raise CliError(f"{option}: '{plain(text)}' is no time; {hint}", Exit.USAGE) from error
    if not 0 <= at_ns <= LATEST_NS:
        raise CliError(f"{option}: '{text}' is not between 1970 and 2262", Exit.USAGE)
    return at_ns


async def read_rows(session: Session, query: AskJournal) -> AsyncIterator[JournalRow]:
    """Every row that matches, page by page."""
    while True:
        page = await session.ask(query, JournalPage)
        for row in page.rows:
            yield row
        if page.next is None:
            return
        query = query.model_copy(update={"cursor": page.next})


def show_ledger(settings: Settings, filters: Filters, *, limit: int) -> None:
    """`gpudeck ledger show`: the newest `limit` rows that match, oldest first."""

    async def work(session: Session) -> list[JournalRow]:
        rows: list[JournalRow] = []
        async for row in read_rows(session, await filters.query(session, newest=True)):
            rows.append(row)
            if len(rows) == limit:
                break
        return rows[::-1]

    rows = talk(work)
    if settings.json:
        print_json(rows)
        return
    if not rows:
        say("no rows match")
        return
    columns = (
        Column("ROW", right=True), Column("TIME (UTC)"), Column("ACCOUNT"), Column("WHAT"), Column("FOR"),
        Column("TIME", right=True), Column("CHANGE", right=True), Column("BALANCE", right=True),
    )  # fmt: skip
    print_table(columns, [_shown(row) for row in rows])


def _shown(row: JournalRow) -> tuple[str, ...]:
    if row.entry == "topup":
        what, span = row.memo or "", ""
    else:
        tier = "" if row.tier is None else row.tier.value
        what = f"{row.endpoint} {row.label} {tier}"
        span = duration((row.upto_ns or 0) - (row.from_ns or 0))
    change = f"({exact_money(row.amount_u)})" if row.entry == "absorbed" else exact_money(row.change_u)
    kind = {"topup": "top-up", "posting": "charge", "absorbed": "not charged"}[row.entry]
    return (f"{row.txn_id}", instant(row.at_ns)[:19], row.account, kind, what, span, change, exact_money(row.balance_u))


def export_ledger(filters: Filters, *, form: Literal["csv", "jsonl"], file: str | None) -> None:
    """`gpudeck ledger export`: a page at a time, so a long ledger needs no memory."""

    async def work(session: Session) -> int:
        count = 0
        query = await filters.query(session, newest=False)
        with click.open_file(file or "-", "w", encoding="utf-8", lazy=False) as target:
            write: Callable[[JournalRow], str] = csv_line if form == "csv" else json_line
            if form == "csv":
                target.write(",".join(EXPORTED) + "\r\n")
            async for row in read_rows(session, query):
                target.write(write(row))
                count += 1
        return count

    if file is not None:
        _make_private(Path(file))
    count = talk(work)
    if file is not None:
        say(f"{count:,} rows written to {file}")


def _make_private(file: Path) -> None:
    try:
        file.touch(mode=0o600)
    except OSError as error:
        raise CliError(f"--out: {file} cannot be written: {error.strerror}", Exit.FAILURE) from error


def exported(row: JournalRow) -> dict[str, Any]:
    """A row with exact integers, and dollars and instants as text beside them."""
    found = row.model_dump(mode="json")
    for name in ("amount", "change", "balance"):
        found[f"{name}_usd"] = exact(found[f"{name}_u"])
    found["at"] = iso(row.at_ns)
    return {name: found[name] for name in EXPORTED}


EXPORTED: Final = (
    "txn_id", "at", "at_ns", "entry", "account", "amount_u", "amount_usd", "change_u", "change_usd", "balance_u",
    "balance_usd", "endpoint", "worker_id", "label", "gpu_type", "tier", "rate_uh", "price_book", "interval_id",
    "from_ns", "upto_ns", "key", "memo", "hash",
)  # fmt: skip


def json_line(row: JournalRow) -> str:
    return json.dumps(exported(row), separators=(",", ":")) + "\n"


def csv_line(row: JournalRow) -> str:
    """RFC 4180. Text that a spreadsheet would run as a formula is made harmless; numbers stay numbers."""
    cells = []
    for value in exported(row).values():
        if isinstance(value, str):
            value = plain(value)  # noqa: PLW2901
            number = re.fullmatch(r"-?\d+(\.\d+)?", value) is not None
            value = f"'{value}" if value.startswith(FORMULA) and not number else value  # noqa: PLW2901
        cells.append("" if value is None else value)
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()


def verify_ledger(settings: Settings) -> None:
    """`gpudeck ledger verify`. Raises CliError when an amount is off."""

    async def work(session: Session) -> Verification:
        return await session.ask(AskVerify(), Verification)

    found = talk(work)
    if settings.json:
        print_json(found)
    else:
        _print_verification(found)
    if not found.ok:
        raise CliError("the ledger does not add up", Exit.FAILURE, "\n".join(f"  {plain(x)}" for x in found.problems))


def _print_verification(found: Verification) -> None:
    print_fields(
        {
            "ledger": "every amount is right" if found.ok else "WRONG",
            "intervals": f"{found.intervals:,}",
            "entries": f"{found.entries:,}",
            "drift": f"{found.drift_u} micro-dollars",
            "rates": f"{found.rates:,} intervals compared with their price books",
            "chain": f"row {found.head:,}, {found.head_hash}",
        }
    )
    if found.totals:
        print_blank()
        columns = (
            Column("ACCOUNT"), Column("TOPPED UP", right=True), Column("CHARGED", right=True),
            Column("BALANCE", right=True), Column("NOT CHARGED", right=True),
        )  # fmt: skip
        rows = [
            (t.account, exact_money(t.topped_up_u), exact_money(t.billed_u), exact_money(t.balance_u),
             exact_money(t.absorbed_u))
            for t in found.totals
        ]  # fmt: skip
        print_table(columns, rows)
    for note in found.notes:
        say(plain(note))


def back_up_ledger(settings: Settings) -> None:
    """`gpudeck ledger backup`: by the running orchestrator, else without one."""

    async def work() -> dict[str, Any] | None:
        try:
            async with connected() as session:
                made = await session.ask(AskBackup(), BackupMade)
        except CliError as error:
            if error.exit_code != Exit.NOT_RUNNING:
                raise
            return None
        return {"path": made.path, "size_bytes": made.size_bytes, "head": made.head}

    made = complete(work) or run_program(["backup"], COPY_S)
    if settings.json:
        print_json(made)
    else:
        print_fields({"backup": made["path"], "journal rows": f"{made['head']:,}", "bytes": f"{made['size_bytes']:,}"})


def restore_ledger(settings: Settings, file: str) -> None:
    """`gpudeck ledger restore FILE`. The orchestrator's program refuses while another one runs."""
    if not Path(file).is_file():
        raise CliError(f"ledger: {file} is no file")
    demand_consent(settings, f"go back to {file}? What was charged after it is lost; the ledger of now is kept aside")
    done = run_program(["restore", str(Path(file).absolute())], COPY_S)
    if settings.json:
        print_json(done)
        return
    fields = {"ledger": done["ledger"], "from": done["from"], "journal rows": f"{done['head']:,}"}
    if done["last"]:
        fields["last row of"] = done["last"]
    if done["aside"]:
        fields["the one before"] = done["aside"]
    if done["secrets_lost"]:
        lost = "; ".join(f"{slug}: {', '.join(names)}" for slug, names in done["secrets_lost"].items())
        fields["set again"] = f"{lost} (secrets.key does not open what this backup holds of them)"
    print_fields(fields)
