"""The scaling measurement as text and as a JSON document. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Final

from orchestrator.bench.scaling_cells import Measured
from orchestrator.bench.scaling_field import ALLOWED, BOUND, KNOB_S, OWN, RINGS, ZERO_WAIT, auto
from orchestrator.bench.scaling_score import (
    Point,
    Regret,
    Row,
    Spread,
    at_point_of,
    geometric_mean,
    regret,
    spread,
)
from orchestrator.bench.table import aligned
from orchestrator.contract.base import DOLLAR_U
from orchestrator.simulator.families import FIXED
from orchestrator.simulator.rivals import RIVALS

SAVINGS: Final = {"Ray Serve": 0.30, "KPA": 0.20, "RunPod delay": 0.10, "10 s idle": 0.10}
"""Median savings to reach at a rival's own point (research/autoscaling.md 4)."""
DEARER_MAX: Final = 0.10
REGRETS: Final = Spread(0, 0.03, 0.20, 0.50)


@dataclass(frozen=True, slots=True)
class Scope:
    """What was measured."""

    wait_prices: tuple[float, ...]
    seeds: int
    names: frozenset[str]
    """Contenders measured in every row."""
    allowed: tuple[str, ...] = ()
    """`auto` at the waits that it may be asked for, of which each row has those that the search needed."""

    def has(self, *names: str) -> bool:
        return self.names.issuperset(names)

    @property
    def fixed(self) -> list[str]:
        return [each.name for each in FIXED if each.name in self.names]

    @property
    def rivals(self) -> list[str]:
        return [each.name for each in RIVALS if each.name in self.names]


def regrets_of(rows: Sequence[Row], scope: Scope, contender: str | None = None) -> list[Regret]:
    """Of `contender` in every row at every wait price; of `auto`, told the wait price, when none is named."""
    found = []
    for wait_price in scope.wait_prices:
        name = contender or auto(wait_price).name
        if scope.fixed and scope.has(name):
            found += [each for row in rows if (each := regret(row, name, wait_price, scope.fixed)) is not None]
    return found


def points_of(rows: Sequence[Row], scope: Scope) -> list[Point]:
    """`auto` beside every rival, at the best of the allowed values of its knob."""
    choices = {id(row): [name for name in ALLOWED if name in row.measured] for row in rows}
    return [at_point_of(row, rival, some) for rival in scope.rivals for row in rows if (some := choices[id(row)])]


def fixed_points_of(rows: Sequence[Row], scope: Scope) -> list[Point]:
    """The best fixed setting beside every rival, chosen for each row with hindsight: what a rule can save there."""
    return [at_point_of(row, rival, scope.fixed) for rival in scope.rivals for row in rows if scope.fixed]


def document(rows: Sequence[Row], scope: Scope, setting: dict[str, Any]) -> dict[str, Any]:
    """Everything as one JSON object; `setting` says how it was measured."""
    return {
        **setting,
        "rows": [asdict(row) for row in rows],
        "regret": [asdict(each) for each in regrets_of(rows, scope)],
        "points": [asdict(each) for each in points_of(rows, scope)],
        "fixed_points": [asdict(each) for each in fixed_points_of(rows, scope)],
        "bound_ratios": {f"{v:g}": geometric_mean(_ratios(rows, v, scope)) for v in scope.wait_prices},
    }


def text(rows: Sequence[Row], scope: Scope, setting: Sequence[str]) -> str:
    """Tables for people; `setting` are lines that say how it was measured."""
    blocks = ["\n".join(setting)]
    blocks += [_title(row) + "\n" + aligned(_row_table(row, scope)) for row in rows]
    regrets = regrets_of(rows, scope)
    if regrets:
        blocks.append(
            "Regret of auto: J = autoscaled seconds + v x waits, beside the best of "
            f"{len(scope.fixed)} fixed settings, chosen per row with hindsight\n"
            + aligned(_regret_table(regrets, scope), left=2)
        )
    spreads = _spread_table(rows, scope)
    if len(spreads) > 1:
        blocks.append("Regret over all rows: median, 90th percentile, worst\n" + aligned(spreads, left=2))
    points = points_of(rows, scope)
    if points:
        blocks.append(
            "\n".join(_point_words(rows)) + "\n" + aligned(_point_table(points, fixed_points_of(rows, scope)))
        )
    for name, table in (
        ("Times the clairvoyant bound on J (geometric mean over rows)", _bound_table(rows, scope)),
        (
            "Autoscaled cost of round robin over all ready workers, to that of the reserve ring",
            _ring_table(rows, scope),
        ),
        ("Speed: simulated requests per second, one core", _speed_table(rows, scope)),
    ):
        if len(table) > 1:
            blocks.append(name + "\n" + aligned(table))
    return "\n\n".join(blocks) + "\n"


