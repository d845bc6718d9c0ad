"""Lines of toned text: what presenters return and widgets draw. No terminal, no Textual, no colour values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from app.format import cells, clip


class Tone(StrEnum):
    """What a piece of text means. The widgets map it to a colour of the theme (`app.widgets.content`)."""

    PLAIN = "plain"
    STRONG = "strong"
    MUTED = "muted"
    FAINT = "faint"
    ACCENT = "accent"
    TITLE = "title"
    BUSY = "busy"
    IDLE = "idle"
    STARTING = "starting"
    DRAINING = "draining"
    FAILED = "failed"
    AUTO = "auto"
    INFO = "info"
    TRACK = "track"
    ACCENT_LOW = "accent_low"
    INFO_LOW = "info_low"
    STARTING_LOW = "starting_low"
    SELECTED = "selected"
    BADGE = "badge"
    BADGE_WARNING = "badge_warning"


GOOD, WARNING, ERROR = Tone.BUSY, Tone.STARTING, Tone.FAILED


class Span(NamedTuple):
    """Text in one tone, on the panel's own ground or on that of another tone. Tuples, for a screen is thousands of them
    four times a second."""

    text: str
    tone: Tone = Tone.PLAIN
    ground: Tone | None = None


Line = tuple[Span, ...]
BLANK: Line = ()


def line(*parts: str | Span | Line) -> Line:
    """A line of strings (plain), spans and other lines, empty pieces left out."""
    spans: list[Span] = []
    for part in parts:
        if isinstance(part, str):
            spans.append(Span(part))
        elif isinstance(part, Span):
            spans.append(part)
        else:
            spans.extend(part)
    return tuple(span for span in spans if span.text)


def width(spans: Line) -> int:
    """Cells that the line takes."""
    return sum(cells(span.text) for span in spans)


class Piece(NamedTuple):
    """A line and the cells that it takes, for those who measure it more often than they draw it."""

    line: Line
    cells: int


def text(spans: Line) -> str:
    """The line without its tones."""
    return "".join(span.text for span in spans)


def clip_line(spans: Line, room: int) -> Line:
    """At most `room` cells, ending in `…` when something was cut off."""
    if width(spans) <= room:
        return spans
    kept: list[Span] = []
    left = room
    for span in spans:
        size = cells(span.text)
        if size < left:
            kept.append(span)
            left -= size
            continue
        # One cell is kept back for the ellipsis even when this span alone would fit: something follows it.
        kept.append(span._replace(text=clip(span.text + " ", left) if size == left else clip(span.text, left)))
        break
    return tuple(span for span in kept if span.text)


def pad(spans: Line, room: int, *, right: bool = False) -> Line:
    """Exactly `room` cells."""
    clipped = clip_line(spans, room)
    gap = Span(" " * (room - width(clipped)))
    return line(gap, clipped) if right else line(clipped, gap)


def spread(left: Line, right: Line, room: int) -> Line:
    """`left` at the start and `right` at the end of `room` cells; `left` gives way when both do not fit."""
    space = room - width(right)
    if space <= 0:
        return clip_line(right, room)
    return line(pad(left, space), right)


def on_ground(spans: Line, ground: Tone) -> Line:
    """The line with `ground` under every span that has none of its own."""
    return tuple(span if span.ground else span._replace(ground=ground) for span in spans)


def joined(parts: Iterable[Line], separator: Span) -> Line:
    """The lines one after the other with `separator` between."""
    spans: list[Span] = []
    for part in parts:
        if spans and part:
            spans.append(separator)
        spans.extend(part)
    return tuple(spans)


def flow(parts: Sequence[Line], room: int, gap: int = 2) -> list[Line]:
    """The parts from left to right, wrapped so that no line is wider than `room`."""
    pieces = [clip_line(part, room) for part in parts]
    return laid(pieces, breaks([width(piece) for piece in pieces], room, gap), gap)


def breaks(sizes: Sequence[int], room: int, gap: int) -> list[int]:
    """Where pieces of these sizes, with `gap` cells between them, begin a new row of `room` cells: at 0, and so on."""
    found: list[int] = []
    used = room
    for at, size in enumerate(sizes):
        used += gap + size
        if not found or used > room:
            found.append(at)
            used = size
    return found


def laid(pieces: Sequence[Line], starts: Sequence[int], gap: int) -> list[Line]:
    """The pieces in rows, each of which begins with one of `starts`."""
    between = Span(" " * gap)
    return [joined(pieces[start:end], between) for start, end in pairwise([*starts, len(pieces)])]


def wrap(sentence: str, room: int, tone: Tone = Tone.PLAIN, limit: int = 0) -> list[Line]:
    """A sentence broken at spaces; with `limit`, at most that many lines, the last one ending in `…` when cut."""
    rows: list[str] = []
    current = ""
    for word in sentence.split():
        candidate = f"{current} {word}" if current else word
        if current and cells(candidate) > room:
            rows.append(current)
            current = word
        else:
            current = candidate
    if current:
        rows.append(current)
    if limit and len(rows) > limit:
        rows = [*rows[: limit - 1], " ".join(rows[limit - 1 :])]
    return [line(Span(clip(row, room), tone)) for row in rows]
