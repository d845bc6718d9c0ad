"""Log lines: foreign text, one terminal line each, with the worker's label before it when there are several."""

from __future__ import annotations

from app.format import clip, plain
from app.present.text import Line, Span, Tone, line
from orchestrator.contract.query import LogLines

_LOUD = (
    ("traceback", Tone.FAILED),
    ("error", Tone.FAILED),
    ("exception", Tone.FAILED),
    ("critical", Tone.FAILED),
    ("warn", Tone.STARTING),
)


def rows(workers: tuple[LogLines, ...], needle: str, room: int) -> list[Line]:
    """The lines that contain `needle` in any case, worker after worker, oldest first."""
    wanted = needle.strip().casefold()
    labelled = len(workers) > 1
    lines: list[Line] = []
    for worker in workers:
        for raw in worker.lines:
            text = plain(raw)
            if wanted in text.casefold():
                label = f"{worker.label:<4}" if labelled else ""
                lines.append(line(Span(label, Tone.ACCENT), Span(clip(text, room - len(label)), _tone(text))))
    return lines


def _tone(text: str) -> Tone:
    lower = text.casefold()
    return next((tone for word, tone in _LOUD if word in lower), Tone.PLAIN)
