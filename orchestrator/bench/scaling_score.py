"""From figures to scores: regret, saving at a rival's own point, distance to the bound, effect of the ring. Pure.

A row is a scenario under one cold-start median: figures are means over the seeds, and "no worse" holds for those means.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import NamedTuple

from orchestrator.bench.scaling_cells import Measured


@dataclass(frozen=True, slots=True)
class Row:
    """A scenario under one median of cold starts."""

    scenario: str
    cold_s: float
    measured: Mapping[str, Measured]
    """Means over the seeds, by contender."""
    bounds: Mapping[str, float]
    """Means over the seeds, worker-seconds, by name."""


@dataclass(frozen=True, slots=True)
class Regret:
    """How much dearer a contender is than the best fixed setting, chosen for this row with hindsight."""

    scenario: str
    cold_s: float
    wait_price: float
    share: float
    """0.03 is 3% more."""
    best: str


@dataclass(frozen=True, slots=True)
class Point:
    """A contender beside a rival at the rival's own point: p95, p99 and mean wait all no worse."""

    scenario: str
    cold_s: float
    rival: str
    chosen: str | None
    """None: with no allowed value of the knob it was no worse in all three."""
    saving: float | None
    """Of the rival's autoscaled cost, 0.3 is 30%; None without a choice or when the rival spends nothing."""
    binding: tuple[str, ...] = ()
    """The waits in which the next cheaper value of the knob (the dearest, without a choice) was worse than theirs."""


class Rung(NamedTuple):
    """A choice beside a rival."""

    name: str
    excess_s: dict[str, float]
    """By how much it is worse in each of the waits in which it is."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, 90th percentile and worst (largest) of some shares."""

    count: int
    median: float
    p90: float
    worst: float


def mean_of(figures: Sequence[Measured]) -> Measured:
    """Over the seeds of one row; times are means, counts are rounded means."""
    count = len(figures)

    def mean(name: str) -> float:
        return float(sum(getattr(each, name) for each in figures)) / count

    return Measured(
        requests=figures[0].requests,
        autoscaled_s=mean("autoscaled_s"),
        autoscaled_u=round(mean("autoscaled_u")),
        waited_s=mean("waited_s"),
        p50_s=mean("p50_s"),
        p95_s=mean("p95_s"),
        p99_s=mean("p99_s"),
        cold_starts=round(mean("cold_starts")),
        idle_starts=round(mean("idle_starts")),
        took_s=mean("took_s"),
    )


def regret(row: Row, name: str, wait_price: float, fixed: Iterable[str]) -> Regret | None:
    """J / (least J of the fixed settings) - 1. None when that least is nothing: then there is no share of it."""
    costs = {each: row.measured[each].cost(wait_price) for each in fixed}
    best = min(costs, key=lambda each: costs[each])
    if costs[best] <= 0:
        return None
    share = row.measured[name].cost(wait_price) / costs[best] - 1
    return Regret(row.scenario, row.cold_s, wait_price, share, best)


def at_point_of(row: Row, rival: str, choices: Iterable[str]) -> Point:
    """The cheapest of `choices` that is no worse than the rival in p95, p99 and mean wait."""
    theirs, rungs = row.measured[rival], ladder(row, rival, choices)
    first = next((at for at, rung in enumerate(rungs) if not rung.excess_s), None)
    binding = tuple(rungs[-1 if first is None else first - 1].excess_s) if rungs and first != 0 else ()
    chosen, saving = None if first is None else rungs[first].name, None
    if chosen is not None and theirs.autoscaled_s > 0:
        saving = 1 - row.measured[chosen].autoscaled_s / theirs.autoscaled_s
    return Point(row.scenario, row.cold_s, rival, chosen, saving, binding)


def ladder(row: Row, rival: str, choices: Iterable[str]) -> list[Rung]:
    """`choices` beside a rival, the cheapest first."""
    theirs = row.measured[rival]
    by_cost = sorted(choices, key=lambda name: row.measured[name].autoscaled_s)
    return [Rung(name, _excess_s(row.measured[name], theirs)) for name in by_cost]


def _excess_s(ours: Measured, theirs: Measured) -> dict[str, float]:
    pairs = {
        "p95": (ours.p95_s, theirs.p95_s), "p99": (ours.p99_s, theirs.p99_s), "mean": (ours.mean_s, theirs.mean_s)
    }  # fmt: skip
    return {name: mine - limit for name, (mine, limit) in pairs.items() if mine > limit}


def spread(shares: Iterable[float]) -> Spread | None:
    """None for no shares. The median of an even number lies between the middle two."""
    ordered = sorted(shares)
    if not ordered:
        return None
    count = len(ordered)
    median = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    return Spread(count, median, ordered[-(-count * 9 // 10) - 1], ordered[-1])


def geometric_mean(ratios: Iterable[float]) -> float | None:
    """None for no ratios. All must be above 0."""
    logs = [log(ratio) for ratio in ratios]
    return exp(sum(logs) / len(logs)) if logs else None
