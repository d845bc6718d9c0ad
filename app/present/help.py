"""The help screen's lines, from the registry of actions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Final

from app.format import cells
from app.present.glyphs import BUSY, DRAINING, FAILED, IDLE, STARTING, STOPPING
from app.present.text import BLANK, Line, Span, Tone, flow, line, pad, wrap

_TWO_COLUMNS: Final = 96
Groups = Sequence[tuple[str, Sequence[tuple[str, str]]]]


def rows(groups: Groups, room: int) -> list[Line]:
    """Groups of (keys, what they do) under their headings and the legend of states; two columns where they fit."""
    if room < _TWO_COLUMNS:
        return [*_column(groups, room), BLANK, *legend(room)]
    half = (room - 4) // 2
    left, right = _column(groups[:2], half), [*_column(groups[2:], half), BLANK, *legend(half)]
    return [line(pad(one, half), "    ", other) for one, other in zip_longest(left, right, fillvalue=BLANK)]


def _column(groups: Groups, room: int) -> list[Line]:
    lines: list[Line] = []
    key_room = max((cells(keys) for _, entries in groups for keys, _ in entries), default=0) + 2
    for heading, entries in groups:
        if lines:
            lines.append(BLANK)
        lines.append(line(Span(heading, Tone.STRONG)))
        for keys, text in entries:
            for index, wrapped in enumerate(wrap(text, max(room - key_room, 20))):
                lines.append(line(Span(f"{keys if index == 0 else '':<{key_room}}", Tone.ACCENT), wrapped))
    return lines


def legend(room: int) -> list[Line]:
    """What the glyphs and letters of a worker mean."""
    marks = flow([line(mark.spans()) for mark in (STARTING, IDLE, BUSY, DRAINING, STOPPING, FAILED)], room, gap=3)
    tiers = line(
        Span("B", Tone.MUTED),
        Span(" baseline rate   ", Tone.MUTED),
        Span("A", Tone.AUTO),
        Span(" autoscale rate", Tone.MUTED),
    )
    return [line(Span("Workers", Tone.STRONG)), *marks, tiers]
