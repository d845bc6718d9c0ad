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
    return [Cell(str(scenario.file), trace.digest, scenario.setup, cold_s, seed) for seed in range(1, seeds + 1)]


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


def measure_all(
    wanted: Mapping[Cell, Sequence[str]], shelf: Shelf, jobs: int, say: Callable[[str], None]
) -> dict[tuple[Cell, str], Figures]:
    """Figures of every contender and bound of every cell; what the shelf has not is measured in `jobs` processes."""
    found: dict[tuple[Cell, str], Figures] = {}
    tasks: list[tuple[Cell, list[str]]] = []
    for cell, names in wanted.items():
        missing = []
        for name in names:
            kept = shelf.find(cell, name)
            if kept is None:
                missing.append(name)
            else:
                found[cell, name] = kept
        tasks += [(cell, missing[i : i + CHUNK]) for i in range(0, len(missing), CHUNK)]
    if tasks:
        say(f"{sum(len(names) for _, names in tasks)} simulations to do, {len(found)} remembered")
    for count, (cell, figures) in enumerate(_done(tasks, jobs), start=1):
        shelf.keep(cell, figures)
        found.update({(cell, name): each for name, each in figures.items()})
        if count % max(1, len(tasks) // 20) == 0:
            say(f"{count / len(tasks):4.0%} done")
    return found


def _done(tasks: Sequence[tuple[Cell, list[str]]], jobs: int) -> Iterator[tuple[Cell, dict[str, Figures]]]:
    if jobs == 1:
        for cell, names in tasks:
            yield cell, measure(cell, names)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        doing: dict[Future[dict[str, Figures]], Cell] = {
            pool.submit(measure, cell, names): cell for cell, names in tasks
        }
        try:
            for future in as_completed(doing):
                yield doing[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def measure(cell: Cell, names: Sequence[str]) -> dict[str, Figures]:
    """Simulate. Raises what the contender raises."""
    trace, cold = _trace(cell.file), ColdStarts(cell.cold_s, cell.seed)
    figures: dict[str, Figures] = {}
    for name in names:
        bound = bound_of(name)
        if bound is not None:
            figures[name] = {"cost": bound(trace, cell.setup, cold)}
            continue
        contender = contender_of(name)
        assert contender is not None, f"nobody is called {name}"
        began_s = getrusage(RUSAGE_SELF).ru_utime
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
                took_s=getrusage(RUSAGE_SELF).ru_utime - began_s,
            )
        )
    return figures


@cache
def _trace(file: str) -> Trace:
    return read_trace(Path(file))
