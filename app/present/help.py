"""The help screen's lines, from the registry of actions."""

from __future__ import annotations

from collections.abc import Sequence

from app.present.glyphs import BUSY, DRAINING, FAILED, IDLE, STARTING, STOPPING
from app.present.text import BLANK, Line, Span, Tone, joined, line, wrap

KEY_ROOM = 15


def rows(groups: Sequence[tuple[str, Sequence[tuple[str, str]]]], room: int) -> list[Line]:
    """Groups of (keys, what they do) under their headings, then the legend of states."""
    lines: list[Line] = []
    for heading, entries in groups:
        if lines:
            lines.append(BLANK)
        lines.append(line(Span(heading, Tone.STRONG)))
        for keys, text in entries:
            for index, wrapped in enumerate(wrap(text, max(room - KEY_ROOM, 20))):
                lines.append(line(Span(f"{keys if index == 0 else '':<{KEY_ROOM}}", Tone.ACCENT), wrapped))
    return [*lines, BLANK, *legend(room)]


def legend(room: int) -> list[Line]:
    """What the glyphs and letters of a worker mean."""
    marks = joined([line(m.spans()) for m in (STARTING, IDLE, BUSY, DRAINING, STOPPING, FAILED)], Span("   "))
    tiers = line(
        Span("B", Tone.MUTED), Span(" baseline rate   ", Tone.MUTED), Span("A", Tone.AUTO), Span(" autoscale rate", Tone.MUTED)
    )
    return [line(Span("Worker states", Tone.STRONG)), marks, tiers]
