"""`gpudeck sim`: the simulator as a child process, since the front end may not see the core, and its result as text."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click
from pydantic import ValidationError

from app.cli.endpoints import POLICIES, SETUP, parse_policy
from app.cli.exits import CliError, Exit
from app.cli.options import Settings
from app.cli.output import Column, print_blank, print_fields, print_json, print_table
from app.cli.problems import sentences
from app.format import count, duration, money
from app.present.amounts import SECOND_NS
from orchestrator.contract.endpoint import EndpointSpec

SLUG: Final = "sim"
MODEL: Final = "echo"
"""What is simulated has no weights: any model's lifecycle is the same."""
PASSED_ON: Final = ("shape", "peak_rpm", "span", "service", "book", "cold", "sigma", "faults", "seed")
COLUMNS: Final = (
    Column("POLICY"), Column("COST", right=True), Column("BASELINE", right=True), Column("AUTOSCALED", right=True),
    Column("P50", right=True), Column("P95", right=True), Column("P99", right=True), Column("COLD STARTS", right=True),
    Column("SERVED", right=True),
)  # fmt: skip
EIGHTHS: Final = " ▁▂▃▄▅▆▇█"


def show_simulation(settings: Settings, trace: str | None, policies: Sequence[str], given: Mapping[str, Any]) -> None:
    """Raises CliError: 2 for a mistake in the options, 1 for an invariant that did not hold."""
    specs = [_spec(name, given) for name in policies or POLICIES]
    arguments = [f"--spec={spec.model_dump_json()}" for spec in specs]
    if trace is not None:
        arguments.append(f"--trace={trace}")
    for name in PASSED_ON:
        if given[name] is not None:
            arguments.append(f"--{name.replace('_', '-')}={given[name]}")
    document = _simulate(arguments)
    if settings.json:
        print_json(document)
    else:
        _print(document, list(policies or POLICIES))


def _spec(policy: str, given: Mapping[str, Any]) -> EndpointSpec:
    match = SETUP.fullmatch(given["setup"])
    if match is None:
        raise CliError(f"--setup: '{given['setup']}' is no setup; write baseline-maximum, such as 1-5", Exit.USAGE)
    optional = {name: given[name] for name in ("idle_timeout_s", "queue_timeout_s") if given[name] is not None}
    try:
        return EndpointSpec(
            slug=SLUG, model=MODEL, gpu_type=given["gpu"], baseline=int(match[1]), maximum=int(match[2]),
            concurrency=given["slots"], policy=parse_policy(policy), **optional,
        )  # fmt: skip
    except ValidationError as error:
        raise CliError("; ".join(sentences(error)), Exit.USAGE) from error


def _simulate(arguments: Sequence[str]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.simulator", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"the simulator ended with status {done.returncode}"]
        code = Exit.USAGE if done.returncode == Exit.USAGE else Exit.FAILURE
        # A mistake is one sentence; what an invariant says has its command on a line of its own.
        told = len(lines) > 1 and lines[-1].startswith("repeat: ")
        raise CliError(lines[-2] if told else lines[-1], code, lines[-1] if told else "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _print(document: Mapping[str, Any], names: Sequence[str]) -> None:
    traffic, runs = document["traffic"], document["runs"]
    first = runs[0]["spec"]
    pace = sum(run["requests"] for run in runs) / max(sum(run["wall_s"] for run in runs), 1e-9)
    fields = {
        "traffic": f"{traffic['name']}: {count(traffic['requests'])} requests in {_span(traffic['span_s'])}, "
        f"{traffic['load']:.2f} at work on average",
        "setup": f"{first['baseline']}-{first['maximum']} × {first['gpu_type']}, cold start {document['cold_s']:g} s",
        "seed": f"{document['seed']} ({pace:,.0f} simulated requests per second)",
    }
    if document["faults"]:
        fields["faults"] = ", ".join(document["faults"])
    print_fields(fields)
    print_blank()
    print_table(COLUMNS, [_row(name, run) for name, run in zip(names, runs, strict=True)])
    for name, run in zip(names, runs, strict=True):
        print_blank()
        _print_run(name, run)


def _row(name: str, run: Mapping[str, Any]) -> list[str]:
    wait_s = run["wait_s"]
    served = run["outcomes"].get("served", 0)
    return [
        name, money(run["cost_u"]), money(run["baseline_u"]), money(run["autoscaled_u"]),
        *(f"{wait_s[key]:.1f} s" for key in ("p50", "p95", "p99")),
        str(run["cold_starts"]), f"{served / max(1, run['requests']):.1%}",
    ]  # fmt: skip


def _print_run(name: str, run: Mapping[str, Any]) -> None:
    click.echo(f"workers, {name}")
    for line in worker_chart(run["chart"], run["most_workers"]):
        click.echo(line)
    click.echo(f"    0{_span(run['span_s']):>{len(run['chart']) - 1}}")
    lost = {code: number for code, number in run["outcomes"].items() if code != "served"}
    if lost:
        click.echo("not served: " + ", ".join(f"{number} {code}" for code, number in lost.items()))
    for line in run["told"]:
        click.echo(f"  {line}")


def worker_chart(levels: Sequence[float], most: int) -> list[str]:
    """Live workers over time as an area of eighths, one row a worker."""
    rows = []
    for worker in range(max(1, most), 0, -1):
        filled = [min(max(level - (worker - 1), 0.0), 1.0) for level in levels]
        rows.append(f"{worker:>2} ┤{''.join(EIGHTHS[round(8 * part)] for part in filled)}".rstrip())
    return rows


def _span(seconds: float) -> str:
    return duration(int(seconds * SECOND_NS))
