"""The measurement itself: what everybody comes to in every row, and `auto` at each rival's own point.

In rounds: all that is sure to be needed first, then what the search asks for (scaling_search.py), for all rows at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import Final

from orchestrator.bench.scaling_cells import (
    Cell,
    Figures,
    Measured,
    Shelf,
    Task,
    cells_of,
    figures_of,
    measure_all,
    unmeasured,
)
from orchestrator.bench.scaling_field import BOUND, ZERO_WAIT
from orchestrator.bench.scaling_pace import TRIED_REQUESTS, Progress, span, tried
from orchestrator.bench.scaling_report import SAVINGS, Scope
from orchestrator.bench.scaling_score import Row, mean_of
from orchestrator.bench.scaling_search import CLOSE, wishes_to_measure
from orchestrator.bench.scaling_traces import Scenario
from orchestrator.clock import Now

WISHES_EXPECTED: Final = 40
"""That the search measures per row, for the estimate of its time."""
PER_REQUESTS: Final = 10_000
"""Requests that the time a run took is told for."""

RowKey = tuple[str, float]
"""A scenario's name and a median of cold starts."""


@dataclass(frozen=True, slots=True)
class Run:
    """What came of it."""

    rows: list[Row]
    simulations: int
    took_s: float
    """Processor time of all simulations, remembered ones included."""
    per_requests_s: float
    """The same for PER_REQUESTS requests of one scenario under one luck."""


@dataclass(frozen=True)
class Measurement:
    """What is to be measured."""

    scenarios: Sequence[Scenario]
    cold_s: Sequence[float]
    """Medians of cold starts."""
    scope: Scope

    @cached_property
    def cells(self) -> dict[RowKey, list[Cell]]:
        """Of each row, one per luck."""
        seeds = self.scope.seeds
        return {(each.name, at): cells_of(each, at, seeds) for each in self.scenarios for at in self.cold_s}

    @property
    def bounds(self) -> list[str]:
        return [ZERO_WAIT, *(f"{BOUND}{wait_price:g}" for wait_price in self.scope.wait_prices)]

    def run(self, shelf: Shelf, jobs: int, now: Now, say: Callable[[str], None]) -> Run:
        """Measure, in `jobs` processes, what the shelf has not. Raises RequestsStarved, BrokenProcessPool, OSError."""
        found: dict[tuple[Cell, str], Figures] = {}
        rows = {key: Row(*key, {}, {}) for key in self.cells}
        needed = {key: [*sorted(self.scope.names), *self.bounds, *self._wishes(row)] for key, row in rows.items()}
        progress: Progress | None = None
        while any(needed.values()):
            wanted = {cell: needed[key] for key in needed for cell in self.cells[key]}
            tasks = unmeasured(wanted, shelf)
            if tasks:
                progress = progress or self._announced(tasks, jobs, now, say)
                progress.began(tasks)
                measure_all(tasks, shelf, jobs, progress.finished)
            found |= figures_of(wanted, shelf)
            rows = {key: self._row(key, row, needed[key], found) for key, row in rows.items()}
            needed = {key: self._wishes(row) for key, row in rows.items()}
        took_s = sum(figures["took_s"] for figures in found.values())
        requests = sum(cell.requests for row in self.cells.values() for cell in row)
        return Run(list(rows.values()), len(found), took_s, took_s / max(1, requests) * PER_REQUESTS)

    def _wishes(self, row: Row) -> list[str]:
        allowed = self.scope.allowed
        rivals = {rival: 1 if rival in SAVINGS else CLOSE for rival in self.scope.rivals}
        return wishes_to_measure(row, rivals, allowed) if allowed else []

    def _row(self, key: RowKey, row: Row, names: Sequence[str], found: Mapping[tuple[Cell, str], Figures]) -> Row:
        """`row`, and what was found under these names."""
        cells, bounds = self.cells[key], self.bounds
        means = {
            name: mean_of([Measured(**found[cell, name]) for cell in cells]) for name in names if name not in bounds
        }
        costs = {name: fmean(found[cell, name]["cost"] for cell in cells) for name in names if name in bounds}
        return replace(row, measured={**row.measured, **means}, bounds={**row.bounds, **costs})

    def _announced(self, tasks: Sequence[Task], jobs: int, now: Now, say: Callable[[str], None]) -> Progress:
        """Say what is to be done and how long that takes."""
        pace, count = tried(self.scenarios), sum(len(names) for _, names in tasks)
        work_s, search = pace.work_s(tasks), ""
        if self.scope.allowed:
            cells = dict.fromkeys(cell for cell, _ in tasks)
            more = WISHES_EXPECTED - len(self._wishes(Row("", 0.0, {}, {})))
            work_s += pace.learning_s * more * sum(cell.requests for cell in cells)
            search = f", then some {more * len(cells):,} in search of the best p95 wait to ask auto for"
        say(
            f"{len(self.cells)} rows (scenarios x medians of cold starts) x {self.scope.seeds} seeds: "
            f"{count:,} simulations to do{search}"
        )
        say(
            f"about {span(work_s / jobs)} with {jobs} {'process' if jobs == 1 else 'processes'}: on the first "
            f"{TRIED_REQUESTS:,} requests auto made {1 / pace.learning_s:,.0f} a second, others {1 / pace.plain_s:,.0f}"
        )
        return Progress(pace, work_s, now, say)
