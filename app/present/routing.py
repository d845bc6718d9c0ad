"""Round robin as it stands, and how long replies took: the inside of one endpoint's lane."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from app.format import count, fit, latency, memory, plain, seconds
from app.present.text import BLANK, Line, Span, Tone, clip_line, line, wrap
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.routing import Bucket, PlaceView, Routing

NO_WORKERS: Final = "No worker is in the ring.\nA request would wait until one is ready."
NO_REPLIES: Final = "no reply in the last 60 s"
FINEST_US: Final = 1_000
PLACES: Final = {"ring": "ring", "reserve": "reserve", "out": "leaving"}
REASONS: Final = {
    "busy": "busy: has no room",
    "suspect": "suspect: unreachable, probed now",
    "recycle": "recycle: timed out, is replaced",
    "draining": "draining: gets nothing new",
}
_TONES: Final = {"busy": Tone.BUSY, "suspect": Tone.STARTING, "recycle": Tone.FAILED, "draining": Tone.DRAINING}
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"


def ring_rows(seen: Routing, room: int) -> list[Line]:
    """A row for each place: whose turn it is, who would take a request now, and why the others would not."""
    if not seen.places:
        return []
    lines = [clip_line(_head(), room)]
    for before, place in zip((None, *seen.places), seen.places, strict=False):
        if before is not None and before.place != place.place:
            lines.append(BLANK)
        lines.append(clip_line(_place(seen, place), room))
    return [*lines, BLANK, clip_line(_verdict(seen), room)]


def _head() -> Line:
    return line(Span(f"    {'WORKER':<8}{'PLACE':<9}{'BUSY':>6}{'SERVED':>8}  STATE", Tone.TITLE))


def _place(seen: Routing, place: PlaceView) -> Line:
    turn = "▶" if place.worker_id == seen.turn and place.place == "ring" else " "
    last = "←" if place.worker_id == seen.last else " "
    idle = (seen.at_ns - place.idle_since_ns) // SECOND_NS
    if place.passed_over is not None:
        state = Span(REASONS[place.passed_over], _TONES[place.passed_over])
    elif place.worker_id == seen.takes:
        state = Span("takes the next request", Tone.ACCENT)
    else:
        state = Span("free" if place.in_flight else f"free, idle for {seconds(idle)}", Tone.IDLE)
    return line(
        Span(f"{turn} ", Tone.ACCENT), Span(f"{last} ", Tone.MUTED), Span(f"{place.label:<8}", Tone.STRONG),
        Span(f"{PLACES[place.place]:<9}", Tone.MUTED), f"{place.in_flight}/{place.concurrency}".rjust(6),
        f"{count(place.served):>8}", "  ", state,
    )  # fmt: skip


def _verdict(seen: Routing) -> Line:
    """What would become of a request that arrived now."""
    names = {place.worker_id: place.label for place in seen.places}
    if seen.closed is not None:
        return line(Span(f"A request now is refused: {plain(seen.closed)}", Tone.FAILED))
    if seen.takes is not None:
        reserve = any(place.worker_id == seen.takes and place.place == "reserve" for place in seen.places)
        why = ", from the reserve: nobody in the ring has room" if reserve else ""
        return line("A request now goes to ", Span(names[seen.takes], Tone.STRONG), Span(why, Tone.MUTED))
    if seen.queued >= seen.queue_limit:
        return line(Span("A request now is refused: the queue is full", Tone.FAILED))
    why = "behind those who wait" if seen.queued else "nobody has room"
    return line(Span(f"A request now waits: {why}", Tone.STARTING))


def queue_rows(seen: Routing, room: int) -> list[Line]:
    """How many wait, and how long the first ones have."""
    figures = line(
        Span(count(seen.queued), Tone.STRONG if seen.queued else Tone.FAINT),
        Span(f" of {count(seen.queue_limit)} waiting", Tone.MUTED),
        Span(f" · bodies {memory(seen.queued_bytes)}" if seen.queued_bytes else "", Tone.MUTED),
    )
    lines = [clip_line(figures, room)]
    longest = max(seen.waits_ms, default=0)
    for number, wait in enumerate(seen.waits_ms, start=1):
        bar = max(room - 16, 4)
        tone = Tone.ACCENT if number == 1 else Tone.STARTING
        lines.append(
            clip_line(
                line(Span(f"{number:>3} ", Tone.FAINT), _bar(wait, longest, bar, tone), f"{latency(wait):>10}"), room
            )
        )
    left = seen.queued - len(seen.waits_ms)
    return [*lines, *([line(Span(f"    +{left} more", Tone.FAINT))] if left > 0 else [])]


def legend_rows(room: int) -> list[Line]:
    """The signs of the ring, and the rule."""
    return [
        clip_line(line(Span("▶", Tone.ACCENT), Span(" whose turn it is   ← served last", Tone.MUTED)), room),
        *wrap("From ▶ on, the first worker with room takes a request. The reserve steps in when the ring has none.",
              room, Tone.FAINT),
    ]  # fmt: skip


def histogram_rows(buckets: Sequence[Bucket], room: int, tall: int) -> list[Line]:
    """Replies by how long they took, in at most `tall` rows of equal ratio, with bars of at most the room there is."""
    total = sum(bucket.count for bucket in buckets)
    if not total or tall < 1:
        return [line(Span(NO_REPLIES, Tone.FAINT))]
    rows = _grouped(buckets, tall)
    most = max(number for _, _, number in rows)
    lines = []
    for low_us, high_us, number in rows:
        name = fit(f"{_span(low_us)} – {_span(high_us)}" if low_us else f"up to {_span(high_us)}", 19, right=True)
        share = f"{number * 100 / total:.0f}%" if number * 200 >= total or not number else "<1%"
        bar = max(room - 19 - 1 - 7 - 5, 4)
        lines.append(
            clip_line(
                line(Span(f"{name} ", Tone.MUTED), _bar(number, most, bar, Tone.ACCENT), f"{count(number):>7}",
                     Span(f"{share:>5}", Tone.FAINT)),
                room,
            )
        )  # fmt: skip
    return lines


def _grouped(buckets: Sequence[Bucket], tall: int) -> list[tuple[int, int, int]]:
    """(from, to, count) in at most `tall` steps of equal ratio, empty ones between others included. What took less than
    FINEST_US is one step, from nothing on."""
    low = max(buckets[0].from_us, FINEST_US)
    high = max(buckets[-1].to_us, low + 1)
    if high <= low + 1:
        return [(0, low, sum(bucket.count for bucket in buckets))]
    # Never finer than a bucket: eight an octave below, and a step that holds part of one would guess.
    steps = max(1, min(tall, math.ceil(math.log2(high / low) * 4)))
    edges = [
        0 if buckets[0].from_us < low and step == 0 else round(low * (high / low) ** (step / steps))
        for step in range(steps)
    ] + [high]
    counts = [0] * steps
    for bucket in buckets:
        middle = max((bucket.from_us + bucket.to_us) // 2, low)
        at = min(int(math.log(middle / low) / math.log(high / low) * steps), steps - 1)
        counts[at] += bucket.count
    return [(edges[step], edges[step + 1], counts[step]) for step in range(steps)]


def _span(us: int) -> str:
    return f"{us} µs" if us < 1_000 else f"{us / 1_000:.1f} ms" if us < 10_000 else latency(us // 1_000)


def _bar(value: int, most: int, columns: int, tone: Tone) -> Line:
    """A bar of `columns` cells, filled to an eighth of a cell."""
    eighths = round(value * columns * 8 / most) if most else 0
    eighths = max(eighths, 1) if value else 0
    full, rest = divmod(eighths, 8)
    drawn = "█" * full + (_EIGHTHS[rest] if rest else "")
    return line(Span(drawn, tone), " " * (columns - len(drawn)))
