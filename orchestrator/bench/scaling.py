"""`gpudeck bench scaling`: every policy and faithful models of others on the same traffic, in virtual time.

Per trace and cold-start median: autoscaled cost, waits and cold starts. Then the scores of research/autoscaling.md:
the regret of `auto` against the best of many fixed settings chosen with hindsight, its saving at each rival's own
point, its distance to what no policy can beat, and what the reserve ring saves. Traces are CSV files (.gz or not) whose
header names `arrival_s` and `service_s` (simulator/traces.py); scaling_traces.py says how each is run.

It says at the start what it will run and how long that takes on this machine, by a short trial, and at the end what it
took per 10,000 requests. What is measured is kept: a second run takes seconds.

Exit codes: 0 measured, 1 it could not be measured, 2 usage. A missed figure is a result, not a failure.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Final

import platformdirs

from orchestrator.bench import scaling_report as report
from orchestrator.bench.scaling_cells import Shelf
from orchestrator.bench.scaling_field import ALLOWED, OWN, RINGS, WAIT_PRICES, auto, contender_of, contenders
from orchestrator.bench.scaling_pace import span
from orchestrator.bench.scaling_rows import PER_REQUESTS, Measurement, Run
from orchestrator.bench.scaling_traces import Scenario, scenarios_in, setup_of
from orchestrator.clock import system_now
from orchestrator.contract.places import HOME_VARIABLE
from orchestrator.simulator.families import FIXED
from orchestrator.simulator.light import RequestsStarved, Setup
from orchestrator.simulator.rivals import RIVALS
from orchestrator.simulator.traces import TraceError

COLD_S: Final = (5.0, 30.0, 120.0)
SEEDS: Final = 3
SEEDS_MAX: Final = 100
COLD_S_MAX: Final = 3_600.0


def main(arguments: Sequence[str]) -> int:
    """Measure and print. Results go to stdout, progress to stderr."""
    options = _parser().parse_args(arguments)
    try:
        scope = _scope(options)
        scenarios = scenarios_in(options.traces, _setups(options.setup), tuple(options.only))
        shelf = Shelf(None if options.no_cache else cache_directory())
        run = Measurement(scenarios, options.cold, scope).run(shelf, options.jobs, system_now(), _say)
    except (TraceError, RequestsStarved, BrokenProcessPool) as error:
        sys.stderr.write(f"gpudeck: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"gpudeck: the results cannot be kept: {error}; --no-cache goes without\n")
        return 1
    except KeyboardInterrupt:
        return 130
    if options.output == "json":
        setting = {
            "python": platform.python_version(), "seeds": scope.seeds, "wait_prices": scope.wait_prices,
            "read": _told(scenarios), "simulations": run.simulations, "took_s": run.took_s,
            f"took_s_per_{PER_REQUESTS}": run.per_requests_s,
        }  # fmt: skip
        sys.stdout.write(json.dumps(report.document(run.rows, scope, setting), indent=2) + "\n")
    else:
        sys.stdout.write(report.text(run.rows, scope, _introduction(scenarios, scope, options, run)))
    return 0


def _scope(options: argparse.Namespace) -> report.Scope:
    wait_prices = tuple(options.v)
    if options.policies:
        unknown = [name for name in options.policies if contender_of(name) is None]
        if unknown:
            raise TraceError(f"--policy: there is no {unknown[0][:60]!a}; --list prints all names")
        return report.Scope(wait_prices, options.seeds, frozenset(options.policies))
    groups = [*OWN, *(auto(wait_price) for wait_price in wait_prices), *RIVALS]
    if not options.quick:
        groups += [*FIXED, *(each for pair in RINGS for each in pair)]
    allowed = () if options.quick else ALLOWED
    return report.Scope(wait_prices, options.seeds, frozenset(each.name for each in groups), allowed)


def _setups(given: Sequence[str]) -> dict[str, tuple[Setup, ...]]:
    """From `NAME=0-5,1-5x8`. Raises TraceError."""
    setups = {}
    for each in given:
        name, sign, written = each.partition("=")
        if not sign or not name:
            raise TraceError(f"--setup: write TRACE=BASELINE-MAXIMUM, such as img_busy_a=0-5,1-5, not {each[:60]!a}")
        setups[name] = tuple(setup_of(part) for part in written.split(","))
    return setups


def cache_directory() -> Path:
    """Where figures are kept: the user's cache directory, or below GPUDECK_HOME."""
    home = os.environ.get(HOME_VARIABLE)
    root = Path(home).expanduser() / "cache" if home else platformdirs.user_cache_path("gpudeck", appauthor=False)
    return root / "bench-scaling"


