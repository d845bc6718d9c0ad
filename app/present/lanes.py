"""Worker lanes: what each worker is doing now, and how many were doing what over the last two minutes.

The strip is a stack of half blocks, one a worker: busy at the bottom, idle on it, then starting and draining. Its
heights are workers, so a rise to three and a half cells is seven workers.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
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
from app.present.text import BLANK, Line, Span, Tone, clip_line, flow, joined, line, pad, wrap
from orchestrator.contract.snapshot import EndpointState, EndpointView, LaneSample, WorkerState, WorkerView

LANE_SECONDS: Final = 120
_ORDER: Final = (BUSY, IDLE, STARTING, DRAINING, STOPPING, FAILED)
_LABEL: Final = 22
_MOST_ROWS: Final = 5


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


def rows(endpoints: tuple[EndpointView, ...], now_ns: int, room: int, density: Density) -> list[Line]:
    """The lanes of every endpoint, in lines of at most `room` cells."""
    if density is Density.COMPACT:
        top = max(
            (
                max([len(_units(sample)) for sample in endpoint.lanes] + [endpoint.spec.maximum])
                for endpoint in endpoints
            ),
            default=1,
        )
        return [_compact(endpoint, top, room) for endpoint in endpoints]
    lines: list[Line] = []
    for endpoint in endpoints:
        if lines:
            lines.append(BLANK)
        lines.extend(lane_with_problem(endpoint, now_ns, room, density))
    return lines


def lane(endpoint: EndpointView, now_ns: int, room: int, density: Density = Density.NORMAL) -> list[Line]:
    """One endpoint: name and counts at the left, the strip at the right, its workers as chips below."""
    label_room = _LABEL if density is Density.NORMAL else _LABEL + 4
    strip_room = max(room - label_room, 10)
    per_cell = 1 if density is Density.ROOMY else 2
    shown = endpoint.lanes[-LANE_SECONDS:]
    peak = max([len(_units(sample)) for sample in shown] + [endpoint.spec.baseline, 1])
    height = min(-(-peak // per_cell), _MOST_ROWS * 2 // per_cell)
    strip = strip_of(shown, strip_room, height, per_cell)
    labels = [
        line(Span(endpoint.spec.slug, Tone.STRONG), " ", Span(endpoint.spec.setup, Tone.MUTED)),
        counts(endpoint),
    ]
    lines: list[Line] = []
    for index in range(max(height, len(labels))):
        label = labels[index] if index < len(labels) else BLANK
        drawn = strip[index - max(len(labels) - height, 0)] if index >= len(labels) - height else BLANK
        lines.append(line(pad(label, label_room), drawn))
    return lines + chips(endpoint, now_ns, room)


def lane_with_problem(endpoint: EndpointView, now_ns: int, room: int, density: Density = Density.NORMAL) -> list[Line]:
    """The lane, and under a failed or retrying endpoint what is wrong."""
    lines = lane(endpoint, now_ns, room, density)
    if endpoint.problem and endpoint.state in (EndpointState.FAILED, EndpointState.BACKOFF):
        lines.extend(problem(endpoint, now_ns, room))
    return lines


def strip_of(samples: tuple[LaneSample, ...], room: int, height: int, per_cell: int = 2) -> list[Line]:
    """Two minutes of worker counts in `room` x `height` cells; a minute that has not happened yet stays empty."""
    slots = min(room, LANE_SECONDS)
    repeat, extra = divmod(room, slots)
    columns: list[list[Tone]] = []
    for slot in range(slots):
        sample = _sample_at(samples, slot, slots)
        wide = repeat + (1 if slot >= slots - extra else 0)
        columns.extend([_units(sample)[: height * per_cell] if sample else []] * wide)
    return stack(columns, room, height, per_cell)


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


def chips(endpoint: EndpointView, now_ns: int, room: int) -> list[Line]:
    """The present workers as `● w1 B busy`, wrapped."""
    return flow([chip(worker, endpoint.concurrency, now_ns) for worker in present_workers(endpoint)], room, gap=3)


def problem(endpoint: EndpointView, now_ns: int, room: int, limit: int = 2) -> list[Line]:
    """What is wrong and when the next attempt is, in at most `limit` lines."""
    if endpoint.problem is None:
        return []
    again = endpoint.problem.retry_at_ns
    text = plain(endpoint.problem.message)
    if again is not None:
        text += f" Next try in {seconds(max(again - now_ns, 0) // 1_000_000_000)}."
    lines = wrap(text, room - 2, Tone.FAILED, limit)
    return [line(Span("▲ " if index == 0 else "  ", Tone.FAILED), each) for index, each in enumerate(lines)]


def chip(worker: WorkerView, concurrency: int, now_ns: int) -> Line:
    """Glyph, label, tier and word of one worker, with requests in flight or seconds of start where they tell more."""
    mark = worker_mark(worker)
    tier = line(" ", tier_letter(worker)) if worker.tier else BLANK
    return line(
        Span(mark.glyph, mark.tone),
        Span(f" {worker.label}", Tone.PLAIN),
        tier,
        Span(f" {mark.word}{_detail(worker, mark, concurrency, now_ns)}", mark.tone),
    )


def _detail(worker: WorkerView, mark: Mark, concurrency: int, now_ns: int) -> str:
    if mark is BUSY and concurrency > 1:
        return f" {worker.running}"
    if worker.state is WorkerState.STARTING:
        return f" {seconds((now_ns - worker.intent_ns) // 1_000_000_000)}"
    return ""


def _compact(endpoint: EndpointView, top: int, room: int) -> Line:
    """Name, a one-row strip and the workers' glyphs and labels, then the counts in words where they fit."""
    shown = endpoint.lanes[-LANE_SECONDS:]
    strip = _thin_strip(shown, 20, top)
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
