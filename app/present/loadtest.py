"""A load test on the screen: its course as charts, its figures, the difference to an earlier one, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from app.format import NOTHING, clock, count, latency, money
from app.loadtest.outcome import Outcome, Second, differences
from app.present import table
from app.present.chart import area
from app.present.table import Column
from app.present.text import BLANK, Line, Span, Tone, flow, line, spread, wrap

COLUMNS: Final = (
    Column("when", "WHEN", 8),
    Column("setup", "SETUP", 6),
    Column("shape", "SHAPE", 26, rank=3, grow=True),
    Column("served", "RPM", 6, right=True),
    Column("p95", "P95", 8, right=True),
    Column("failed", "FAILED", 6, rank=2, right=True),
    Column("workers", "MOST", 4, rank=4, right=True),
    Column("cost", "COST", 9, right=True),
    Column("advice", "TRY", 6, right=True),
)
_NAMES: Final[dict[str, tuple[str, Callable[[float], str]]]] = {
    "served_rpm": ("served RPM", lambda value: f"{value:,.0f}"),
    "p50_ms": ("p50", lambda value: latency(round(value))),
    "p95_ms": ("p95", lambda value: latency(round(value))),
    "p99_ms": ("p99", lambda value: latency(round(value))),
    "queue_p95_ms": ("queue p95", lambda value: latency(round(value))),
    "failed": ("failed", lambda value: count(int(value))),
    "cold_starts": ("cold starts", lambda value: count(int(value))),
    "most_workers": ("most workers", lambda value: count(int(value))),
    "cost_u": ("cost", lambda value: money(int(value))),
}
LATE_MS: Final = 250
"""The generator itself was late by more than this: its figures then say less about the endpoint."""


def _ms(value: float | None) -> str:
    return latency(None if value is None else round(value))


def course_rows(seconds: Sequence[Second], planned_s: float, cost_u: int, room: int, height: int) -> list[Line]:
    """Figures of the newest second, and charts over the whole of the `planned_s` seconds."""
    if not seconds:
        return []
    newest = seconds[-1]
    window = seconds[-10:]
    offered, served = (
        sum(rates) // len(window) for rates in zip(*((s.offered_rpm, s.served_rpm) for s in window), strict=True)
    )
    failed = sum(second.failed for second in seconds)
    figures = [
        line(Span(f"{newest.at_s + 1} s", Tone.STRONG)),
        line(Span(count(offered), Tone.STRONG), Span(" RPM offered", Tone.MUTED)),
        line(Span(count(served), Tone.STRONG), Span(" served", Tone.MUTED)),
        line(Span(_ms(newest.p50_ms), Tone.STRONG), Span(" p50", Tone.MUTED)),
        line(Span(_ms(newest.p95_ms), Tone.STRONG), Span(" p95", Tone.MUTED)),
        line(Span(_ms(newest.p99_ms), Tone.STRONG), Span(" p99", Tone.MUTED)),
        line(Span(money(cost_u), Tone.STRONG), Span(" so far", Tone.MUTED)),
    ]
    if failed:
        figures.append(line(Span(f"✖ {count(failed)} failed", Tone.FAILED)))
    lines = flow(figures, room, 3)
    share = max((height - len(lines) - 4) // 4, 1)
    charts: tuple[tuple[str, list[int], Tone], ...] = (
        ("offered RPM", smoothed([s.offered_rpm for s in seconds]), Tone.MUTED),
        ("served RPM", smoothed([s.served_rpm for s in seconds]), Tone.ACCENT),
        ("p95 latency", [round(s.p95_ms or 0) for s in seconds], Tone.INFO),
        ("workers", [(s.ready or 0) + (s.starting or 0) for s in seconds], Tone.STARTING),
    )
    for title, series, tone in charts:
        peak = max(series)
        note = latency(peak) if tone is Tone.INFO else count(peak)
        lines.append(spread(line(Span(title, Tone.MUTED)), line(Span(f"peak {note}", Tone.MUTED)), room))
        lines.extend(area(stretched(series, planned_s, room), room, min(share, 6), tone=tone))
    return lines


def smoothed(series: Sequence[int], span: int = 5) -> list[int]:
    """The mean of each value and the ones before it, `span` in all: at twenty a minute most seconds have no request."""
    windows = (series[max(end - span, 0) : end] for end in range(1, len(series) + 1))
    return [sum(window) // len(window) for window in windows]


def stretched(series: Sequence[int], planned: float, columns: int) -> list[int]:
    """One value for each column that is over, when `planned` seconds fill all `columns`; what is to come is zero."""
    per_column = max(planned, len(series)) / columns
    if per_column >= 1:
        return list(series) + [0] * int(max(planned, len(series)) - len(series))
    return [series[int(column * per_column)] if column * per_column < len(series) else 0 for column in range(columns)]


def outcome_rows(outcome: Outcome, setup: str, room: int) -> list[Line]:
    """What came out, and what it suggests."""
    good = outcome.failed == 0
    mark = Span(
        f"{'✔' if good else '✖'} {count(outcome.succeeded)} of {count(outcome.sent)}",
        Tone.BUSY if good else Tone.FAILED,
    )
    parts = [
        line(mark, Span(f"  {outcome.shape}", Tone.MUTED)),
        line(Span("served ", Tone.MUTED), f"{outcome.served_rpm:,.0f} of {outcome.offered_rpm:,.0f} RPM"),
        line(Span("p50 ", Tone.MUTED), _ms(outcome.p50_ms)),
        line(Span("p95 ", Tone.MUTED), _ms(outcome.p95_ms)),
        line(Span("p99 ", Tone.MUTED), _ms(outcome.p99_ms)),
        line(Span("queue p95 ", Tone.MUTED), _ms(outcome.queue_p95_ms)),
        line(Span("service ", Tone.MUTED), _ms(outcome.service_ms)),
        line(Span("cold starts ", Tone.MUTED), count(outcome.cold_starts)),
        line(Span("most workers ", Tone.MUTED), count(outcome.most_workers)),
        line(Span("cost ", Tone.MUTED), money(outcome.cost_u)),
    ]
    lines = flow(parts, room)
    lines += [line(Span(f"  {count(n)} × {why}", Tone.FAILED)) for why, n in sorted(outcome.failures.items())]
    if outcome.late_ms_max > LATE_MS:
        late = latency(round(outcome.late_ms_max))
        text = f"Requests left up to {late} late: this machine could not offer the load."
        lines += wrap(f"▲ {text}", room, Tone.STARTING)
    return [*lines, BLANK, *advice_rows(outcome, setup, room)]


def advice_rows(outcome: Outcome, setup: str, room: int) -> list[Line]:
    """The setup by the rule of the contract, and how it compares with the present one."""
    if outcome.advice is None or not outcome.service_ms:
        return wrap(
            "No request was served without a cold start, so there is no service time to plan by.", room, Tone.MUTED
        )
    if outcome.advice == setup:
        return wrap(f"✔ {setup} is what these rates need, at {_ms(outcome.service_ms)} a request.", room, Tone.BUSY)
    sentence = f"→ At {_ms(outcome.service_ms)} a request, {outcome.advice} covers these rates; {setup} is set."
    return wrap(sentence, room, Tone.ACCENT)


def earlier_rows(outcomes: Sequence[Outcome], chosen: int, room: int) -> list[Line]:
    """Saved tests, newest first; `chosen` is the number of the one under the cursor."""
    return table.listing(COLUMNS, map(_cells, outcomes), chosen, room) if outcomes else []


def _cells(outcome: Outcome) -> dict[str, Line]:
    return {
        "when": line(Span(clock(outcome.started_ns), Tone.MUTED)),
        "setup": line(Span(outcome.setup, Tone.STRONG)),
        "shape": line(outcome.shape),
        "served": line(f"{outcome.served_rpm:,.0f}"),
        "p95": line(_ms(outcome.p95_ms)),
        "failed": line(Span(count(outcome.failed), Tone.FAILED if outcome.failed else Tone.FAINT)),
        "workers": line(count(outcome.most_workers)),
        "cost": line(money(outcome.cost_u)),
        "advice": line(Span(outcome.advice or NOTHING, Tone.ACCENT)),
    }


def comparison_rows(before: Outcome, after: Outcome, room: int) -> list[Line]:
    """Figure by figure: the earlier test, the later one, the difference."""
    lines = [
        line(Span(f"{before.setup} {before.shape}", Tone.MUTED)),
        line(Span(f"{after.setup} {after.shape}", Tone.STRONG)),
        BLANK,
    ]
    for name, old, new in differences(before, after):
        title, shown = _NAMES[name]
        cells = line(Span(f"{title:<13}", Tone.MUTED), f"{NOTHING if old is None else shown(old):>10}",
                     Span(" → ", Tone.FAINT), f"{NOTHING if new is None else shown(new):>10}")  # fmt: skip
        lines.append(line(cells, _change(name, old, new)))
    return lines


def _change(name: str, old: float | None, new: float | None) -> Span:
    """By how much, green when it became better: more requests served, less of everything else."""
    if not old or new is None or old == new:
        return Span("")
    better = (new > old) == (name == "served_rpm")
    return Span(f"  {'▲' if new > old else '▼'} {abs(new - old) / old:.0%}", Tone.BUSY if better else Tone.FAILED)