def _point_words(rows: Sequence[Row]) -> Iterator[str]:
    """What the table of rivals' points shows."""
    tried = fmean(sum(name in row.measured for name in ALLOWED) for row in rows)
    yield "Autoscaled cost saved by auto at each rival's own point: p95, p99 and mean wait all no worse."
    yield f"Per row auto may be asked for one of {len(ALLOWED)} p95 waits, {KNOB_S[0]:g} to {KNOB_S[-1]:.0f} s. Tried"
    yield f"were some from end to end and those around each point, {tried:.0f} on average: a saving may be more than"
    yield "is shown, never less, and fewer not reached. Least at: where, and in what the next cheaper one was worse."
    yield "Fixed: what the best fixed setting saves, chosen per row with hindsight"


def _title(row: Row) -> str:
    return f"{row.scenario}, cold start {row.cold_s:g} s"


def shown(scope: Scope) -> list[str]:
    """Contenders of the per-row tables, in order: `auto`, our other policies, rivals."""
    autos = [auto(wait_price).name for wait_price in scope.wait_prices]
    names = [OWN[0].name, *autos, *(each.name for each in OWN[1:]), *(each.name for each in RIVALS)]
    return [name for name in names if scope.has(name)]


def _row_table(row: Row, scope: Scope) -> Iterator[list[str]]:
    yield ["", "autoscaled", "worker-h", "p50 s", "p95 s", "p99 s", "mean s", "cold starts", "unused"]
    for name in shown(scope):
        figures = row.measured[name]
        yield [name, *_cells(figures)]
    if ZERO_WAIT in row.bounds:
        hours = f"{row.bounds[ZERO_WAIT] / 3600:,.1f}"
        yield ["bound, nobody waits", "", hours, "0.0", "0.0", "0.0", "0.0", "", ""]


def _cells(figures: Measured) -> list[str]:
    waits = (figures.p50_s, figures.p95_s, figures.p99_s, figures.mean_s)
    return [
        f"${figures.autoscaled_u / DOLLAR_U:,.2f}",
        f"{figures.autoscaled_s / 3600:,.1f}",
        *(f"{wait_s:,.1f}" for wait_s in waits),
        f"{figures.cold_starts:,}",
        f"{figures.idle_starts / max(1, figures.cold_starts):.0%}",
    ]


def _regret_table(regrets: Sequence[Regret], scope: Scope) -> Iterator[list[str]]:
    yield ["", "", *(f"v {wait_price:g}" for wait_price in scope.wait_prices), "best fixed setting, by v"]
    by_row: dict[tuple[str, float], dict[float, Regret]] = {}
    for each in regrets:
        by_row.setdefault((each.scenario, each.cold_s), {})[each.wait_price] = each
    for (scenario, cold_s), found in by_row.items():
        shares = [f"{found[v].share:+.1%}" if v in found else "–" for v in scope.wait_prices]
        best = " · ".join(found[v].best if v in found else "–" for v in scope.wait_prices)
        yield [scenario, f"{cold_s:g} s", *shares, best]


def _spread_table(rows: Sequence[Row], scope: Scope) -> list[list[str]]:
    """`auto` by wait price and in all, then everybody else's defaults over all wait prices."""
    table = [["", "", "rows", "median", "p90", "worst"]]
    regrets = regrets_of(rows, scope)
    for wait_price in scope.wait_prices:
        found = spread(each.share for each in regrets if each.wait_price == wait_price)
        table += [["auto", f"v {wait_price:g}", *_spread_cells(found)]] if found else []
    everything = spread(each.share for each in regrets)
    if everything is not None:
        table.append(["auto", "all", *_spread_cells(everything)])
        reached = (everything.median, everything.p90, everything.worst)
        goals = zip(reached, (REGRETS.median, REGRETS.p90, REGRETS.worst), strict=True)
        table.append(["", "to reach", "", *(f"≤ {most:.0%} {_verdict(share <= most)}" for share, most in goals)])
    for name in (each for each in shown(scope) if not each.startswith("auto,")):
        found = spread(each.share for each in regrets_of(rows, scope, name))
        table += [[name, "default", *_spread_cells(found)]] if found else []
    return table


