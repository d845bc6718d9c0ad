"""`python -m orchestrator.simulator.study VERB`: questions answered from the deck's files, whether it runs or not.

`why` reads the decision journal, `whatif` replays the recorded traffic, `plan` computes. A process of its own: hours of
traffic must not be simulated in the loop that serves. One JSON object on stdout, one sentence on stderr when it fails.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import asdict
from functools import partial
from math import nan
from typing import Any, Final, Protocol

from pydantic import ValidationError

from orchestrator.assets import AssetError, price_book_names
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.decision import AskDecisions
from orchestrator.contract.endpoint import ScalingPolicy, policy_of
from orchestrator.contract.limits import IDLE_TIMEOUT_S
from orchestrator.contract.places import Places, places
from orchestrator.controller.explaining import decisions_of
from orchestrator.ledger.decisions import read_decisions
from orchestrator.ledger.metrics import open_to_read
from orchestrator.ledger.ports import LedgerError
from orchestrator.settings import SettingsError
from orchestrator.simulator import plan, whatif
from orchestrator.simulator.arguments import Parser
from orchestrator.simulator.recorded import REQUESTS_DEFAULT, Missing, known_endpoint, price_of, requests_of, slots_of

EXIT_USAGE, EXIT_MISSING, EXIT_DATA, EXIT_CONFIGURATION = 2, 3, 65, 78
PLAN_ROWS_MAX: Final = 16
SPAN_S_MAX: Final = 3_600.0
TRIED_MAX: Final = 1_000
"""Settings that are replayed at most: of 3,000 requests each, that takes minutes."""


def main(arguments: Sequence[str]) -> int:
    """Run one verb; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        document = options.run(places(), options)
    except Missing as error:
        return _fail(EXIT_MISSING, str(error))
    except (plan.PlanError, whatif.TooLittle, argparse.ArgumentTypeError) as error:
        return _fail(EXIT_USAGE, str(error))
    except LedgerError as error:
        return _fail(EXIT_DATA, str(error))
    except (SettingsError, AssetError, ValueError) as error:
        return _fail(EXIT_CONFIGURATION, str(error))
    sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
    return 0


def why(where: Places, options: argparse.Namespace) -> dict[str, Any]:
    """The lines of the decision journal, as `AskDecisions` has them."""
    query = AskDecisions(slug=options.slug, until_ns=options.until_ns, last=options.last, replay=options.replay)
    if not where.metrics_file.exists():
        known_endpoint(where, query.slug, options.account)
    with closing(open_to_read(where.metrics_file)) as connection:
        entries = read_decisions(connection, query.slug, query.until_ns, query.last)
    if not entries or options.account is not None:
        known_endpoint(where, query.slug, options.account)
    return decisions_of(query, entries).model_dump(mode="json")


def what_if(where: Places, options: argparse.Namespace) -> dict[str, Any]:
    """Recorded traffic under other settings."""
    known = known_endpoint(where, options.slug, options.account)
    spec = known.spec
    requests, since_ns, until_ns = requests_of(where, known, options.requests, options.until_ns)
    recorded = whatif.recording_of(options.slug, requests, since_ns, until_ns)
    book, price = price_of(where, spec.gpu_type, options.book)
    slots = slots_of(where, spec)
    measured_ns = () if options.cold_start is not None else known.cold_starts_ns
    cold = whatif.cold_starts_of(measured_ns, options.cold_start or whatif.ASSUMED_COLD_S)
    now = whatif.Option(spec.baseline, spec.maximum, spec.idle_timeout_s, spec.policy)
    choices = _choices(options, now)
    os.nice(10)  # what serves on this machine goes first
    with ProcessPoolExecutor(max_workers=options.jobs) as pool:
        levels = whatif.levels(recorded, now, slots, price, cold, each=pool.map)
        tried = choices(advised=whatif.advised_baseline(levels))
        results = whatif.replay(recorded, tried, slots, price, cold, each=pool.map)
    best, sentence = whatif.recommend(results, options.wait)
    return {
        "slug": options.slug,
        "requests": len(recorded.trace),
        "missed": requests.missed,
        "since_ns": recorded.since_ns,
        "until_ns": recorded.until_ns,
        "slots": slots,
        "load": recorded.load,
        "cold_start": {"measured": len(measured_ns), "median_s": cold.median_s, "sigma": cold.sigma},
        "price": {"book": book, "gpu_type": spec.gpu_type, **price.model_dump()},
        "settings": [
            {
                **{name: value for name, value in asdict(result).items() if name != "option"},
                "name": result.option.name,
                "baseline": result.option.baseline,
                "maximum": result.option.maximum,
                "idle_timeout_s": result.option.idle_timeout_s,
                "policy": result.option.policy.model_dump(mode="json"),
                "now": result.option == now,
                "recommended": result.option == best.option,
            }
            for result in results
        ],
        "levels": [{**asdict(level), "by_rule": level.by_rule} for level in levels],
        "ratio": price.baseline_uh / price.autoscale_uh,
        "recommendation": sentence,
        "caution": whatif.caution(recorded),
        "books": price_book_names(where.prices_dir),
    }


