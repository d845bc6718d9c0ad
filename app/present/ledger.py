"""The journal row by row, and what each amount rests on: worker, container, start, end, rate, requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from app.format import count, duration, plain, rate_per_hour, rate_per_second
from app.present import evidence, table
from app.present.amounts import exact_money, hours, instant
from app.present.table import Column
from app.present.text import BLANK, Line, Span, Tone, flow, line, wrap
from orchestrator.contract.accounting import JournalRow, Statement, StatementLine
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.query import Verification
from orchestrator.contract.snapshot import AccountView, Tier

COLUMNS: Final = (
    Column("when", "WHEN (UTC)", 19, rank=1),
    Column("kind", "WHAT", 13),
    Column("endpoint", "ENDPOINT", 10, grow=True, grow_max=30),
    Column("worker", "WORKER", 6, rank=2),
    Column("span", "TIME", 8, rank=4, right=True),
    Column("change", "AMOUNT", 13, right=True),
    Column("balance", "BALANCE", 14, rank=3, right=True),
)
_KINDS: Final = {"topup": ("＋", "top-up", Tone.BUSY), "posting": ("−", "charge", Tone.PLAIN),
                 "absorbed": ("○", "not charged", Tone.MUTED)}  # fmt: skip


def month_of(at_ns: int) -> str:
    """`2026-11`, UTC."""
    return f"{datetime.fromtimestamp(at_ns // SECOND_NS, UTC):%Y-%m}"


def stepped(month: str | None, step: int, now_ns: int) -> str | None:
    """The month `step` later (earlier when negative); None, which stands for the whole time, comes after the present
    one."""
    present = month_of(now_ns)
    year, number = (int(part) for part in (month or _after(present)).split("-"))
    index = year * 12 + number - 1 + step
    found = f"{index // 12:04d}-{index % 12 + 1:02d}"
    return None if found > present else found


def _after(month: str) -> str:
    year, number = (int(part) for part in month.split("-"))
    return f"{year + number // 12:04d}-{number % 12 + 1:02d}"


def bounds(month: str | None) -> tuple[int | None, int | None]:
    """First instant of the month and of the next one, in nanoseconds."""
    if month is None:
        return None, None
    start, end = (datetime.strptime(each, "%Y-%m").replace(tzinfo=UTC) for each in (month, _after(month)))
    return int(start.timestamp()) * SECOND_NS, int(end.timestamp()) * SECOND_NS


def matching(rows: Sequence[JournalRow], needle: str) -> list[JournalRow]:
    """Rows that contain every word of `needle` somewhere."""
    words = needle.lower().split()
    return [row for row in rows if all(word in _searched(row) for word in words)]


def _searched(row: JournalRow) -> str:
    parts = (
        _KINDS[row.entry][1],
        row.endpoint,
        row.label,
        row.gpu_type,
        row.tier,
        row.memo,
        row.interval_id,
        instant(row.at_ns),
    )
    return " ".join(str(part) for part in parts if part).lower()


def journal_rows(rows: Sequence[JournalRow], chosen: int, room: int) -> list[Line]:
    """A head and one line a row; the chosen one on a ground of its own."""
    return table.listing(COLUMNS, map(_cells, rows), chosen, room) if rows else []


def _cells(row: JournalRow) -> dict[str, Line]:
    glyph, word, tone = _KINDS[row.entry]
    amount_u = row.amount_u if row.entry == "absorbed" else row.change_u
    amount = f"({exact_money(amount_u)})" if row.entry == "absorbed" else exact_money(amount_u)
    span = duration(row.upto_ns - row.from_ns) if row.upto_ns is not None and row.from_ns is not None else ""
    return {
        "when": line(Span(instant(row.at_ns)[:19], Tone.MUTED)),
        "kind": line(Span(f"{glyph} {word}" if glyph != "＋" else f"+ {word}", tone)),
        "endpoint": line(plain(row.endpoint or row.memo or "")),
        "worker": line(Span(row.label or "", Tone.STRONG)),
        "span": line(Span(span, Tone.MUTED)),
        "change": line(Span(amount, tone)),
        "balance": line(Span(exact_money(row.balance_u), Tone.MUTED)),
    }


def account_rows(account: AccountView | None, statement: Statement | None, room: int) -> list[Line]:
    """Opening, top-ups, charges and closing of the period, and whether they agree with the journal."""
    if statement is None:
        return [line(Span("◐ ", Tone.STARTING), Span("reading the statement", Tone.MUTED))]
    parts = [
        line(Span("opening ", Tone.MUTED), exact_money(statement.opening_u)),
        line(Span("+ topped up ", Tone.MUTED), exact_money(statement.topped_up_u)),
        line(Span("− charged ", Tone.MUTED), exact_money(statement.charged_u)),
        line(Span("= closing ", Tone.MUTED), Span(exact_money(statement.closing_u), Tone.STRONG)),
    ]
    if statement.absorbed_u:
        parts.append(line(Span(f"not charged ({exact_money(statement.absorbed_u)})", Tone.MUTED)))
    agrees = statement.reconciles
    parts.append(
        line(
            Span(
                "✔ agrees with the journal" if agrees else "✖ differs from the journal",
                Tone.BUSY if agrees else Tone.FAILED,
            )
        )
    )
    if account is not None and account.suspended:
        parts.append(line(Span("■ stopped: below $10.00", Tone.FAILED)))
    return flow(parts, room)


def evidence_rows(
    row: JournalRow, lines: Mapping[str, StatementLine], statement: Statement | None, room: int
) -> list[Line]:
    """What the row rests on."""
    drawn = [line(Span(f"row {count(row.txn_id)}", Tone.STRONG), Span(f"  {instant(row.at_ns)} UTC", Tone.MUTED))]
    if row.entry == "topup":
        drawn += wrap(f"Credit of {exact_money(row.change_u)} was added: {plain(row.memo or 'no memo')}.", room)
        return [*drawn, *_hash_rows(row, room)]
    drawn += _sum_rows(row, room)
    found = lines.get(row.interval_id or "")
    if found is None or statement is None:
        drawn += wrap("Its interval is not in the statement of this period.", room, Tone.MUTED)
    else:
        drawn += [BLANK, *_interval_rows(found, statement, room)]
    return [*drawn, *_hash_rows(row, room)]


def _sum_rows(row: JournalRow, room: int) -> list[Line]:
    """The amount as the multiplication it is."""
    if row.rate_uh is None or row.upto_ns is None or row.from_ns is None:
        return []
    rate = rate_per_second(row.rate_uh) if row.tier is Tier.AUTOSCALE else rate_per_hour(row.rate_uh)
    book = f" of {plain(row.price_book)}" if row.price_book else ""
    tier = row.tier.value if row.tier else "no"
    span = hours(row.upto_ns - row.from_ns)
    said = f"{span} at {rate} ({tier} tier{book}) = {exact_money(row.amount_u)}"
    if row.entry == "absorbed":
        said += ", which the platform pays"
    return wrap(said, room, Tone.PLAIN)


def _interval_rows(found: StatementLine, statement: Statement, room: int) -> list[Line]:
    pairs = [
        ("worker", f"{plain(found.worker_id)} ({found.label}) on {found.gpu_type} {plain(found.gpu_uuid)}"),
        ("container", plain(found.engine_ref or "never started")),
        ("model", f"{plain(found.model)}, generation {found.generation}"),
        ("life", evidence.life(found)),
        ("interval", f"{instant(found.start_ns)} to {instant(found.end_ns) if found.end_ns else 'now'}"),
        ("began", evidence.began(found, statement)),
        ("ended", evidence.end_of(found, statement)),
        ("requests", evidence.requests(found)),
        ("charged", exact_money(0 if found.absorbed else found.amount_u)),
    ]
    drawn: list[Line] = []
    for name, value in pairs:
        first, *rest = wrap(value, max(room - 11, 10)) or [BLANK]
        drawn.append(line(Span(f"{name:<11}", Tone.MUTED), first))
        drawn += [line(" " * 11, each) for each in rest]
    return drawn


def _hash_rows(row: JournalRow, room: int) -> list[Line]:
    return [BLANK, *wrap(f"chain {row.hash}" if room >= 72 else f"chain {row.hash[:16]}…", room, Tone.FAINT)]


def verification_rows(found: Verification, room: int) -> list[Line]:
    """What `gpudeck ledger verify` says, in short."""
    if found.ok:
        said = (f"✔ {count(found.entries)} entries, {count(found.intervals)} intervals and {count(found.rates)} rates "
                f"recomputed: drift {found.drift_u} µ$. Chain whole to row {count(found.head)}.")  # fmt: skip
        return wrap(said, room, Tone.BUSY)
    lines = wrap(f"✖ {len(found.problems)} problems, drift {found.drift_u} µ$", room, Tone.FAILED)
    return lines + [each for problem in found.problems[:8] for each in wrap(plain(problem), room, Tone.FAILED)]
