"""`python -m orchestrator.simulator --spec JSON ...`: run traffic through the full core in virtual time.

What `gpudeck sim` starts. A spec says what is to be set; with `--slug` the rest is as that endpoint has it, whose own
requests and cold starts are taken then. One JSON document on stdout, talk on stderr. Exit codes: 0, 1 for an invariant
that did not hold, 2 for a mistake in the arguments, 3 for an endpoint that there is not, 65 for files of no use.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from orchestrator.assets import AssetError, load_models, load_price_book
from orchestrator.clock import system_now
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.contract.limits import WORKERS_MAX
from orchestrator.contract.places import places
from orchestrator.core.pricing import PriceBook, always
from orchestrator.core.recovery import DEFAULT_ACCOUNT
from orchestrator.core.state import Rules
from orchestrator.ledger.ports import LedgerError
from orchestrator.simulator.arguments import Parser
from orchestrator.simulator.faults import FaultError, Storm, parse_faults
from orchestrator.simulator.play import CREDIT_U, INSTANCE, PlayError, play
from orchestrator.simulator.recorded import (
    REQUESTS_DEFAULT,
    Missing,
    book_in_force,
    known_endpoint,
    requests_of,
    slots_of,
)
from orchestrator.simulator.report import report
from orchestrator.simulator.setup import ColdStarts
from orchestrator.simulator.traces import SHAPES, Shape, Trace, TraceError, read_standard_input, read_trace
from orchestrator.simulator.whatif import TooLittle, cold_starts_of, recording_of

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_MISSING, EXIT_DATA = 0, 1, 2, 3, 65
COLD_S: Final = (0.0, 3_600.0)
SIGMA: Final = (0.0, 3.0)
SHAPED: Final = {"peak_rpm": 60.0, "span": 3_600.0, "service": 6.0, "service_cv": 0.3}
"""What only a shape has, and its values when nobody says."""
SEED_BOOK: Final = "2025-seed"
MODEL: Final = "echo"
ONE_OF_THREE: Final = "give a trace file or a shape, or the slug of an endpoint that has had traffic: one of the three"


@dataclass(frozen=True, slots=True)
class Task:
    """What to run: the traffic, the specs to run it against, its cold starts, and the price book."""

    trace: Trace
    specs: list[EndpointSpec]
    cold: ColdStarts
    book: PriceBook


def main(arguments: Sequence[str]) -> int:
    """Simulate each `--spec` on the same traffic; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        faults = parse_faults(options.faults)
        task = _recorded(options) if options.slug is not None else _made_up(options)
        runs = [_run(task, spec, faults, options) for spec in task.specs]
    except ValidationError as error:
        first = error.errors()[0]
        field, problem = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
        return _fail(EXIT_USAGE, f"{field}: {problem}" if field else problem)
    except (TraceError, FaultError, PlayError, AssetError, TooLittle) as error:
        return _fail(EXIT_USAGE, str(error))
    except Missing as error:
        return _fail(EXIT_MISSING, str(error))
    except LedgerError as error:
        return _fail(EXIT_DATA, str(error))
    except AssertionError as error:
        repeat = shlex.join(arguments)
        return _fail(
            EXIT_FAILED, f"an invariant does not hold: {error}\nrepeat: python -m orchestrator.simulator {repeat}"
        )
    trace = task.trace
    traffic = {
        "name": trace.name, "requests": len(trace), "span_s": round(trace.span_s, 3), "load": round(trace.load, 4),
        "told": list(trace.told),
    }  # fmt: skip
    document = {
        "traffic": traffic,
        "cold_s": round(task.cold.median_s, 3),
        "seed": options.seed,
        "faults": faults,
        "runs": runs,
    }
    json.dump(document, sys.stdout)
    sys.stdout.write("\n")
    return EXIT_OK


def _run(task: Task, spec: EndpointSpec, faults: dict[str, float], options: argparse.Namespace) -> dict[str, Any]:
    storm, cold, trace = None, task.cold, task.trace
    if faults:
        storm = Storm(f"storm/{options.seed}", faults, lambda at_ns: cold.duration_ns(at_ns) / SECOND_NS)
    credit_u = CREDIT_U if options.credit_u is None else options.credit_u
    now = system_now()
    began_ns = now()
    played = play(trace, spec, _rules(task), cold=cold, storm=storm, credit_u=credit_u)
    took_s = (now() - began_ns) / SECOND_NS
    return {
        "spec": spec.model_dump(mode="json"),
        **report(played),
        "told": storm.told if storm is not None else [],
        "events": played.notes[-20:],
        "wall_s": round(took_s, 3),
        "requests_per_s": round(len(trace) / took_s, 1),
    }


def _rules(task: Task) -> Rules:
    return Rules(
        instance=INSTANCE,
        boot_id="simulated",
        models=load_models(places(os.environ).models_dir),
        prices=always(task.book),
        workers_max=max(WORKERS_MAX, *(spec.maximum for spec in task.specs)),
    )


