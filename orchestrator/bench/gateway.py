"""`gpudeck bench gateway`: our gateway, with key check, round robin and recording on, beside nginx and HAProxy without
them; the same upstreams, the same core, in turn, in one run.

Exit codes: 0 measured, 1 it could not be measured, 2 usage. A missed figure is a result, not a failure.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from orchestrator.bench import gateway_report as report
from orchestrator.bench.gateway_programs import (
    NAMES,
    TREE,
    BenchError,
    Cores,
    Stage,
    busy_ns,
    choose_cores,
    find_program,
    missing_programs,
)
from orchestrator.bench.gateway_rounds import MEMORY, OURS, SCENARIOS, Rounds, Wanted, seconds_expected
from orchestrator.bench.gateway_rounds import NAMES as MEASURED
from orchestrator.clock import system_now

FILES: Final = 16_384
"""Open files that 1,000 connections through a proxy, and its upstreams, need with room to spare."""
BESIDE: Final = "other tree"
PROFILE_LINES: Final = 25
LOOP: Final = "run (runners.py)"
"""The event loop in a profile: it waits there, too."""
QUIET: Final = 0.05
DISTURBED: Final = ": throughput and latency are theirs too, CPU per request can still be compared"
SMOKE: Final = Wanted(MEASURED, connections=(4,), rounds=1, seconds=1)


def main(arguments: Sequence[str]) -> int:
    """Measure and print. Results go to stdout, progress and what is missing to stderr."""
    options = _parser().parse_args(arguments)
    _raise_file_limit()
    missing = missing_programs()
    for name in missing:
        _say(f"{name} is not installed (apt-get install {NAMES[name]}): its part is left out")
    wanted = _wanted(options)
    try:
        if "wrk" in missing or "nginx" in missing:
            raise BenchError("nothing can be measured without wrk (the load) and nginx (the upstreams)")
        with tempfile.TemporaryDirectory(prefix="gpudeck-bench-") as directory:
            home, cores = Path(directory), choose_cores()
            with Stage(home, cores, system_now()) as stage:
                if options.profile:
                    found = profile(stage, home, wanted)
                    as_json = options.output == "json"
                    sys.stdout.write(json.dumps(found, indent=2) + "\n" if as_json else _profile_text(found))
                else:
                    _measure(stage, home, wanted, cores, options)
    except (BenchError, OSError) as error:
        sys.stderr.write(f"gpudeck: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _measure(stage: Stage, home: Path, wanted: Wanted, cores: Cores, options: argparse.Namespace) -> None:
    targets = [stage.start_upstreams(), stage.start_gateway(OURS, TREE)]
    if options.beside:
        targets.append(stage.start_gateway(BESIDE, Path(options.beside).resolve()))
    targets += [stage.start_proxy(name) for name in ("nginx", "haproxy") if find_program(name)]
    _say(f"{cores}; about {seconds_expected(wanted, len(targets)) / 60:.0f} min")
    every, now = cores.load | {cores.proxy}, system_now()
    begin_ns, busy_at_ns, own_at_ns = now(), busy_ns(every), stage.own_ns()
    results = Rounds(stage, targets, wanted, home, now).run(_say)
    busy = busy_ns(every) - busy_at_ns - (stage.own_ns() - own_at_ns)
    others = max(busy, 0) / ((now() - begin_ns) * len(every))
    setting = {
        "machine": {"processor": _processor(), "kernel": platform.release(), "python": platform.python_version()},
        "cores": {"proxy": cores.proxy, "load": sorted(cores.load)},
        "programs": {name: _version(name) for name in NAMES if find_program(name)},
        "others_busy": round(others, 3),
        "rounds": wanted.rounds,
        "seconds": wanted.seconds,
    }
    if options.output == "json":
        sys.stdout.write(json.dumps(report.document(results, setting), indent=2) + "\n")
        return
    lines = [f"{_processor()}, Linux {platform.release()}, Python {platform.python_version()}", str(cores)]
    lines.append(" · ".join(_version(name) for name in NAMES if find_program(name)))
    lines.append(
        f"medians of {wanted.rounds} rounds of {wanted.seconds} s, all in turn; gpudeck checks keys and records"
    )
    lines.append(f"other programs took {others:.0%} of these cores meanwhile{DISTURBED if others > QUIET else ''}")
    lines.append("* by CPU per request: a proxy's core was not busy, so its throughput is not its capacity")
    sys.stdout.write(report.text(results, [target.name for target in targets], lines))


def profile(stage: Stage, home: Path, wanted: Wanted) -> dict[str, Any]:
    """Where the gateway's time goes in the first scenario wanted: CPU per request as it is, then the share of each
    function under cProfile."""
    targets = [stage.start_upstreams(), stage.start_gateway(OURS, TREE)]
    file = home / "profile.json"
    profiled = stage.start_gateway("profiled", TREE, profile=file)
    assert profiled.process is not None, "a gateway is a process"
    scenario = next((scenario for scenario in SCENARIOS if scenario.name in wanted.names), SCENARIOS[0])
    once = Wanted((scenario.name,), connections=(32,), rounds=wanted.rounds, seconds=wanted.seconds)
    loads = Rounds(stage, [*targets, profiled], once, home, system_now()).run(_say).loads
    stage.end(profiled.process)
    functions = [line for line in json.loads(file.read_bytes()) if line["function"] != LOOP]
    functions.sort(key=lambda line: -line["self_s"])
    total_s = sum(line["self_s"] for line in functions)
    for line in functions:
        line["share"] = line.pop("self_s") / total_s
    plain = loads[scenario.name, 32, OURS]
    return {
        "scenario": scenario.title,
        "requests_per_s": plain.rate,
        "user_us": plain.user_us,
        "kernel_us": plain.kernel_us,
        "profiled_requests_per_s": loads[scenario.name, 32, "profiled"].rate,
        "functions": functions[:PROFILE_LINES],
    }


def _profile_text(found: dict[str, Any]) -> str:
    lines = [
        f"{found['scenario']}, at 32 connections: {found['requests_per_s']:,.0f} requests/s; a request costs "
        f"{found['user_us']:.1f} µs in the program and {found['kernel_us']:.1f} µs in the kernel",
        "Shares of its time under cProfile; what the event loop and the kernel do for a function counts to it",
        *(f"  {line['share']:6.1%}  {line['function']}" for line in found["functions"]),
    ]
    return "\n".join(lines) + "\n"


def _wanted(options: argparse.Namespace) -> Wanted:
    base = SMOKE if options.quick else Wanted(MEASURED, connections=(1, 32, 256), rounds=5, seconds=2)
    names = tuple(options.only) or base.names
    if options.quick and not options.only:
        names = tuple(name for name in names if name != MEMORY)
    return Wanted(
        names,
        options.connections or base.connections,
        options.rounds or base.rounds,
        options.seconds or base.seconds,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m orchestrator.bench gateway", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="some seconds in all: shows that it works, no more")
    parser.add_argument("--rounds", type=_positive, help="default 5")
    parser.add_argument("--seconds", type=_positive, help="length of one measurement, default 2")
    parser.add_argument("--only", action="append", default=[], choices=MEASURED, help="repeatable")
    parser.add_argument("--connections", type=_counts, metavar="N,N", help="default 1,32,256")
    parser.add_argument("--beside", metavar="DIR", help="measure the gateway of another source tree too, in turn")
    parser.add_argument("--profile", action="store_true", help="show where the gateway's time goes instead")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    return parser


def _positive(written: str) -> int:
    value = int(written)
    if not 1 <= value <= 60:
        raise ValueError
    return value


def _counts(written: str) -> tuple[int, ...]:
    counts = tuple(int(part) for part in written.split(","))
    if not all(1 <= count <= 1_000 for count in counts):
        raise ValueError
    return counts


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # then a proxy says that it has too few
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _version(name: str) -> str:
    """The first line in which a program names its version."""
    path = find_program(name)
    assert path is not None, "only of programs that were found"
    done = subprocess.run([path, "-v"], capture_output=True, check=False, timeout=10)
    lines = (done.stdout + done.stderr).decode(errors="replace").splitlines()
    said = next((line for line in lines if any(c.isdigit() for c in line)), name)
    return " ".join(said.removeprefix("nginx version: ").split()[:3])


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
