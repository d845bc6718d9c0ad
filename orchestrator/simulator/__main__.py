"""`python -m orchestrator.simulator --spec JSON ...`: run traffic through the full core in virtual time.

What `gpudeck sim` starts. One JSON document on stdout, talk on stderr. Exit codes: 0, 1 for an invariant that did not
hold, 2 for a mistake in the arguments.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from orchestrator.assets import AssetError, load_models, load_price_book
from orchestrator.clock import system_now
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.contract.limits import WORKERS_MAX
from orchestrator.contract.places import places
from orchestrator.core.pricing import always
from orchestrator.core.state import Rules
from orchestrator.simulator.faults import FaultError, Storm, parse_faults
from orchestrator.simulator.play import CREDIT_U, INSTANCE, PlayError, play
from orchestrator.simulator.report import report
from orchestrator.simulator.setup import ColdStarts
from orchestrator.simulator.traces import SHAPES, Shape, Trace, TraceError, read_trace

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
COLD_S: Final = (0.0, 3_600.0)


def main(arguments: Sequence[str]) -> int:
    """Simulate each `--spec` on the same traffic; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        trace = _trace(options)
        faults = parse_faults(options.faults)
        specs = [EndpointSpec.model_validate_json(text) for text in options.spec]
        if not COLD_S[0] <= options.cold <= COLD_S[1] or not 0.0 <= options.sigma <= 3.0:
            raise PlayError("cold: give 0 to 3600 seconds, and sigma 0 to 3")
        rules = _rules(options.book, max(spec.maximum for spec in specs))
        runs = [_run(trace, spec, rules, faults, options) for spec in specs]
    except ValidationError as error:
        first = error.errors()[0]
        return _fail(EXIT_USAGE, f"{'.'.join(map(str, first['loc'])) or 'spec'}: {first['msg']}")
    except (TraceError, FaultError, PlayError, AssetError) as error:
        return _fail(EXIT_USAGE, str(error))
    except AssertionError as error:
        repeat = shlex.join(arguments)
        return _fail(
            EXIT_FAILED, f"an invariant does not hold: {error}\nRepeat: python -m orchestrator.simulator {repeat}"
        )
    traffic = {
        "name": trace.name, "requests": len(trace), "span_s": round(trace.span_s, 3), "load": round(trace.load, 4),
    }  # fmt: skip
    document = {"traffic": traffic, "cold_s": options.cold, "seed": options.seed, "faults": faults, "runs": runs}
    json.dump(document, sys.stdout)
    sys.stdout.write("\n")
    return EXIT_OK


def _run(
    trace: Trace, spec: EndpointSpec, rules: Rules, faults: dict[str, float], options: argparse.Namespace
) -> dict[str, Any]:
    cold = ColdStarts(options.cold, options.seed, options.sigma, shortest_s=0.0, longest_s=COLD_S[1])
    storm = None
    if faults:
        storm = Storm(f"storm/{options.seed}", faults, lambda at_ns: cold.duration_ns(at_ns) / SECOND_NS)
    credit_u = CREDIT_U if options.credit_u is None else options.credit_u
    now = system_now()
    began_ns = now()
    played = play(trace, spec, rules, cold=cold, storm=storm, credit_u=credit_u)
    took_s = (now() - began_ns) / SECOND_NS
    return {
        "spec": spec.model_dump(mode="json"),
        **report(played),
        "told": storm.told if storm is not None else [],
        "events": played.notes[-20:],
        "wall_s": round(took_s, 3),
        "requests_per_s": round(len(trace) / took_s, 1),
    }


def _rules(book: str, workers_max: int) -> Rules:
    where = places(os.environ)
    return Rules(
        instance=INSTANCE,
        boot_id="simulated",
        models=load_models(where.models_dir),
        prices=always(load_price_book(book, where.prices_dir)),
        workers_max=max(WORKERS_MAX, workers_max),
    )


def _trace(options: argparse.Namespace) -> Trace:
    if (options.trace is None) == (options.shape is None):
        raise TraceError("give a trace file or a shape, one of the two")
    if options.trace is not None:
        return read_trace(Path(options.trace))
    shape = Shape(options.shape, options.peak_rpm, options.span, options.service, options.service_cv)
    trace = shape.draw(options.seed)
    if not len(trace):
        raise TraceError("the shape is empty: give a higher peak or a longer span")
    return trace


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m orchestrator.simulator", description=__doc__)
    parser.add_argument("--spec", action="append", required=True, metavar="JSON", help="an EndpointSpec; repeatable")
    parser.add_argument("--trace", metavar="FILE", help="CSV of arrival_s,service_s, gzip or not")
    parser.add_argument("--shape", choices=SHAPES)
    parser.add_argument("--peak-rpm", type=float, default=60.0)
    parser.add_argument("--span", type=float, default=3_600.0, help="seconds")
    parser.add_argument("--service", type=float, default=6.0, help="mean seconds of work per request")
    parser.add_argument("--service-cv", type=float, default=0.3)
    parser.add_argument("--cold", type=float, default=30.0, help="median seconds of a cold start")
    parser.add_argument("--sigma", type=float, default=0.5, help="of the logarithm of cold starts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", default="none", help="all, none, or names of the menu, such as death,crash=10")
    parser.add_argument("--book", default="2025-seed", help="price book")
    parser.add_argument("--credit-u", type=int, help="micro-dollars on the account; default: without end")
    return parser


def _fail(code: int, text: str) -> int:
    sys.stderr.write(f"{text}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
