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
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from orchestrator.assets import AssetError, load_models, load_price_book, load_price_schedule, price_book_names
from orchestrator.clock import system_now
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.decision import AskDecisions
from orchestrator.contract.endpoint import ScalingPolicy
from orchestrator.contract.places import Places, places
from orchestrator.controller.explaining import decisions_of
from orchestrator.core.history import Requests
from orchestrator.core.pricing import Price, PriceBook
from orchestrator.ledger.decisions import read_decisions
from orchestrator.ledger.metrics import open_to_read
from orchestrator.ledger.ports import LedgerError
from orchestrator.ledger.recall import Recalled, recall
from orchestrator.ledger.requests import read_requests
from orchestrator.settings import SettingsError, load_settings
from orchestrator.simulator import plan, whatif

EXIT_USAGE, EXIT_MISSING, EXIT_DATA, EXIT_CONFIGURATION = 2, 3, 65, 78
REQUESTS_DEFAULT: Final = 3_000
PLAN_ROWS_MAX: Final = 16
_POLICY: Final[TypeAdapter[ScalingPolicy]] = TypeAdapter(ScalingPolicy)
_MAIN_FIELD: Final = {
    "queue_delay": "seconds", "request_count": "value", "concurrency": "target", "auto": "wait_p95_s",
}  # fmt: skip


class Missing(Exception):
    """What was asked about does not exist."""


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
        _known(where, query.slug)
    with closing(open_to_read(where.metrics_file)) as connection:
        entries = read_decisions(connection, query.slug, query.until_ns, query.last)
    if not entries:
        _known(where, query.slug)
    return decisions_of(query, entries).model_dump(mode="json")


def what_if(where: Places, options: argparse.Namespace) -> dict[str, Any]:
    """Recorded traffic under other settings."""
    known = _known(where, options.slug)
    spec = known.spec
    requests = _recorded(where, known, options.requests)
    trace = whatif.trace_of_requests(options.slug, requests)
    book, price = _price(where, spec.gpu_type, options.book)
    slots = spec.concurrency or _slots_of(where, spec.model)
    measured_ns = () if options.cold_start is not None else known.cold_starts_ns
    cold = whatif.cold_starts_of(measured_ns, options.cold_start or whatif.ASSUMED_COLD_S)
    now = whatif.Option(spec.baseline, spec.maximum, spec.idle_timeout_s, spec.policy)
    tried = whatif.options(
        now,
        baselines=options.baseline,
        maxima=options.maximum,
        idle_timeouts_s=options.idle,
        policies=options.policy,
    )
    os.nice(10)  # what serves on this machine goes first
    with ProcessPoolExecutor(max_workers=options.jobs) as pool:
        results = whatif.replay(trace, tried, slots, price, cold, each=pool.map)
        levels = whatif.levels(trace, now, slots, price, cold, each=pool.map)
    best, sentence = whatif.recommend(results, options.wait)
    return {
        "slug": options.slug,
        "requests": len(trace),
        "missed": requests.missed,
        "since_ns": requests.arrived_ns[0],
        "until_ns": requests.arrived_ns[-1],
        "slots": slots,
        "load": trace.load,
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
        "books": price_book_names(where.prices_dir),
    }


