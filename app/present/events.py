"""The event log, newest first."""

from __future__ import annotations

from datetime import tzinfo

from app.format import clock, plain
from app.present.glyphs import LEVELS
from app.present.rows import Rows
from app.present.text import Line, Span, Tone, clip_line, line
from orchestrator.contract.snapshot import EventView

NO_EVENTS = "Nothing has happened yet."


def matching(events: tuple[EventView, ...], needle: str) -> tuple[EventView, ...]:
    """The events that contain `needle` in text or endpoint, in any case."""
    wanted = needle.strip().casefold()
    if not wanted:
        return events
    return tuple(e for e in events if wanted in e.text.casefold() or wanted in (e.endpoint or "").casefold())


def rows(events: tuple[EventView, ...], room: int, zone: tzinfo | None) -> Rows:
    """One line an event: time, level, endpoint and text."""
    found = Rows()
    found.each(events[::-1], lambda event: event_line(event, room, zone))
    return found


def event_line(event: EventView, room: int, zone: tzinfo | None) -> Line:
    mark = LEVELS[event.level]
    name = [Span(f"{event.endpoint} ", Tone.STRONG)] if event.endpoint else []
    tone = Tone.PLAIN if event.level in ("info", "good") else mark.tone
    return clip_line(
        line(
            Span(clock(event.at_ns, zone), Tone.FAINT),
            " ",
            Span(f"{mark.glyph} ", mark.tone),
            *name,
            Span(plain(event.text), tone),
        ),
        room,
    )
