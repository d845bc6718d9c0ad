"""The decision journal, newest first: when, how many workers were wanted, by which rule, and on what numbers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import tzinfo
from typing import Final

from app.format import cells, clock, plain
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
    """A head line for each decision, and its sentence below where it does not fit beside."""
    found: list[Line] = []
    for one in reversed(tuple(lines)):
        found.extend(_rows(one, room, zone))
    return found


def _rows(one: DecisionLine, room: int, zone: tzinfo | None) -> list[Line]:
    wants = str(one.desired) if one.before in (None, one.desired) else f"{one.before} → {one.desired}"
    head = line(Span(clock(one.at_ns, zone), Tone.FAINT), "  ", Span(f"{wants:<{_WANTS}}", Tone.STRONG))
    indent = width(head)
    if one.obstacle is not None:
        head = line(head, Span(f"{OBSTACLES.get(one.obstacle, plain(one.obstacle))}  ", Tone.STARTING))
    sentence = plain(one.why) + (f" (asked for {one.asked})" if one.asked != one.desired else "")
    if width(head) + cells(sentence) <= room:
        return [line(head, Span(sentence, Tone.PLAIN))]
    return [clip_line(head, room), *(line(" " * indent, each) for each in wrap(sentence, max(room - indent, 10)))]