def make_plan(where: Places, options: argparse.Namespace) -> dict[str, Any]:
    """A setup for given traffic, by the mean and by the wait."""
    gpu_type, slots, service_s = options.gpu, options.slots, []
    rpm, peak, latency_s, cv = options.rpm, options.peak, options.latency, options.cv
    if options.slug is not None:
        known = _known(where, options.slug)
        requests = _recorded(where, known, options.requests)
        service_s = [ns / SECOND_NS for ns in requests.service_ns if ns]
        mean_s, spread = plan.measured(service_s)
        latency_s, cv = latency_s or mean_s, spread if cv is None else cv
        gpu_type, slots = gpu_type or known.spec.gpu_type, slots or known.spec.concurrency
        slots = slots or _slots_of(where, known.spec.model)
        mean_rpm, most_rpm = whatif.rates_rpm(requests)
        rpm = rpm or mean_rpm
        peak = peak or max(most_rpm, rpm)
    for name, value in (("rpm", rpm), ("latency", latency_s)):
        if value is None:
            raise plan.PlanError(f"{name}: give --{name}, or --slug of an endpoint that has had traffic")
    demand = plan.Demand(rpm, rpm if peak is None else peak, latency_s, 1.0 if cv is None else cv, slots or 1)
    book, price = _price(where, gpu_type or "L40", options.book)
    target_s = demand.latency_s if options.wait is None else options.wait
    setups = {
        "by_mean": (demand.workers_by_mean(demand.rpm), demand.workers_by_mean(demand.peak_rpm)),
        "by_wait": (demand.workers_by_wait(demand.rpm, target_s), demand.workers_by_wait(demand.peak_rpm, target_s)),
    }
    first, last = setups["by_mean"][0], setups["by_wait"][1]
    return {
        "demand": {**asdict(demand), "measured": len(service_s), "worker_rpm": demand.worker_rpm},
        "price": {"book": book, "gpu_type": gpu_type or "L40", **price.model_dump()},
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


def _known(where: Places, slug: str) -> Recalled:
    if not where.ledger_file.exists():
        raise Missing(f"there is no endpoint {slug!r}: gpudeck has not run here yet")
    try:
        return recall(where.ledger_file, slug)
    except KeyError as error:
        raise Missing(f"there is no endpoint {slug!r} (endpoints: {error.args[0]})") from error


def _recorded(where: Places, known: Recalled, newest: int) -> Requests:
    with closing(open_to_read(where.metrics_file)) as connection:
        return read_requests(connection, known.spec.slug, known.created_ns, newest)


def _price(where: Places, gpu_type: str, book: str | None) -> tuple[str, Price]:
    """The book's name and the price of that GPU type: in `book`, or in the one in force now."""
    found = load_price_book(book, where.prices_dir) if book is not None else _book_in_force(where)
    price = found.price(gpu_type)
    if price is None:
        raise Missing(f"gpu: {found.name} has no price for {gpu_type!r} (it has: {', '.join(found.prices)})")
    return found.name, price


def _book_in_force(where: Places) -> PriceBook:
    settings = load_settings(where.settings_file, os.environ, {}).settings
    periods = [(period.book, period.start_ns) for period in settings.price_book]
    return load_price_schedule(periods, where.prices_dir).book_at(system_now()())


def _slots_of(where: Places, model: str) -> int:
    found = load_models(where.models_dir).get(model)
    return found.concurrency if found is not None else 1


def parse_policy(text: str) -> ScalingPolicy:
    """`auto`, `queue_delay=2`: a policy and the setting that matters most. Raises ArgumentTypeError."""
    kind, _, value = text.partition("=")
    if kind not in _MAIN_FIELD:
        raise argparse.ArgumentTypeError(f"policy: {text[:40]!a} is none of {', '.join(_MAIN_FIELD)}")
    try:
        return _POLICY.validate_python({"kind": kind, **({_MAIN_FIELD[kind]: value} if value else {})})
    except ValidationError as error:
        raise argparse.ArgumentTypeError(f"policy: {text[:40]!a}: {error.errors()[0]['msg']}") from error


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!a} is no list of whole numbers such as 0,1,2") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m orchestrator.simulator.study", description=__doc__)
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
    replay.add_argument("--policy", type=parse_policy, action="append", default=[])
    replay.add_argument("--cold-start", type=float)
    replay.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1) // 2))
    sizing = verb("plan", make_plan)
    sizing.add_argument("--slug")
    for name in ("rpm", "peak", "latency", "cv"):
        sizing.add_argument(f"--{name}", type=float)
    sizing.add_argument("--slots", type=int)
    sizing.add_argument("--gpu")
    for each in (replay, sizing):
        each.add_argument("--book")
        each.add_argument("--wait", type=float)
        each.add_argument("--requests", type=int, default=REQUESTS_DEFAULT)
    return parser


def _fail(code: int, message: str) -> int:
    sys.stderr.write(f"gpudeck: {message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