def _verdict(met: bool) -> str:
    return "met" if met else "missed"


def _spread_cells(found: Spread) -> list[str]:
    return [str(found.count), *(f"{share:+.1%}" for share in (found.median, found.p90, found.worst))]


def _point_table(points: Sequence[Point], fixed: Sequence[Point]) -> Iterator[list[str]]:
    yield ["", "rows", "median", "least", "most", "not reached", "fixed", "to reach", "least at"]
    for rival in dict.fromkeys(each.rival for each in points):
        mine = [each for each in points if each.rival == rival]
        found = spread(-each.saving for each in mine if each.saving is not None)
        missed = sum(each.chosen is None for each in mine)
        goal = f"≥ {SAVINGS[rival]:.0%}, never < {-DEARER_MAX:.0%}" if rival in SAVINGS else ""
        best = spread(-each.saving for each in fixed if each.rival == rival and each.saving is not None)
        ruled = f"{-best.median:+.1%}" if best else "–"
        if found is None:
            yield [rival, str(len(mine)), "–", "–", "–", str(missed), ruled, goal, ""]
            continue
        reached = [(each.saving, each) for each in mine if each.saving is not None]
        most = max(saving for saving, _ in reached)
        least = min(reached, key=lambda pair: pair[0])[1]
        if goal:
            goal += f" {_verdict(-found.median >= SAVINGS[rival] and -found.worst >= -DEARER_MAX)}"
        yield [
            rival,
            str(len(mine)),
            f"{-found.median:+.1%}",
            f"{-found.worst:+.1%}",
            f"{most:+.1%}",
            str(missed),
            ruled,
            goal,
            f"{least.scenario}, {least.cold_s:g} s: {', '.join(least.binding) or 'none cheaper'}",
        ]


def _ratios(rows: Sequence[Row], wait_price: float, scope: Scope, fixed: bool = False) -> Iterator[float]:
    """J of `auto` (or of the best fixed setting) over the bound, of rows whose bound is above nothing."""
    names = scope.fixed if fixed else [auto(wait_price).name]
    for row in rows:
        bound = row.bounds.get(f"{BOUND}{wait_price:g}", 0.0)
        if bound > 0 and names and scope.has(*names):
            yield min(row.measured[name].cost(wait_price) for name in names) / bound


def _bound_table(rows: Sequence[Row], scope: Scope) -> list[list[str]]:
    """Rows of workers with one slot apart: for others the bound is looser."""
    single = [row for row in rows if "x" not in row.scenario.rpartition(" ")[2]]
    table = [["", *(f"v {wait_price:g}" for wait_price in scope.wait_prices)]]
    for name, some, fixed in (
        ("auto, one slot", single, False),
        ("auto, all", rows, False),
        ("best fixed setting, one slot", single, True),
        ("best fixed setting, all", rows, True),
    ):
        means = [geometric_mean(_ratios(some, wait_price, scope, fixed)) for wait_price in scope.wait_prices]
        if any(means):
            table.append([name, *("–" if mean is None else f"{mean:.2f}" for mean in means)])
    return table


def _ring_table(rows: Sequence[Row], scope: Scope) -> list[list[str]]:
    table = [["", "median", "p90", "most", "p95 wait, median"]]
    for reserve, plain in RINGS:
        if not scope.has(reserve.name, plain.name):
            continue
        pairs = [(row.measured[reserve.name], row.measured[plain.name]) for row in rows]
        cost = spread(all_.autoscaled_s / ring.autoscaled_s - 1 for ring, all_ in pairs if ring.autoscaled_s)
        wait = spread(all_.p95_s - ring.p95_s for ring, all_ in pairs)
        if cost is not None and wait is not None:
            cells = [f"{share:+.1%}" for share in (cost.median, cost.p90, cost.worst)]
            table.append([reserve.name.rpartition(",")[0], *cells, f"{wait.median:+.1f} s"])
    return table


def _speed_table(rows: Sequence[Row], scope: Scope) -> list[list[str]]:
    table = [["", "slowest row", "median", "fastest"]]
    groups = [(name, [name]) for name in shown(scope)] + [("fixed settings", scope.fixed)]
    for title, names in groups:
        found = [row.measured[name] for row in rows for name in names]
        rates = sorted(each.requests / each.took_s for each in found if each.took_s > 0)
        if rates:
            table.append([title, *(f"{rate:,.0f}" for rate in (rates[0], rates[len(rates) // 2], rates[-1]))])
    return table
