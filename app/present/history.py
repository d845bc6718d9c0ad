"""Traffic and cost of an endpoint over an hour, a day, a week or a month."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.format import count, latency, money, rate_per_hour
from app.present.chart import area, resample
from app.present.lanes import Density
from app.present.text import Line, Span, Tone, line, spread, width, wrap
from app.present.traffic import chart_rows
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.history import History
from orchestrator.contract.query import AskHistory

HOUR_S: Final = 3_600
DAY_S: Final = 24 * HOUR_S
_NAME: Final = 6
_FIGURE: Final = 26


@dataclass(frozen=True, slots=True)
class Range:
    """A window that ends now, and the step it is asked for in: some 60 to 170 of them."""

    name: str
    span_s: int
    step_s: int


RANGES: Final = (
    Range("1 h", HOUR_S, 60),
    Range("24 h", DAY_S, 600),
    Range("7 d", 7 * DAY_S, HOUR_S),
    Range("30 d", 30 * DAY_S, 6 * HOUR_S),
)


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of a range: an answer, a problem, or neither yet."""

    range: Range
    history: History | None = None
    problem: str | None = None


def question(slug: str, asked: Range, now_ns: int) -> AskHistory:
    """What to ask so that the last step holds `now_ns`."""
    step_ns = asked.step_s * SECOND_NS
    until_ns = (now_ns // step_ns + 1) * step_ns
    since_ns = max(until_ns - asked.span_s * SECOND_NS, 0)
    return AskHistory(slug=slug, since_ns=since_ns, until_ns=until_ns, step_s=asked.step_s)


def rows(past: Past, room: int, height: int, density: Density) -> list[Line]:
    """Totals and three charts in about `height` lines of `room` cells."""
    if past.problem is not None:
        return wrap(f"✖ {past.problem}", room, Tone.FAILED)
    history = past.history
    if history is None:
        return [line(Span("◐ ", Tone.STARTING), Span("reading the history", Tone.MUTED))]
    if not history.points and not history.spent:
        return wrap(f"No request and no cost in the last {past.range.name}. r: another range.", room, Tone.MUTED)
    charts = _charts(history)
    if density is Density.COMPACT:
        return [*(_strip(chart, room) for chart in charts), _axis(past.range, room, _NAME, _FIGURE)]
    lines: list[Line] = []
    for chart, rows_here in zip(charts, chart_rows(max(height - 4, 3)), strict=True):
        lines.append(spread(line(Span(chart.title, Tone.MUTED)), chart.note, room))
        lines.extend(area(_fill(chart.series, room), room, rows_here, tone=chart.tone))
    return [*lines, _axis(past.range, room)]


@dataclass(frozen=True, slots=True)
class _Chart:
    title: str
    short: str
    series: list[int]
    tone: Tone
    note: Line


def _charts(history: History) -> tuple[_Chart, _Chart, _Chart]:
    points = {point.start_ns: point for point in history.points}
    spent = {point.start_ns: point.amount_u for point in history.spent}
    starts = range(history.since_ns, history.until_ns, history.step_s * SECOND_NS)
    p95 = [(points[at].p95_us or 0) // 1_000 if at in points else 0 for at in starts]
    total, total_u = history.total, sum(spent.values())
    peak_uh = max(spent.values(), default=0) * HOUR_S // history.step_s
    failed = [Span(f"  ✖ {count(total.failures)}", Tone.FAILED)] if total.failures else []
    latency_us = total.p95_us
    return (
        _Chart(
            "requests", "reqs", [points[at].requests if at in points else 0 for at in starts], Tone.ACCENT,
            line(Span(count(total.requests), Tone.STRONG), *failed),
        ),
        _Chart(
            "p95 latency", "p95", p95, Tone.INFO,
            line(
                Span(latency(None if latency_us is None else latency_us // 1_000), Tone.STRONG),
                Span(f"  peak {latency(max(p95))}" if any(p95) else "", Tone.MUTED),
            ),
        ),
        _Chart(
            "cost", "cost", [spent.get(at, 0) for at in starts], Tone.STARTING,
            line(Span(money(total_u), Tone.STRONG), Span(f"  peak {rate_per_hour(peak_uh)}", Tone.MUTED)),
        ),
    )  # fmt: skip


def _fill(series: Sequence[int], columns: int) -> list[int]:
    """The series over exactly `columns` cells: many values by their largest, few of them repeated."""
    if len(series) >= columns:
        return resample(series, columns)
    return [series[column * len(series) // columns] for column in range(columns)]


def _strip(chart: _Chart, room: int) -> Line:
    columns = max(room - _NAME - _FIGURE, 8)
    drawn = area(_fill(chart.series, columns), columns, tone=chart.tone)[0]
    return line(Span(f"{chart.short:<{_NAME}}", Tone.MUTED), drawn, "  ", chart.note)


def _axis(shown: Range, room: int, lead: int = 0, tail: int = 0) -> Line:
    """Where the window begins and ends, under the charts."""
    before, now = f"−{shown.name}", "now"
    columns = max(room - lead - tail, 8)
    gap = max(columns - width(line(before)) - len(now), 1)
    return line(" " * lead, Span(before, Tone.FAINT), " " * gap, Span(now, Tone.FAINT))
