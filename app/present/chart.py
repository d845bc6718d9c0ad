"""Small charts from block characters. Pure; every function says how many cells and rows it fills."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final

from app.present.text import Line, Span, Tone, line

EIGHTHS: Final = " ▁▂▃▄▅▆▇█"
SUBDUED: Final = {Tone.ACCENT: Tone.ACCENT_LOW, Tone.INFO: Tone.INFO_LOW, Tone.STARTING: Tone.STARTING_LOW}


def resample(series: Sequence[int], columns: int) -> list[int]:
    """The newest values in `columns` buckets, each the largest value it covers; newest last. Shorter series stay as
    they are, so the result may have fewer than `columns` values."""
    if columns <= 0:
        return []
    if len(series) <= columns:
        return list(series)
    edges = [index * len(series) // columns for index in range(columns + 1)]
    return [max(series[start:end]) for start, end in pairwise(edges)]


def area(
    series: Sequence[int],
    columns: int,
    rows: int = 1,
    *,
    tone: Tone = Tone.ACCENT,
    top: int | None = None,
    low: int = 0,
) -> list[Line]:
    """An area chart of `columns` x `rows` cells, newest at the right edge, from `low` to `top` (None: the maximum).

    A value above zero shows at least a quarter of a cell; zero shows as a faint floor, and no value as nothing. A chart
    of one row stays an eighth below its top, so that charts in neighbouring lines do not grow together.
    """
    return list(_area(tuple(series), columns, rows, tone, top, low))


@lru_cache(maxsize=512)
def _area(series: tuple[int, ...], columns: int, rows: int, tone: Tone, top: int | None, low: int) -> tuple[Line, ...]:
    """Remembered: a series changes once a second, and pictures are drawn more often."""
    values = resample(series, columns)
    ceiling = max(top if top is not None else max(values, default=0), low + 1)
    most = 7 if rows == 1 else rows * 8
    levels = [_level(value, low, ceiling, most) for value in values]
    lead = columns - len(values)
    drawn: list[Line] = []
    for row in range(rows - 1, -1, -1):
        spans = [Span(" " * lead)]
        for level in levels:
            eighths = min(max(level - row * 8, 0), 8)
            if level == 0 and row == 0:
                spans.append(Span("▁", Tone.TRACK))
            else:
                # The crest in full colour and what is under it subdued: the line reads before the mass does.
                spans.append(Span(EIGHTHS[eighths], SUBDUED.get(tone, tone) if level > row * 8 + 8 else tone))
        drawn.append(merge(line(*spans)))
    return tuple(drawn)


def ruled(drawn: list[Line], value: int, label: str, tone: Tone, *, top: int, low: int = 0) -> list[Line]:
    """The chart `drawn` (an `area` from `low` to `top`) with a dashed line through the row of `value`, and its label at
    the left. A value outside of the chart changes nothing."""
    if not drawn or not low <= value < top:
        return drawn
    at = len(drawn) - 1 - (value - low) * len(drawn) // (top - low)
    cells = [(char, span.tone) for span in drawn[at] for char in span.text]
    shown = label if len(label) < len(cells) else ""
    spans: list[Span] = []
    for column, (char, under) in enumerate(cells):
        mark = shown[column] if column < len(shown) else "╌"
        if char in " ▁":
            spans.append(Span(mark, tone))
        elif char == "█" or column < len(shown):
            spans.append(Span(mark, tone, under if char == "█" else None))
        else:
            spans.append(Span(char, under))  # the crest itself is worth more than the line behind it
    return [*drawn[:at], merge(tuple(spans)), *drawn[at + 1 :]]


def _level(value: int, low: int, ceiling: int, most: int) -> int:
    if value <= low:
        return 0
    return max(2, min(round((value - low) * most / (ceiling - low)), most))


def meter(fraction: float | None, columns: int, tone: Tone, mark: float | None = None) -> Line:
    """A bar of `columns` cells: heavy up to `fraction` (0 to 1), light beyond, a notch at `mark`. None is empty."""
    share = min(max(fraction or 0.0, 0.0), 1.0)
    halves = round(share * columns * 2)
    if fraction and halves == 0:
        halves = 1
    full, half = divmod(halves, 2)
    notch = None if mark is None else min(int(mark * columns), columns - 1)
    spans = []
    for column in range(columns):
        filled = column < full or (column == full and half == 1)
        if column == notch:
            spans.append(Span("╋", tone) if filled else Span("┼", Tone.MUTED))
        elif column < full:
            spans.append(Span("━", tone))
        elif filled:
            spans.append(Span("╾", tone))
        else:
            spans.append(Span("─", Tone.TRACK))
    return merge(tuple(spans))


def stack(columns: Sequence[Sequence[Tone]], room: int, rows: int, per_cell: int = 2) -> list[Line]:
    """Lanes: each column is the tones of its units from the bottom up, two units to a cell, or one.

    `columns` are the newest last; they end at the right edge of `room` cells. With two units to a cell the lower half
    takes the even unit; with one, an eighth stays free above it, which draws a line between lanes.
    """
    shown = columns[-room:] if room > 0 else []
    lead = room - len(shown)
    drawn: list[Line] = []
    for row in range(rows - 1, -1, -1):
        spans = [Span(" " * lead)] if lead else []
        for column in shown:
            if per_cell == 1:
                spans.append(Span("▇", column[row]) if row < len(column) else _cell(None, None, floor=row == 0))
                continue
            below = column[row * 2] if row * 2 < len(column) else None
            above = column[row * 2 + 1] if row * 2 + 1 < len(column) else None
            spans.append(_cell(below, above, floor=row == 0))
        drawn.append(merge(tuple(spans)))
    return drawn


def _cell(below: Tone | None, above: Tone | None, *, floor: bool) -> Span:
    if below is None:
        return Span("▁", Tone.TRACK) if floor else Span(" ")
    if above is None:
        return Span("▄", below)
    return Span("█", below) if above is below else Span("▄", below, above)


def merge(spans: Line) -> Line:
    """Neighbouring spans of one tone as one: a tenth of the pieces to draw."""
    merged: list[Span] = []
    for span in spans:
        if merged and merged[-1].tone is span.tone and merged[-1].ground is span.ground:
            merged[-1] = Span(merged[-1].text + span.text, span.tone, span.ground)
        elif span.text:
            merged.append(span)
    return tuple(merged)
