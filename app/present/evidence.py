"""What a line of a statement rests on, in words. Pure; both kinds of statement say the same."""

from __future__ import annotations

from typing import Final

from app.format import duration, plain
from app.present.amounts import clock, instant
from orchestrator.contract.accounting import Statement, StatementLine

ENDS: Final = {
    "exit": "the engine's own evidence",
    "last_seen": "the last heartbeat (nobody saw its end)",
    "void": "it never started",
    "tier_change": "its tier changed; the next line goes on",
    "price_change": "a new price book; the next line goes on",
    "absence": "nobody could scale it down; the rest is not charged",
    "suspend": "the host slept; the time is not charged",
}


def began(line: StatementLine, statement: Statement) -> str:
    """Why the line begins where it does."""
    if line.start_ns in (line.started_ns, line.intent_ns):
        return "its worker started"
    if line.start_ns == line.ready_ns:
        return "its worker was ready"
    if statement.month is not None and line.start_ns == statement.since_ns:
        return "it goes on from the period before"
    return "its worker goes on from an earlier line, at other terms"


def ended(line: StatementLine, statement: Statement) -> str:
    """Why the line ends where it does."""
    if line.end_ns is None:
        return "running"
    if line.end_source is not None:
        return ENDS.get(line.end_source, plain(line.end_source))
    if statement.month is not None and line.end_ns == statement.until_ns:
        return "the end of the period; it goes on in the next one"
    return "charged up to here; the rest is the next line"


def life(line: StatementLine) -> str:
    """When the worker was decided on, started and became ready."""
    parts = [f"decided {instant(line.intent_ns)}"]
    if line.started_ns is None:
        return f"{parts[0]}, never started"
    parts.append(f"started {_after(line.started_ns, line.intent_ns)}")
    parts.append("never ready" if line.ready_ns is None else f"ready {_after(line.ready_ns, line.intent_ns)}")
    return ", ".join(parts)


def end_of(line: StatementLine, statement: Statement) -> str:
    """Why the line and its worker ended, in one sentence where both did at once."""
    if line.end_ns is None:
        return "still running"
    words = death(line)
    if line.end_source in ("exit", "last_seen") and line.end_ns == line.worker_ended_ns:
        return words
    return f"{ended(line, statement)}; {words}"


def death(line: StatementLine) -> str:
    """How the worker ended, by whose word."""
    if line.worker_ended_ns is None:
        return "worker still running"
    source = ENDS.get(line.worker_end_source or "", plain(line.worker_end_source or "unknown"))
    cause = ", ".join(plain(text) for text in (line.end_cause, line.end_detail) if text)
    return f"worker ended {instant(line.worker_ended_ns)}, by {source}" + (f": {cause}" if cause else "")


def requests(line: StatementLine) -> str:
    """Requests served, or a dash when nothing is known."""
    return "–" if line.requests is None else f"{line.requests:,}"


def period(statement: Statement) -> str:
    """`March 2026`, or the whole time since the account was opened."""
    if statement.month is None:
        return f"{instant(statement.since_ns)[:10]} to {instant(statement.taken_at_ns)[:10]}"
    names = (
        "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
        "December",
    )  # fmt: skip
    year, number = statement.month.split("-")
    return f"{names[int(number) - 1]} {year}"


def _after(at_ns: int, before_ns: int) -> str:
    return f"+{duration(at_ns - before_ns)}" if at_ns >= before_ns else f"at {clock(at_ns)}"
