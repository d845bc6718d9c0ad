"""From toned lines to what Textual draws. The only place that knows how a tone looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from textual.content import Content

from app.present.text import Line, Tone

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


def to_content(lines: Sequence[Line]) -> Content:
    """The lines as one `Content`. Text is taken as it is: nothing in it is markup."""
    return Content("\n").join([_line(each) for each in lines])


def _line(spans: Line) -> Content:
    parts = []
    for span in spans:
        style = STYLES[span.tone]
        if span.ground is not None:
            style = f"{style} on {STYLES[span.ground].removeprefix('bold ')}"
        parts.append((span.text, style))
    return Content.assemble(*parts)
