"""Cells of the scaling measurement: contenders on one trace under one luck of cold starts; measured, or remembered.

A figure is a function of the trace, of how the endpoint is run and of the code, so it is kept on disk under a digest of
all three: a second run takes seconds. Cells are measured in several processes, since plain Python fills one core.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any, Final, NamedTuple

from orchestrator.bench.scaling_field import bound_of, contender_of, version
from orchestrator.bench.scaling_traces import Scenario
from orchestrator.simulator.light import ColdStarts, Setup
from orchestrator.simulator.traces import Trace, read_trace

CHUNK: Final = 4
"""Contenders measured per task: enough to make reading the trace cheap, few enough to keep all cores busy."""


class Cell(NamedTuple):
    """A scenario under one luck. Sent to other processes, so it names its trace instead of holding it."""

    file: str
    digest: str
    setup: Setup
    cold_s: float
    """Median of the cold starts."""
    seed: int
    requests: int = 0
    """How long the trace is: no part of the key, which names the trace's content."""

    @property
    def key(self) -> str:
        return f"{self.digest}-{self.setup}-{self.cold_s:g}s-{self.seed}"


@dataclass(frozen=True, slots=True)
class Measured:
    """What one contender came to in one cell."""

    requests: int
    autoscaled_s: float
    autoscaled_u: int
    waited_s: float
    """All waits together."""
    p50_s: float
    p95_s: float
    p99_s: float
    cold_starts: int
    idle_starts: int
    """Of them, workers that never served anything."""
    took_s: float
    """Processor time of the simulation."""

    @property
    def mean_s(self) -> float:
        return self.waited_s / max(1, self.requests)

    def cost(self, wait_price: float) -> float:
        """J of research/autoscaling.md 3.2."""
        return self.autoscaled_s + wait_price * self.waited_s


Figures = dict[str, Any]
"""A `Measured` or a bound as JSON: plain numbers by name."""


def cells_of(scenario: Scenario, cold_s: float, seeds: int) -> list[Cell]:
    """One per luck, seeds 1 and up."""
    trace = scenario.trace
    lucks = range(1, seeds + 1)
    return [Cell(str(scenario.file), trace.digest, scenario.setup, cold_s, seed, len(trace)) for seed in lucks]


class Shelf:
    """Figures kept in a directory: one JSON file per cell, each entry beside the version of the code it is from."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._held: dict[str, dict[str, tuple[str, Figures]]] = {}

    def find(self, cell: Cell, name: str) -> Figures | None:
        """Figures of this very code; None when there are none."""
        found = self._entries(cell).get(name)
        return found[1] if found is not None and found[0] == version(name) else None

    def keep(self, cell: Cell, figures: Mapping[str, Figures]) -> None:
        """Raises OSError when the directory cannot be written."""
        entries = self._entries(cell)
        entries.update({name: (version(name), each) for name, each in figures.items()})
        if self._directory is not None:
            self._directory.mkdir(parents=True, exist_ok=True)
            file = self._directory / f"{cell.key}.json"
            fresh = file.with_suffix(f".{os.getpid()}")
            fresh.write_text(json.dumps(entries), encoding="utf-8")
            fresh.replace(file)  # whole or not at all: a run that is interrupted leaves what it had

    def _entries(self, cell: Cell) -> dict[str, tuple[str, Figures]]:
        if cell.key not in self._held:
            self._held[cell.key] = self._read(cell)
        return self._held[cell.key]

    def _read(self, cell: Cell) -> dict[str, tuple[str, Figures]]:
        """A file that is missing or damaged counts as empty: it is measured again and written anew."""
        if self._directory is None:
            return {}
        try:
            kept = json.loads((self._directory / f"{cell.key}.json").read_text(encoding="utf-8"))
            return {name: (str(code), dict(figures)) for name, (code, figures) in kept.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}


Task = tuple[Cell, Sequence[str]]
"""A cell and contenders or bounds to measure in it."""


def unmeasured(wanted: Mapping[Cell, Sequence[str]], shelf: Shelf) -> list[Task]:
    """What the shelf has not, in portions for the processes, the longest first: what is left at the end is short, and
    the cores finish together."""
    tasks: list[Task] = []
    for cell, names in wanted.items():
        missing = [name for name in names if shelf.find(cell, name) is None]
        tasks += [(cell, missing[i : i + CHUNK]) for i in range(0, len(missing), CHUNK)]
    return sorted(tasks, key=lambda task: -task[0].requests)


def measure_all(tasks: Sequence[Task], shelf: Shelf, jobs: int, finished: Callable[[Task], None]) -> None:
    """Put what these come to on the shelf, measured in `jobs` processes; `finished` hears of each that is."""
    for task, figures in _done(tasks, jobs):
        shelf.keep(task[0], figures)
        finished(task)


def figures_of(wanted: Mapping[Cell, Sequence[str]], shelf: Shelf) -> dict[tuple[Cell, str], Figures]:
    """What the shelf has of every contender and bound of every cell."""
    found = {(cell, name): shelf.find(cell, name) for cell, names in wanted.items() for name in names}
    return {key: figures for key, figures in found.items() if figures is not None}


def _done(tasks: Sequence[Task], jobs: int) -> Iterator[tuple[Task, dict[str, Figures]]]:
    if jobs == 1 or not tasks:
        for task in tasks:
            yield task, measure(*task)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        doing: dict[Future[dict[str, Figures]], Task] = {pool.submit(measure, *task): task for task in tasks}
        try:
            for future in as_completed(doing):
                yield doing[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def spent_s() -> float:
    """Processor time of this process so far, seconds."""
    return getrusage(RUSAGE_SELF).ru_utime


def measure(cell: Cell, names: Sequence[str]) -> dict[str, Figures]:
    """Simulate. Raises what the contender raises."""
    trace, cold = _trace(cell.file), ColdStarts(cell.cold_s, cell.seed)
    figures: dict[str, Figures] = {}
    for name in names:
        began_s = spent_s()
        bound = bound_of(name)
        if bound is not None:
            cost = bound(trace, cell.setup, cold)
            figures[name] = {"cost": cost, "took_s": spent_s() - began_s}
            continue
        contender = contender_of(name)
        assert contender is not None, f"nobody is called {name}"
        outcome = contender.run(trace, cell.setup, cold)
        p50_s, p95_s, p99_s = outcome.wait_percentiles_s(50, 95, 99)
        figures[name] = asdict(
            Measured(
                requests=len(trace),
                autoscaled_s=outcome.autoscaled_s,
                autoscaled_u=outcome.autoscaled_u,
                waited_s=outcome.waited_s,
                p50_s=p50_s,
                p95_s=p95_s,
                p99_s=p99_s,
                cold_starts=outcome.cold_starts,
                idle_starts=outcome.idle_starts,
                took_s=spent_s() - began_s,
            )
        )
    return figures


@cache
def _trace(file: str) -> Trace:
    return read_trace(Path(file))
