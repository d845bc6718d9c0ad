"""Worker lanes: what each worker is doing now, and how many were doing what over the last two minutes.

The strip is a stack of half blocks, one a worker: busy at the bottom, idle on it, then starting and draining. Its
heights are workers, so a rise to three and a half cells is seven workers.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from functools import lru_cache, partial
from typing import Final

from app.format import plain, seconds
from app.present.chart import EIGHTHS, merge, stack
from app.present.glyphs import (
    BUSY,
    DRAINING,
    FAILED,
    IDLE,
    STARTING,
    STOPPING,
    Mark,
    present_workers,
    tier_letter,
    worker_mark,
)
from app.present.rows import Rows
from app.present.text import BLANK, Line, Piece, Span, Tone, breaks, clip_line, joined, laid, line, pad, width, wrap
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.snapshot import EndpointState, EndpointView, LaneSample, WorkerState, WorkerView

LANE_SECONDS: Final = 120
_ORDER: Final = (BUSY, IDLE, STARTING, DRAINING, STOPPING, FAILED)
_LABEL: Final = 22
_LABELS: Final = 2
"""Lines of words beside a strip, however low that is."""
_MOST_ROWS: Final = 5
_CHIP_GAP: Final = 3


class Density(StrEnum):
    """How much room the screen has: 80x24, about 120x40, 160x45 and up."""

    COMPACT = "compact"
    NORMAL = "normal"
    ROOMY = "roomy"


def density_of(width: int, height: int) -> Density:
    """The density for a terminal of this size."""
    if width < 100 or height < 30:
        return Density.COMPACT
    return Density.ROOMY if width >= 160 and height >= 44 else Density.NORMAL


def rows(endpoints: tuple[EndpointView, ...], now_ns: int, room: int, density: Density) -> Rows:
    """The lanes of every endpoint, in lines of at most `room` cells."""
    found = Rows()
    if density is Density.COMPACT:
        top = max((max(endpoint.lanes.peak, endpoint.spec.maximum) for endpoint in endpoints), default=1)
        found.each(endpoints, lambda endpoint: _compact(endpoint, top, room))
        return found
    for endpoint in endpoints:
        if found:
            found.add([BLANK])
        _add_lane(found, endpoint, now_ns, room, density)
        if endpoint.problem and endpoint.state in (EndpointState.FAILED, EndpointState.BACKOFF):
            found.add(problem(endpoint, now_ns, room))
    return found


def lane(endpoint: EndpointView, now_ns: int, room: int, density: Density = Density.NORMAL) -> list[Line]:
    """One endpoint: name and counts at the left, the strip at the right, its workers as chips below."""
    found = Rows()
    _add_lane(found, endpoint, now_ns, room, density)
    return list(found)


def _add_lane(found: Rows, endpoint: EndpointView, now_ns: int, room: int, density: Density) -> None:
    per_cell = 1 if density is Density.ROOMY else 2
    peak = max(endpoint.lanes.peak, endpoint.spec.baseline, 1)
    height = min(-(-peak // per_cell), _MOST_ROWS * 2 // per_cell)
    label_room = _LABEL if density is Density.NORMAL else _LABEL + 4
    found.later(max(height, _LABELS), partial(_labelled_strip, endpoint, label_room, room, height, per_cell))
    _add_chips(found, endpoint, now_ns, room)


def _labelled_strip(endpoint: EndpointView, label_room: int, room: int, height: int, per_cell: int) -> list[Line]:
    strip = strip_of(endpoint.lanes.samples, max(room - label_room, 10), height, per_cell)
    labels = [
        line(Span(endpoint.spec.slug, Tone.STRONG), " ", Span(endpoint.spec.setup, Tone.MUTED)),
        counts(endpoint),
    ]
    assert len(labels) == _LABELS
    lines: list[Line] = []
    for index in range(max(height, _LABELS)):
        label = labels[index] if index < _LABELS else BLANK
        drawn = strip[index - max(_LABELS - height, 0)] if index >= _LABELS - height else BLANK
        lines.append(line(pad(label, label_room), drawn))
    return lines


@lru_cache(maxsize=256)
def strip_of(samples: tuple[LaneSample, ...], room: int, height: int, per_cell: int = 2) -> tuple[Line, ...]:
    """Two minutes of worker counts in `room` x `height` cells; a minute that has not happened yet stays empty.

    Remembered, for samples come once a second and pictures more often.
    """
    slots = min(room, LANE_SECONDS)
    repeat, extra = divmod(room, slots)
    columns: list[list[Tone]] = []
    for slot in range(slots):
        sample = _sample_at(samples, slot, slots)
        wide = repeat + (1 if slot >= slots - extra else 0)
        columns.extend([_units(sample)[: height * per_cell] if sample else []] * wide)
    return tuple(stack(columns, room, height, per_cell))


def _sample_at(samples: tuple[LaneSample, ...], slot: int, slots: int) -> LaneSample | None:
    """The last sample within the slot, counting from the newest so that the right edge is always now."""
    back = (slots - 1 - slot) * LANE_SECONDS // slots
    return samples[-1 - back] if back < len(samples) else None


def _units(sample: LaneSample) -> list[Tone]:
    return (
        [Tone.BUSY] * sample.busy
        + [Tone.IDLE] * sample.idle
        + [Tone.STARTING] * sample.starting
        + [Tone.DRAINING] * sample.draining
    )


def counts(endpoint: EndpointView) -> Line:
    """`3 busy · 1 starting`, or why there is nothing to count."""
    marks = [worker_mark(worker) for worker in present_workers(endpoint)]
    if not marks:
        return line(Span(absence(endpoint), Tone.MUTED))
    tally = Counter(mark.word for mark in marks)
    parts = [line(Span(f"{tally[mark.word]} {mark.word}", mark.tone)) for mark in _ORDER if tally[mark.word]]
    return joined(parts, Span(" · ", Tone.FAINT))


def absence(endpoint: EndpointView) -> str:
    """Why an endpoint has no workers, in two words."""
    if endpoint.state is EndpointState.SERVING:
        return "starts on demand"
    if endpoint.state is EndpointState.BACKOFF:
        return "next try soon"
    return {EndpointState.STARTING: "starting"}.get(endpoint.state, "no workers")


def _add_chips(found: Rows, endpoint: EndpointView, now_ns: int, room: int) -> None:
    """The present workers as `● w1 B busy`, wrapped."""
    drawn = [chip(worker, endpoint.concurrency, now_ns) for worker in present_workers(endpoint)]
    starts = breaks([min(each.cells, room) for each in drawn], room, _CHIP_GAP)
    if starts:
        found.later(len(starts), lambda: laid([clip_line(each.line, room) for each in drawn], starts, _CHIP_GAP))


def problem(endpoint: EndpointView, now_ns: int, room: int, limit: int = 2) -> list[Line]:
    """What is wrong and when the next attempt is, in at most `limit` lines; what was wrong, once it is `healed`."""
    if endpoint.problem is None:
        return []
    again = endpoint.problem.retry_at_ns
    text, glyph, tone = plain(endpoint.problem.message), "▲ ", Tone.FAILED
    if healed(endpoint, now_ns):
        text, glyph, tone = f"Healed. The last crash: {text}", "✔ ", Tone.MUTED
    elif again is not None:
        text = f"{text.rstrip('.')}. " + (
            f"Next try in {seconds((again - now_ns) // SECOND_NS)}." if again > now_ns else "Trying again."
        )
    lines = wrap(text, room - 2, tone, limit)
    return [line(Span(glyph if index == 0 else "  ", tone), each) for index, each in enumerate(lines)]


def healed(endpoint: EndpointView, now_ns: int) -> bool:
    """Whether it serves again after its problem, which is kept until a worker has stayed ready for a while."""
    again = endpoint.problem.retry_at_ns if endpoint.problem is not None else None
    return endpoint.state is EndpointState.SERVING and again is not None and again <= now_ns


def chip(worker: WorkerView, concurrency: int, now_ns: int) -> Piece:
    """Glyph, label, tier and word of one worker, with requests in flight or seconds of start where they tell more."""
    mark = worker_mark(worker)
    tier = tier_letter(worker) if worker.tier else None
    return _chip(mark, worker.label, tier, _detail(worker, mark, concurrency, now_ns))


@lru_cache(maxsize=4_096)
def _chip(mark: Mark, label: str, tier: Span | None, detail: str) -> Piece:
    """Remembered: hundreds of workers look like one another, picture after picture."""
    drawn = line(
        Span(mark.glyph, mark.tone),
        Span(f" {label}", Tone.PLAIN),
        line(" ", tier) if tier else BLANK,
        Span(f" {mark.word}{detail}", mark.tone),
    )
    return Piece(drawn, width(drawn))


def _detail(worker: WorkerView, mark: Mark, concurrency: int, now_ns: int) -> str:
    if mark is BUSY and concurrency > 1:
        return f" {worker.running}"
    if worker.state is WorkerState.STARTING:
        return f" {seconds((now_ns - worker.intent_ns) // SECOND_NS)}"
    return ""


def _compact(endpoint: EndpointView, top: int, room: int) -> Line:
    """Name, a one-row strip and the workers' glyphs and labels, then the counts in words where they fit."""
    strip = _thin_strip(endpoint.lanes.samples, 20, top)
    workers = joined(
        [
            line(
                Span(worker_mark(worker).glyph, worker_mark(worker).tone),
                worker.label,
                tier_letter(worker) if worker.tier else "",
            )
            for worker in present_workers(endpoint)
        ],
        Span(" "),
    )
    start = line(pad(line(Span(endpoint.spec.slug, Tone.STRONG)), 12), " ", strip, "  ", workers)
    separator = Span("  " if workers else "", Tone.FAINT)
    return clip_line(line(start, separator, counts(endpoint)), room)


def _thin_strip(samples: tuple[LaneSample, ...], room: int, top: int) -> Line:
    """One row: height is the number of workers of `top`, colour what most of them were doing."""
    spans: list[Span] = []
    for slot in range(room):
        sample = _sample_at(samples, slot, room)
        units = _units(sample) if sample else []
        if not units:
            spans.append(Span(" " if sample is None else "▁", Tone.TRACK))
            continue
        most = Counter(units).most_common(1)[0][0]
        tone = Tone.STARTING if Tone.STARTING in units else most
        spans.append(Span(EIGHTHS[max(2, min(len(units) * 7 // top, 7))], tone))
    return merge(tuple(spans))