def _made_up(options: argparse.Namespace) -> Task:
    """Traffic from a file or of a shape, specs that are whole."""
    book = load_price_book(options.book or SEED_BOOK, places(os.environ).prices_dir)
    specs = [EndpointSpec.model_validate_json(text) for text in options.spec]
    return Task(_trace(options), specs, _cold(options, ColdStarts()), book)


def _recorded(options: argparse.Namespace) -> Task:
    """An endpoint's own requests and cold starts, and specs that say how it is to be run instead."""
    if options.trace is not None or options.shape is not None:
        raise TraceError(ONE_OF_THREE)
    _demand_no_shape(options)
    where = places(os.environ)
    known = known_endpoint(where, options.slug, options.account)
    requests, since_ns, until_ns = requests_of(where, known, options.requests, None)
    recorded = recording_of(options.slug, requests, since_ns, until_ns)
    first_ns = recorded.trace.arrival_ns[0]
    arrival_ns = tuple(at_ns - first_ns for at_ns in recorded.trace.arrival_ns)
    trace = Trace(f"recorded of {options.slug}", arrival_ns, recorded.trace.service_ns)
    # Whatever the model is, its lifecycle is the same; and what is simulated belongs to nobody.
    stand_in = {"model": MODEL, "concurrency": slots_of(where, known.spec), "account": DEFAULT_ACCOUNT}
    given = known.spec.model_dump(exclude={"policy"}) | {"policy": known.spec.policy.model_dump()} | stand_in
    specs = [EndpointSpec.model_validate({**given, **json.loads(text)}) for text in options.spec]
    book = book_in_force(where) if options.book is None else load_price_book(options.book, where.prices_dir)
    return Task(trace, specs, _cold(options, cold_starts_of(known.cold_starts_ns)), book)


def _cold(options: argparse.Namespace, usual: ColdStarts) -> ColdStarts:
    """Cold starts as given; what is not given is as usual."""
    for name, value, (least, most), unit in (
        ("cold", options.cold, COLD_S, " seconds"), ("sigma", options.sigma, SIGMA, ""),
    ):  # fmt: skip
        if value is not None and not least <= value <= most:
            raise PlayError(f"{name}: give {least:.0f} to {most:.0f}{unit}, not {value:g}")
    if options.cold is None and options.sigma is None and options.slug is not None:
        return replace(usual, seed=options.seed, drawn={})
    return ColdStarts(
        usual.median_s if options.cold is None else options.cold, options.seed,
        usual.sigma if options.sigma is None else options.sigma, shortest_s=0.0, longest_s=COLD_S[1],
    )  # fmt: skip


def _trace(options: argparse.Namespace) -> Trace:
    if (options.trace is None) == (options.shape is None):
        raise TraceError(ONE_OF_THREE)
    if options.trace is not None:
        _demand_no_shape(options)
        return read_standard_input() if options.trace == "-" else read_trace(Path(options.trace))
    shaped = {
        name: usual if getattr(options, name) is None else getattr(options, name) for name, usual in SHAPED.items()
    }
    shape = Shape(options.shape, shaped["peak_rpm"], shaped["span"], shaped["service"], shaped["service_cv"])
    trace = shape.draw(options.seed)
    if not len(trace):
        raise TraceError("the shape is empty: give a higher peak or a longer span")
    return trace


def _demand_no_shape(options: argparse.Namespace) -> None:
    for name in SHAPED:
        if getattr(options, name) is not None:
            raise TraceError(f"{name}: only a shape has one; a recording is played as it is")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m orchestrator.simulator", description=__doc__)
    parser.add_argument(
        "--spec", action="append", required=True, metavar="JSON", help="an EndpointSpec, or part of one; repeatable"
    )
    parser.add_argument("--trace", metavar="FILE", help="CSV of arrival_s,service_s, gzip or not; - is stdin")
    parser.add_argument("--slug", help="an endpoint of this deck, whose recorded traffic is taken")
    parser.add_argument("--account", help="whose endpoints there are; without it, everybody's")
    parser.add_argument("--requests", type=int, default=REQUESTS_DEFAULT, help="the newest of a recording")
    parser.add_argument("--shape", choices=SHAPES)
    parser.add_argument("--peak-rpm", type=float)
    parser.add_argument("--span", type=float, help="seconds")
    parser.add_argument("--service", type=float, help="mean seconds of work per request")
    parser.add_argument("--service-cv", type=float)
    parser.add_argument("--cold", type=float, help="median seconds of a cold start")
    parser.add_argument("--sigma", type=float, help="of the logarithm of cold starts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", default="none", help="all, none, or names of the menu, such as death,crash=10")
    parser.add_argument("--book", help="price book")
    parser.add_argument("--credit-u", type=int, help="micro-dollars on the account; default: without end")
    return parser


def _fail(code: int, text: str) -> int:
    sys.stderr.write(f"gpudeck: {text}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
