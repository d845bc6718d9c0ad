"""Requests of one endpoint: rate, latency and queue, as figures and as charts of the last two minutes."""

from __future__ import annotations

from typing import Final

from app.format import count, latency
from app.present.chart import area
from app.present.lanes import Density
from app.present.text import Line, Span, Tone, line, spread
from orchestrator.contract.snapshot import EndpointView, TrafficView

SERIES_S: Final = 120
_TALLEST: Final = 10
NO_TRAFFIC: Final = "No endpoint is selected."


def rows(endpoint: EndpointView, room: int, height: int, density: Density) -> list[Line]:
    """Figures and three charts in about `height` lines of `room` cells."""
    traffic = endpoint.traffic
    if density is Density.COMPACT:
        return _compact(traffic, room)
    sizes = chart_rows(max(height - 4, 3))
    lines = [_figures(traffic, room)]
    for title, note, series, tone, rows_here in zip(
        ("requests/s", "p95 latency", "queue"),
        (_request_note(traffic), _latency_note(traffic), _queue_note(traffic)),
        (traffic.requests_series, traffic.p95_series_ms, traffic.queued_series),
        (Tone.ACCENT, Tone.INFO, Tone.STARTING),
        sizes,
        strict=True,
    ):
        lines.append(spread(line(Span(title, Tone.MUTED)), note, room))
        lines.extend(area(series[-SERIES_S:], room, rows_here, tone=tone))
    return lines


def chart_rows(spare: int) -> tuple[int, int, int]:
    """Rows for the three charts: equal shares, the first ones taking what is left."""
    share, left = divmod(spare, 3)
    first, second, third = (min(share + (1 if index < left else 0), _TALLEST) for index in range(3))
    return first, second, third


def _figures(traffic: TrafficView, room: int) -> Line:
    pairs = [("rpm", count(traffic.rpm)), ("p50", latency(traffic.p50_ms)), ("p95", latency(traffic.p95_ms))]
    if room >= 52:
        pairs.append(("p99", latency(traffic.p99_ms)))
    parts: list[Span] = []
    for name, figure in pairs:
        parts.extend((Span(figure, Tone.STRONG), Span(f" {name}   ", Tone.MUTED)))
    return line(*parts)


def _request_note(traffic: TrafficView) -> Line:
    peak = max(traffic.requests_series[-SERIES_S:], default=0)
    failed = sum(traffic.failures_series[-60:])
    parts = [Span(f"peak {peak}/s", Tone.MUTED)]
    if failed:
        parts.insert(0, Span(f"✖ {count(failed)} failed  ", Tone.FAILED))
    return line(*parts)


def _latency_note(traffic: TrafficView) -> Line:
    peak = max(traffic.p95_series_ms[-SERIES_S:], default=0)
    return line(Span(f"peak {latency(peak)}" if peak else "", Tone.MUTED))


def _queue_note(traffic: TrafficView) -> Line:
    if not traffic.queued:
        return line(Span("empty", Tone.MUTED))
    return line(
        Span(f"{count(traffic.queued)} waiting", Tone.STARTING),
        Span(f" · oldest {latency(traffic.oldest_wait_ms)}", Tone.MUTED),
    )


def _compact(traffic: TrafficView, room: int) -> list[Line]:
    chart = max(room - 22, 8)

    def strip(name: str, series: tuple[int, ...], tone: Tone, figure: str) -> Line:
        return line(
            Span(f"{name:<6}", Tone.MUTED),
            area(series[-SERIES_S:], chart, tone=tone)[0],
            Span(f"  {figure}", Tone.PLAIN),
        )

    wait = f"{count(traffic.queued)} · {latency(traffic.oldest_wait_ms)}" if traffic.queued else "empty"
    return [
        strip("req/s", traffic.requests_series, Tone.ACCENT, f"{count(traffic.rpm)} rpm"),
        strip("p95", traffic.p95_series_ms, Tone.INFO, latency(traffic.p95_ms)),
        strip("queue", traffic.queued_series, Tone.STARTING, wait),
        line(
            Span("p50   ", Tone.MUTED),
            Span(f"{latency(traffic.p50_ms)}"),
            Span("  served ", Tone.MUTED),
            Span(f"{count(traffic.served_total)}"),
            Span(f"  ✖ {count(traffic.failed_total)}" if traffic.failed_total else "", Tone.FAILED),
        ),
    ]