def _introduction(
    scenarios: Sequence[Scenario], scope: report.Scope, options: argparse.Namespace, run: Run
) -> list[str]:
    requests = sum(len(trace) for trace in {scenario.trace.digest: scenario.trace for scenario in scenarios}.values())
    lines = [
        f"{len(scenarios)} scenarios from {requests:,} requests, cold starts lognormal with medians "
        f"{', '.join(f'{cold_s:g}' for cold_s in options.cold)} s (sigma 0.5, 5 to 500 s), {scope.seeds} seeds each;",
        "costs are those of autoscaled workers (L40, 2025-seed) from start to stop, baseline workers come on top",
        f"{run.simulations:,} simulations took {span(run.took_s)} of processor time: {run.per_requests_s:.0f} s per "
        f"{PER_REQUESTS:,} requests of a scenario, median and seed",
        "p50 to mean: waits before a worker took the request; unused: share of starts that never served anything",
    ]
    lines += [f"  {name}: {said}" for name, said in _told(scenarios).items()]
    lines += [f"  {each.name}: {each.source}" for each in RIVALS if each.name in scope.names]
    return lines


def _told(scenarios: Sequence[Scenario]) -> dict[str, str]:
    """What reading made of the files that are not as one would write them."""
    traces = {scenario.trace.name: scenario.trace for scenario in scenarios}
    return {name: "; ".join(trace.told) for name, trace in traces.items() if trace.told}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.bench scaling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--traces", type=Path, required=True, metavar="DIR", help="folder of .csv and .csv.gz files")
    parser.add_argument(
        "--setup", action="append", default=[], metavar="TRACE=B-M[xSLOTS],…", help="how a trace is run; repeatable"
    )
    parser.add_argument("--cold", type=_cold, default=COLD_S, metavar="S,S", help="medians, default 5,30,120")
    parser.add_argument("--seeds", type=_seeds, default=SEEDS, help=f"lucks of cold starts, default {SEEDS}")
    parser.add_argument("--v", type=_prices, default=WAIT_PRICES, metavar="V,V", help="wait prices, default 0.2,1,5")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="traces that begin so; repeatable")
    parser.add_argument(
        "--policy", action="append", default=[], dest="policies", metavar="NAME", help="these only; repeatable"
    )
    parser.add_argument("--list", action=_List, nargs=0, help="print the names of all policies, rivals and settings")
    parser.add_argument("--quick", action="store_true", help="defaults only: no fixed settings, no regret")
    parser.add_argument("--jobs", type=_jobs, default=len(os.sched_getaffinity(0)), help="processes, default all cores")
    parser.add_argument("--no-cache", action="store_true", help="measure everything anew and keep nothing")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    return parser


class _List(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        sys.stdout.write("".join(f"{name}\n" for name in contenders()))
        parser.exit()


def _numbers(written: str, least: float, most: float) -> tuple[float, ...]:
    """Distinct numbers in the order given."""
    try:
        values = tuple(dict.fromkeys(float(part) for part in written.split(",")))
    except ValueError:
        values = ()
    if not values or not all(least <= value <= most for value in values):
        raise argparse.ArgumentTypeError(f"give numbers from {least:g} to {most:g}, separated by commas")
    return values


def _cold(written: str) -> tuple[float, ...]:
    return _numbers(written, 0.1, COLD_S_MAX)


def _prices(written: str) -> tuple[float, ...]:
    return _numbers(written, 0.001, 1_000.0)


def _count(written: str, most: int) -> int:
    if not written.isascii() or not written.isdigit() or not 1 <= int(written) <= most:
        raise argparse.ArgumentTypeError(f"give a whole number from 1 to {most}")
    return int(written)


def _seeds(written: str) -> int:
    return _count(written, SEEDS_MAX)


def _jobs(written: str) -> int:
    return _count(written, 256)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
