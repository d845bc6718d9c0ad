"""Log lines: foreign text, one terminal line each, with the worker's label before it when there are several."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from app.format import clip, plain
from app.present.text import Line, Span, Tone, line
from orchestrator.contract.query import LogLines


class Level(StrEnum):
    """What is shown, by the words in a line: model servers agree on no format, but on these words."""

    ALL = "all levels"
    WARNINGS = "warnings and errors"
    ERRORS = "errors"


LEVELS: Final = tuple(Level)
_SHOWN: Final = {
    Level.ALL: frozenset({Tone.PLAIN, Tone.STARTING, Tone.FAILED}),
    Level.WARNINGS: frozenset({Tone.STARTING, Tone.FAILED}),
    Level.ERRORS: frozenset({Tone.FAILED}),
}
_LOUD = (
    ("traceback", Tone.FAILED),
    ("error", Tone.FAILED),
    ("exception", Tone.FAILED),
    ("critical", Tone.FAILED),
    ("warn", Tone.STARTING),
)


def rows(workers: tuple[LogLines, ...], needle: str, room: int, level: Level = Level.ALL) -> list[Line]:
    """The lines of `level` that contain `needle` in any case, worker after worker, oldest first."""
    wanted = needle.strip().casefold()
    labelled = len(workers) > 1
    lines: list[Line] = []
    for worker in workers:
        for raw in worker.lines:
            text = plain(raw)
            if wanted in text.casefold() and _tone(text) in _SHOWN[level]:
                label = f"{worker.label:<4}" if labelled else ""
                lines.append(line(Span(label, Tone.ACCENT), Span(clip(text, room - len(label)), _tone(text))))
    return lines


def _tone(text: str) -> Tone:
    lower = text.casefold()
    return next((tone for word, tone in _LOUD if word in lower), Tone.PLAIN)
