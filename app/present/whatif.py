"""What the recorded traffic would have cost and waited under other settings: a picture, a table, one sentence.

The study is made by `python -m orchestrator.simulator.study whatif`; these models are what it prints.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from app.format import NOTHING, count, counted, plain, rate_per_hour, wait
from app.present import form, table
from app.present.amounts import minute
from app.present.chart import merge
from app.present.table import Column
from app.present.text import BLANK, Line, Span, Tone, flow, line, on_ground, pad, spread, wrap
from orchestrator.contract.base import Received
from orchestrator.contract.endpoint import OWN_TIMING, EndpointChanges, EndpointSpec, ScalingPolicy, notation


class ColdStart(Received):
    """Cold starts of the replay; `measured` is how many the endpoint had, 0 means that the median is assumed."""

    measured: int
    median_s: float


class Rates(Received):
    """The price of one worker, in micro-dollars per hour, and the book it is from."""

    book: str
    gpu_type: str
    baseline_uh: int
    autoscale_uh: int


class Setting(Received):
    """One setting and what came of it. Waits are seconds in the queue, cold starts included."""

    name: str
    baseline: int
    maximum: int
    idle_timeout_s: int
    policy: ScalingPolicy
    cost_u: int
    per_hour_u: int
    wait_p50_s: float
    wait_p95_s: float
    wait_p99_s: float
    cold_starts: float
    best: bool
    """Nothing that was tried is both cheaper and quicker at the p95."""
    now: bool
    recommended: bool


class Level(Received):
    """The worker of this number on top of those before it: on for the share `on` of the time."""

    number: int
    on: float
    baseline_uh: int
    on_demand_uh: int
    saves_uh: int
    """What the whole endpoint costs less per hour with it in the baseline; negative: more."""


class Study(Received):
    """All that one replay found. `load` is how many requests were served at a time, on average; `books` are the price
    books that there are."""

    slug: str
    requests: int
    missed: int
    since_ns: int
    until_ns: int
    load: float
    cold_start: ColdStart
    price: Rates
    settings: tuple[Setting, ...]
    levels: tuple[Level, ...]
    ratio: float
    recommendation: str
    caution: str = ""
    """What to think of before it is taken."""
    books: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Terms:
    """What a replay is judged by: the p95 wait to stay below, seconds, and the price book; None is that of now."""

    wait_s: float | None = None
    book: str | None = None

    @property
    def arguments(self) -> tuple[str, ...]:
        """As the program of the study takes them."""
        waits = () if self.wait_s is None else (f"--wait={self.wait_s:g}",)
        return waits if self.book is None else (*waits, f"--book={self.book}")

    @property
    def words(self) -> str:
        """Those that are not of now, for a title."""
        waits = [] if self.wait_s is None else [f"p95 wait of {self.wait_s:g} s at most"]
        return " · ".join(waits if self.book is None else [*waits, f"prices of {plain(self.book)}"])


COLUMNS: Final = (
    Column("mark", "", 1),
    Column("setup", "SETUP", 5),
    Column("policy", "SCALING", 17, grow=True, grow_max=20),
    Column("idle", "IDLE", 5, right=True),
    Column("cost", "COST", 9, right=True),
    Column("p50", "P50", 7, rank=5, right=True),
    Column("p95", "P95", 7, right=True),
    Column("p99", "P99", 7, rank=2, right=True),
    Column("cold", "STARTS", 6, rank=4, right=True),
    Column("note", "", 4, rank=1),
)
_LEVELS: Final = (
    Column("number", "WORKER", 6),
    Column("on", "ON", 5, right=True),
    Column("baseline", "AS BASELINE", 11, rank=2, right=True),
    Column("demand", "ON DEMAND", 10, rank=1, right=True),
    Column("saves", "BASELINE SAVES", 14, right=True),
)
WAITS_S: Final = (0.0, 3_600.0)
WAIT_LOW_S: Final = 0.1
"""Shorter waits are drawn as this: the scale is logarithmic, and nobody tells a tenth of a second from none."""
_AXIS: Final = 10


def read_wait(text: str) -> float | None:
    """The wait to aim at, seconds; nothing typed means as now. Raises Invalid."""
    return form.decimal(text, WAITS_S, "a number of seconds", "2.5") if text.strip() else None


def shown(settings: Sequence[Setting], *, everything: bool) -> list[Setting]:
    """Cheapest first; without `everything`, those that nothing beats, that of now and the recommended one."""
    rows = [each for each in settings if everything or each.best or each.now or each.recommended]
    return sorted(rows, key=lambda each: (each.cost_u, each.wait_p95_s))


def changes(setting: Setting, spec: EndpointSpec) -> EndpointChanges:
    """What has to change in `spec` so that it is set like `setting`; nothing is set to what it is already.

    Baseline and maximum go together: one of them alone may not fit what the other has become meanwhile.
    """
    resized = (setting.baseline, setting.maximum) != (spec.baseline, spec.maximum)
    return EndpointChanges(
        baseline=setting.baseline if resized else None,
        maximum=setting.maximum if resized else None,
        idle_timeout_s=setting.idle_timeout_s if setting.idle_timeout_s != spec.idle_timeout_s else None,
        policy=setting.policy if setting.policy != spec.policy else None,
    )


def _mark(setting: Setting) -> Span:
    if setting.recommended:
        return Span("★", Tone.BUSY)
    if setting.now:
        return Span("◆", Tone.STARTING)
    return Span("●", Tone.ACCENT) if setting.best else Span("·", Tone.MUTED)


def legend(room: int, outside: int) -> list[Line]:
    """What the marks mean, and how many are not drawn."""
    beaten = f"beaten ({count(outside)} off the edge)" if outside else "beaten"
    marks = (("★", Tone.BUSY, "take this"), ("◆", Tone.STARTING, "now"), ("●", Tone.ACCENT, "best"),
             ("·", Tone.MUTED, beaten))  # fmt: skip
    return flow([line(Span(glyph, tone), Span(f" {word}", Tone.MUTED)) for glyph, tone, word in marks], room)


def advice_rows(study: Study, chosen: Setting | None, room: int, *, compact: bool = False) -> list[Line]:
    """The recommendation, what it rests on unless `compact`, and the chosen setting beside the one of now."""
    keep = any(each.now and each.recommended for each in study.settings)
    mark, tone = ("✔ ", Tone.BUSY) if keep else ("→ ", Tone.ACCENT)
    lines = wrap(f"{mark}{plain(study.recommendation)}", room, tone)
    if study.caution:
        lines += wrap(f"▲ {plain(study.caution)}", room, Tone.STARTING)
    if not compact:
        lines += [*_basis(study, room), BLANK]
    now = next((each for each in study.settings if each.now), None)
    if chosen is not None and now is not None:
        lines += _compared(chosen, now, room)
    return lines


def _basis(study: Study, room: int) -> list[Line]:
    """What was replayed, with which cold starts and prices."""
    cold, price = study.cold_start, study.price
    measured = f"measured {counted(cold.measured, 'time')}" if cold.measured else "assumed"
    facts = [
        f"{count(study.requests)} requests, {minute(study.since_ns)} to {minute(study.until_ns)} UTC",
        f"{study.load:.2f} at a time",
        f"cold start {wait(cold.median_s)}, {measured}",
        f"{plain(price.gpu_type)} {rate_per_hour(price.baseline_uh)} baseline, "
        f"{rate_per_hour(price.autoscale_uh)} autoscaled by {plain(price.book)}",
    ]
    lines = flow([line(Span(each, Tone.MUTED)) for each in facts], room, gap=3)
    if study.missed:
        lines += wrap(f"▲ {count(study.missed)} more came too fast to be kept.", room, Tone.STARTING)
    return lines


def _compared(chosen: Setting, now: Setting, room: int) -> list[Line]:
    """The chosen setting in words, and the difference to the setting of now."""
    cost, wait_s = rate_per_hour(chosen.per_hour_u), wait(chosen.wait_p95_s)
    head = line(_mark(chosen), " ", Span(plain(chosen.name), Tone.STRONG))
    if chosen.now:
        return flow([head, line(f"set now: {cost}, p95 wait {wait_s}")], room)
    parts = [
        head,
        line(f"{cost} instead of {rate_per_hour(now.per_hour_u)}", _change(chosen.per_hour_u, now.per_hour_u)),
        line(f"p95 wait {wait_s} instead of {wait(now.wait_p95_s)}", _change(chosen.wait_p95_s, now.wait_p95_s)),
    ]
    return flow(parts, room)


def _change(value: float, before: float) -> Span:
    """By how much, less being better."""
    if not before or value == before:
        return Span("")
    return Span(f" {'▲' if value > before else '▼'} {abs(value - before) / before:.0%}",
                Tone.FAILED if value > before else Tone.BUSY)  # fmt: skip


def setting_rows(settings: Sequence[Setting], chosen: str | None, room: int) -> list[Line]:
    """A head and one line each; `chosen` is the name of the one under the cursor."""
    columns = table.choose(COLUMNS, room, 1)
    lines = [table.head(columns, 1)]
    for each in settings:
        row = table.row(_cells(each), columns, 1)
        lines.append(on_ground(pad(row, room), Tone.SELECTED) if each.name == chosen else row)
    return lines


def _cells(setting: Setting) -> dict[str, Line]:
    note = "now" if setting.now else "take" if setting.recommended else ""
    idle = NOTHING if isinstance(setting.policy, OWN_TIMING) else f"{setting.idle_timeout_s} s"
    return {
        "mark": line(_mark(setting)),
        "setup": line(Span(f"{setting.baseline}-{setting.maximum}", Tone.STRONG)),
        "policy": line(notation(setting.policy)),
        "idle": line(Span(idle, Tone.MUTED)),
        "cost": line(rate_per_hour(setting.per_hour_u)),
        "p50": line(Span(wait(setting.wait_p50_s), Tone.MUTED)),
        "p95": line(wait(setting.wait_p95_s)),
        "p99": line(Span(wait(setting.wait_p99_s), Tone.MUTED)),
        "cold": line(Span(f"{setting.cold_starts:,.0f}", Tone.MUTED)),
        "note": line(Span(note, _mark(setting).tone)),
    }


def level_rows(study: Study, room: int) -> list[Line]:
    """Worker by worker, whether it is cheaper in the baseline or on demand."""
    if not study.levels:
        return []
    columns = table.choose(_LEVELS, room, 2)
    lines = [table.head(columns, 2)]
    for each in study.levels:
        better = each.saves_uh > 0
        cells = {
            "number": line(Span(f"{each.number}", Tone.STRONG)),
            "on": line(f"{each.on:.0%}"),
            "baseline": line(Span(rate_per_hour(each.baseline_uh), Tone.MUTED if not better else Tone.PLAIN)),
            "demand": line(Span(rate_per_hour(each.on_demand_uh), Tone.MUTED if better else Tone.PLAIN)),
            "saves": line(Span(rate_per_hour(each.saves_uh), Tone.BUSY if better else Tone.MUTED)),
        }
        lines.append(table.row(cells, columns, 2))
    rule = f"On for more than {study.ratio:.1%} of the time, a worker is cheaper in the baseline."
    return [*lines, *wrap(rule, room, Tone.MUTED)]


# --- the picture


@dataclass(frozen=True, slots=True)
class Frame:
    """The part of the plane that is drawn: waits in seconds, logarithmic, and costs in micro-dollars per hour."""

    low_s: float
    high_s: float
    low_u: int
    high_u: int

    @classmethod
    def around(cls, settings: Sequence[Setting], chosen: str | None) -> Frame:
        """Around those that count, with a margin: a few that are ten times dearer would flatten all the rest."""
        compared = [each for each in settings if each.best or each.now or each.recommended or each.name == chosen]
        waits, costs = [each.wait_p95_s for each in compared], [each.per_hour_u for each in compared]
        low_s = 10.0 ** math.floor(math.log10(max(min(waits), WAIT_LOW_S)))
        low_u = min(each.per_hour_u for each in settings)
        return cls(low_s, max(max(waits) * 3, low_s * 10), low_u, max(low_u + (max(costs) - low_u) * 2, low_u + 1))

    def holds(self, setting: Setting) -> bool:
        """Whether it is not too dear and not too slow to be drawn; nothing is too quick."""
        return setting.per_hour_u <= self.high_u and setting.wait_p95_s <= self.high_s

    def across(self, wait_s: float) -> float:
        """Where a wait is, 0 to 1 from the left; waits below the edge are on it."""
        inside_s = min(max(wait_s, self.low_s), self.high_s)
        return math.log(inside_s / self.low_s) / math.log(self.high_s / self.low_s)

    def down(self, per_hour_u: int) -> float:
        """Where a cost is, 0 to 1 from the top."""
        return (self.high_u - per_hour_u) / (self.high_u - self.low_u)


def picture_rows(settings: Sequence[Setting], chosen: str | None, room: int, height: int) -> list[Line]:
    """Cost per hour (up) against p95 wait (right): every setting a mark, and the line that nothing crosses.

    Fills `room` cells and `height` rows, the axes included; nothing where that is too small to read.
    """
    columns, rows = room - _AXIS, height - 3
    if columns < 20 or rows < 3 or not any(each.best for each in settings):
        return []
    frame = Frame.around(settings, chosen)

    def place(each: Setting) -> tuple[int, int]:
        return round(frame.across(each.wait_p95_s) * (columns - 1)), round(frame.down(each.per_hour_u) * (rows - 1))

    grid: list[list[Span]] = [[Span(" ")] * columns for _ in range(rows)]
    _draw_frontier(grid, sorted({place(each) for each in settings if each.best}))
    drawn = [each for each in settings if frame.holds(each)]
    # The last one drawn in a cell is the one that is seen.
    for each in sorted(drawn, key=lambda s: (s.name == chosen, s.recommended, s.now, s.best)):
        column, row = place(each)
        mark = _mark(each)
        grid[row][column] = mark._replace(ground=Tone.SELECTED) if each.name == chosen else mark
    lines = [line(_cost_label(frame, row, rows), merge(tuple(cells))) for row, cells in enumerate(grid)]
    outside = len(settings) - len(drawn)
    return [*lines, *_wait_axis(frame, columns), *legend(room, outside)[:1]]


def _cost_label(frame: Frame, row: int, rows: int) -> Line:
    """The axis at this row, with the cost at top, middle and bottom."""
    if row not in (0, (rows - 1) // 2, rows - 1):
        return line(" " * (_AXIS - 1), Span("│", Tone.TRACK))
    cost_u = frame.high_u - (frame.high_u - frame.low_u) * row // (rows - 1)
    return line(Span(f"{rate_per_hour(cost_u):>{_AXIS - 2}} ", Tone.MUTED), Span("┤", Tone.TRACK))


def _draw_frontier(grid: list[list[Span]], points: Sequence[tuple[int, int]]) -> None:
    """Steps from one to the next: whatever is right of them and above them is beaten."""
    for (left, high), (right, low) in pairwise(points):
        for column in range(left + 1, right):
            grid[high][column] = Span("─", Tone.ACCENT_LOW)
        if right > left and low > high:
            grid[high][right] = Span("╮", Tone.ACCENT_LOW)
        for row in range(high + 1, low):
            grid[row][right] = Span("│", Tone.ACCENT_LOW)


def _wait_axis(frame: Frame, columns: int) -> list[Line]:
    """The axis and its labels, as many as there is room for."""
    axis, labels = ["─"] * columns, [" "] * columns
    end = "p95 wait"
    for tick_s in (digit * 10.0**power for power in range(-1, 5) for digit in (1, 2, 5)):
        if not frame.low_s <= tick_s <= frame.high_s:
            continue
        at = round(frame.across(tick_s) * (columns - 1))
        text = f"≤ {tick_s:g} s" if tick_s == frame.low_s == WAIT_LOW_S else f"{tick_s:g} s"
        begin = max(at - len(text) // 2, 0)
        if begin + len(text) < columns - len(end) and all(cell == " " for cell in labels[max(begin - 2, 0) :]):
            axis[at] = "┴"
            labels[begin : begin + len(text)] = text
    written = line(" " * _AXIS, Span("".join(labels).rstrip(), Tone.MUTED))
    edge = line(" " * (_AXIS - 1), Span("└" + "".join(axis), Tone.TRACK))
    return [edge, spread(written, line(Span(end, Tone.MUTED)), columns + _AXIS)]


def named(settings: Iterable[Setting], name: str | None) -> Setting | None:
    """The setting of that name."""
    return next((each for each in settings if each.name == name), None)
