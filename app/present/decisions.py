"""The decision journal, newest first, by day: when, how many workers were wanted, by which rule, on what numbers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import tzinfo
from typing import Final

from app.format import cells, clock, day, plain
from app.present.text import Line, Span, Tone, clip_line, line, width, wrap
from orchestrator.contract.decision import DecisionLine

NO_DECISIONS: Final = "No decision is recorded yet."
OBSTACLES: Final = {
    "maximum": "held at the maximum",
    "no_gpu": "no GPU is free",
    "gpu_busy": "another program uses the GPU",
    "backoff": "starts are failing",
    "engine": "the engine is silent",
    "ledger": "the ledger cannot be written",
    "credit": "out of credit",
}
_WANTS: Final = 9


def rows(lines: Iterable[DecisionLine], room: int, zone: tzinfo | None) -> list[Line]:
    """Under the date of its day, a line for each decision, and more below it where its sentence does not fit beside."""
    found: list[Line] = []
    of_day = ""
    for one in reversed(tuple(lines)):
        if (date := day(one.at_ns, zone)) != of_day:
            of_day = date
            found.append(clip_line(line(Span(date, Tone.MUTED)), room))
        found.extend(_rows(one, room, zone))
    return found


def sentence(one: DecisionLine) -> str:
    """Why, and what kept it from being done in full."""
    why = plain(one.why)
    if one.asked > one.desired:
        return f"{why}; the maximum is {one.desired}"
    return f"{why}; the baseline is {one.desired}" if one.asked < one.desired else why


def _rows(one: DecisionLine, room: int, zone: tzinfo | None) -> list[Line]:
    wants = str(one.desired) if one.before in (None, one.desired) else f"{one.before} → {one.desired}"
    head = line(Span(clock(one.at_ns, zone), Tone.FAINT), "  ", Span(f"{wants:<{_WANTS}}", Tone.STRONG))
    indent = width(head)
    if one.obstacle is not None:
        head = line(head, Span(f"{OBSTACLES.get(one.obstacle, plain(one.obstacle))}  ", Tone.STARTING))
    why = sentence(one)
    if width(head) + cells(why) <= room:
        return [line(head, Span(why, Tone.PLAIN))]
    below = [line(" " * indent, each) for each in wrap(why, max(room - indent, 10))]
    if one.obstacle is not None:
        return [clip_line(head, room), *below]
    return [line(head, *wrap(why, max(room - indent, 10))[:1]), *below[1:]]