def make_plan(where: Places, options: argparse.Namespace) -> dict[str, Any]:
    """A setup for given traffic, by the mean and by the wait."""
    gpu_type, slots, measured = options.gpu, options.slots, 0
    rpm, peak, latency_s, cv = options.rpm, options.peak, options.latency, options.cv
    if options.slug is not None:
        known = known_endpoint(where, options.slug, options.account)
        requests, since_ns, until_ns = requests_of(where, known, options.requests, options.until_ns)
        service_s = [ns / SECOND_NS for ns in requests.service_ns if ns]
        if service_s or latency_s is None:
            mean_s, spread = plan.measured(service_s)
            measured = len(service_s) if latency_s is None else 0
            latency_s, cv = mean_s if latency_s is None else latency_s, spread if cv is None else cv
        gpu_type = known.spec.gpu_type if gpu_type is None else gpu_type
        slots = slots_of(where, known.spec) if slots is None else slots
        if rpm is None or peak is None:
            try:
                recorded = whatif.recording_of(options.slug, requests, since_ns, until_ns)
            except whatif.TooLittle as error:
                raise plan.PlanError(f"{error}; or give --rpm and --peak") from error
            rpm = recorded.rpm if rpm is None else rpm
            peak = max(recorded.busiest_minute, rpm) if peak is None else peak
    for name, value in (("rpm", rpm), ("latency", latency_s)):
        if value is None:
            raise plan.PlanError(f"{name}: give --{name}, or --slug of an endpoint that has had traffic")
    gpu_type, slots = "L40" if gpu_type is None else gpu_type, 1 if slots is None else slots
    demand = plan.Demand(rpm, rpm if peak is None else peak, latency_s, 1.0 if cv is None else cv, slots)
    book, price = price_of(where, gpu_type, options.book)
    target_s = demand.latency_s if options.wait is None else options.wait
    setups = {
        "by_mean": (demand.workers_by_mean(demand.rpm), demand.workers_by_mean(demand.peak_rpm)),
        "by_wait": (demand.workers_by_wait(demand.rpm, target_s), demand.workers_by_wait(demand.peak_rpm, target_s)),
    }
    first, last = setups["by_mean"][0], setups["by_wait"][1]
    return {
        "demand": {**asdict(demand), "measured": measured, "worker_rpm": demand.worker_rpm},
        "price": {"book": book, "gpu_type": gpu_type, **price.model_dump()},
        "wait_p95_s": target_s,
        **{
            name: {"baseline": b, "maximum": m, "setup": f"{b}-{m}", **asdict(plan.cost_of(b, m, price))}
            for name, (b, m) in setups.items()
        },
        "rows": [
            {"workers": n, "expected": _wait(demand, demand.rpm, n), "peak": _wait(demand, demand.peak_rpm, n)}
            for n in _some(range(first, last + 1))
        ],
    }


def _wait(demand: plan.Demand, rpm: float, workers: int) -> dict[str, float] | None:
    wait = demand.wait_at(rpm, workers)
    return None if wait is None else asdict(wait)


