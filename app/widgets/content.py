"""From toned lines to what Textual draws. The only place that knows how a tone looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.segment import Segment
from rich.style import Style as RichStyle
from textual.cache import LRUCache
from textual.content import Content
from textual.strip import Strip
from textual.style import Style

from app.format import plain
from app.present.text import Line, Span, Tone

STYLES: Final = {
    Tone.PLAIN: "$foreground",
    Tone.STRONG: "bold $tone-strong",
    Tone.MUTED: "$tone-muted",
    Tone.FAINT: "$tone-faint",
    Tone.ACCENT: "$tone-accent",
    Tone.TITLE: "$tone-faint",
    Tone.BUSY: "$tone-busy",
    Tone.IDLE: "$tone-idle",
    Tone.STARTING: "$tone-starting",
    Tone.DRAINING: "$tone-draining",
    Tone.FAILED: "$tone-failed",
    Tone.AUTO: "bold $tone-auto",
    Tone.INFO: "$tone-info",
    Tone.TRACK: "$tone-track",
    Tone.ACCENT_LOW: "$tone-accent 45%",
    Tone.INFO_LOW: "$tone-info 45%",
    Tone.STARTING_LOW: "$tone-starting 45%",
    Tone.SELECTED: "$tone-selected",
    Tone.BADGE: "bold $tone-badge on $tone-muted",
    Tone.BADGE_WARNING: "bold $tone-badge on $tone-starting",
}
"""Every tone's style, in theme variables only."""

STRIPS_KEPT: Final = 256
"""More than there are lines on most terminals."""


def to_content(lines: Sequence[Line]) -> Content:
    """The lines as one `Content`. Text is taken as it is: nothing in it is markup."""
    return Content("\n").join([_line(each) for each in lines])


class StripMaker:
    """Lines as strips on one ground. Styles and strips are remembered: most lines of a picture were in the last one."""

    def __init__(self, base: Style) -> None:
        self.base = base
        self._styles: dict[tuple[Tone, Tone | None], RichStyle] = {}
        self._strips: LRUCache[Line, Strip] = LRUCache(STRIPS_KEPT)

    def strip(self, spans: Line) -> Strip:
        """The line at its own width."""
        found = self._strips.get(spans)
        if found is None:
            segments = [Segment(_drawable(span.text), self._style(span)) for span in spans]
            found = self._strips[spans] = Strip(segments)
        return found

    def _style(self, span: Span) -> RichStyle:
        key = span.tone, span.ground
        found = self._styles.get(key)
        if found is None:
            found = self._styles[key] = (self.base + Style.parse(_style(span))).rich_style
        return found


def _drawable(text: str) -> str:
    """Presenters clean what comes from outside. A line end that got through would break every line below it."""
    return text if text.isprintable() else plain(text)


def _line(spans: Line) -> Content:
    return Content.assemble(*((span.text, _style(span)) for span in spans))


def _style(span: Span) -> str:
    style = STYLES[span.tone]
    return style if span.ground is None else f"{style} on {STYLES[span.ground].removeprefix('bold ')}"
