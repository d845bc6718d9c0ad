"""Which traffic is measured and how its endpoint is run: a folder of CSV files, each with one or more setups.

How a trace is run is, in this order: what the command line says (`--setup NAME=1-5x8`), the row about it in the table
of the folder's README.md, its name's beginning (`PREFIXES`, the kinds of traces in the research notes), and at last its
own load: see `setup_for_load`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Final

from orchestrator.contract.limits import CONCURRENCY, WORKERS_MAX
from orchestrator.simulator.light import Setup
from orchestrator.simulator.traces import Trace, TraceError, read_trace

SETUP: Final = re.compile(r"(\d{1,2})-(\d{1,2})(?:x(\d{1,4}))?")
README_SETUP: Final = re.compile(r"\b(\d{1,2})-(\d{1,2})\b")
README_SLOTS: Final = re.compile(r"\b(\d{1,4}) slots?\b")
README_BYTES_MAX: Final = 1_000_000
PREFIXES: Final = {
    "img_busy": (Setup(0, 5), Setup(1, 5)),
    "img_sparse": (Setup(0, 5),),
    "llm_hour": (Setup(2, 10, 8),),
    "tenant": (Setup(1, 10),),
}


@dataclass(frozen=True, slots=True)
class Scenario:
    """A trace and one way to run its endpoint."""

    file: Path
    trace: Trace
    setup: Setup

    @property
    def name(self) -> str:
        return f"{self.trace.name} {self.setup}"


def scenarios_in(folder: Path, given: Mapping[str, tuple[Setup, ...]], only: tuple[str, ...] = ()) -> list[Scenario]:
    """All of a folder, by name; with `only` those whose trace's name begins with one of them. Raises TraceError."""
    try:
        files = sorted(file for file in folder.iterdir() if file.name.endswith((".csv", ".csv.gz")))
    except OSError as error:
        raise TraceError(f"{folder}: cannot be listed: {error.strerror or error}") from error
    if not files:
        raise TraceError(f"{folder}: no .csv or .csv.gz file in it")
    told = setups_told(folder / "README.md")
    found = []
    for file in files:
        name = file.name.removesuffix(".gz").removesuffix(".csv")
        if only and not name.startswith(only):
            continue
        trace = read_trace(file)
        setups = given.get(name) or told.get(name) or _by_prefix(trace) or (setup_for_load(trace),)
        found += [Scenario(file, trace, setup) for setup in setups]
    unknown = sorted(given.keys() - {scenario.trace.name for scenario in found})
    if unknown and not only:
        raise TraceError(f"--setup: there is no trace {unknown[0][:60]!a} in {folder}")
    if not found:
        raise TraceError(f"{folder}: no trace's name begins with {' or '.join(only)[:60]!a}")
    return found


def setup_of(written: str) -> Setup:
    """`1-5` or `2-10x8`: baseline, maximum, slots per worker. Raises TraceError naming the limit."""
    match = SETUP.fullmatch(written)
    if match is None:
        raise TraceError(
            f"setup: write BASELINE-MAXIMUM or BASELINE-MAXIMUMxSLOTS, such as 2-10x8, not {written[:40]!a}"
        )
    baseline, maximum, slots = int(match[1]), int(match[2]), int(match[3] or 1)
    if not 1 <= maximum <= WORKERS_MAX:
        raise TraceError(f"setup: the maximum is 1 to {WORKERS_MAX}, not {maximum}")
    if baseline > maximum:
        raise TraceError(f"setup: the baseline, {baseline}, is more than the maximum, {maximum}")
    if not CONCURRENCY[0] <= slots <= CONCURRENCY[1]:
        raise TraceError(f"setup: slots are {CONCURRENCY[0]} to {CONCURRENCY[1]}, not {slots}")
    return Setup(baseline, maximum, slots)


def setups_told(readme: Path) -> dict[str, tuple[Setup, ...]]:
    """From a table `| trace | ... | 0-5 and 1-5, 1 slot |`: setups by trace. Rows that tell none are left out."""
    try:
        text = readme.read_bytes()[:README_BYTES_MAX].decode(errors="replace")
    except OSError:
        return {}
    told = {}
    for line in text.splitlines():
        cells = [cell.strip(" `") for cell in line.strip().strip("|").split("|")]
        slots = README_SLOTS.search(cells[-1])
        pairs = README_SETUP.findall(cells[-1])
        if line.startswith("|") and slots and pairs:
            told[cells[0]] = tuple(setup_of(f"{low}-{high}x{slots[1]}") for low, high in pairs)
    return told


def setup_for_load(trace: Trace) -> Setup:
    """Of a trace nobody said anything about. With `load` the mean number of requests in service:

    slots: 1 up to a load of 4, else what brings the mean to 4 workers; baseline: the whole workers of the mean load;
    maximum: three times the load and two more, 5 to 10.
    """
    slots = 1 if trace.load <= 4 else min(ceil(trace.load / 4), CONCURRENCY[1])
    workers = trace.load / slots
    maximum = min(max(ceil(3 * workers) + 2, 5), WORKERS_MAX)
    return Setup(min(int(workers), maximum), maximum, slots)


def _by_prefix(trace: Trace) -> tuple[Setup, ...]:
    setups = next((setups for prefix, setups in PREFIXES.items() if trace.name.startswith(prefix)), ())
    # Where one worker would hold the mean load, workers of half the slots: else there is nothing to scale.
    return tuple(replace(each, slots=each.slots // 2) if trace.load < each.slots > 1 else each for each in setups)