def _some(numbers: Sequence[int]) -> Iterable[int]:
    """All of them, or as many as a table bears, evenly, the last included."""
    step = -(-len(numbers) // PLAN_ROWS_MAX)
    return sorted({*numbers[::step], numbers[-1]})


class Choices(Protocol):
    """The settings to replay, with a baseline that is tried too where none was given."""

    def __call__(self, *, advised: int = 0) -> list[whatif.Option]: ...


def _choices(options: argparse.Namespace, now: whatif.Option) -> Choices:
    """What is given to choose from. Raises PlanError for what no endpoint can be set to, and for more than anybody
    waits for."""
    for name, numbers, least, most in (
        ("baseline", options.baseline, 0, plan.WORKERS_MAX), ("maximum", options.maximum, 1, plan.WORKERS_MAX),
        ("idle", options.idle, *IDLE_TIMEOUT_S),
    ):  # fmt: skip
        for number in numbers:
            if not least <= number <= most:
                raise plan.PlanError(f"{name}: {number} is not from {least} to {most}")
    if options.baseline and min(options.baseline) > (most := max(options.maximum or [now.maximum])):
        raise plan.PlanError(f"baseline: {min(options.baseline)} is above the maximum, {most}: give --maximum too")
    choices = partial(
        whatif.options, now, baselines=options.baseline, maxima=options.maximum, idle_timeouts_s=options.idle,
        policies=options.policy,
    )  # fmt: skip
    if (count := len(choices())) > TRIED_MAX:
        raise plan.PlanError(f"{count:,} settings come to that, at most {TRIED_MAX:,} are tried: give fewer values")
    return choices


def _policy(text: str) -> ScalingPolicy:
    """Raises ArgumentTypeError."""
    try:
        return policy_of(text)
    except ValidationError as error:
        raise argparse.ArgumentTypeError(f"{text[:40]!a}: {error.errors()[0]['msg']}") from error
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!a} is no list of whole numbers such as 0,1,2") from None


def _span_s(text: str) -> float:
    """Seconds from 0 to an hour. Raises ArgumentTypeError, also for what is no number."""
    try:
        span_s = float(text)
    except ValueError:
        span_s = nan
    if not 0.0 <= span_s <= SPAN_S_MAX:
        raise argparse.ArgumentTypeError(f"{text[:40]!a} is no number of seconds from 0 to {SPAN_S_MAX:.0f}")
    return span_s


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m orchestrator.simulator.study", description=__doc__)
    verbs = parser.add_subparsers(required=True)

    def verb(name: str, run: Callable[[Places, argparse.Namespace], dict[str, Any]]) -> argparse.ArgumentParser:
        made = verbs.add_parser(name)
        made.set_defaults(run=run)
        return made

    journal = verb("why", why)
    journal.add_argument("slug")
    journal.add_argument("--until-ns", type=int)
    journal.add_argument("--last", type=int, default=20)
    journal.add_argument("--replay", action="store_true")
    replay = verb("whatif", what_if)
    replay.add_argument("slug")
    for name in ("baseline", "maximum", "idle"):
        replay.add_argument(f"--{name}", type=_numbers, default=[])
    replay.add_argument("--policy", type=_policy, action="append", default=[])
    replay.add_argument("--cold-start", type=_span_s)
    replay.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1) // 2))
    sizing = verb("plan", make_plan)
    sizing.add_argument("--slug")
    for name in ("rpm", "peak", "latency", "cv"):
        sizing.add_argument(f"--{name}", type=float)
    sizing.add_argument("--slots", type=int)
    sizing.add_argument("--gpu")
    for each in (journal, replay, sizing):
        each.add_argument("--account", help="whose endpoints there are; without it, everybody's")
    for each in (replay, sizing):
        each.add_argument("--book")
        each.add_argument("--wait", type=_span_s)
        each.add_argument("--requests", type=int, default=REQUESTS_DEFAULT)
        each.add_argument("--until-ns", type=int, help="now, by the clock of the deck that runs")
    return parser


def _fail(code: int, message: str) -> int:
    sys.stderr.write(f"gpudeck: {message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
