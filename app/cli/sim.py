"""`gpudeck sim`: the simulator as a child process, since the front end may not see the core, and its result as text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click
from pydantic import ValidationError

from app.cli.endpoints import SETUP, parse_policy
from app.cli.exits import CliError, Exit
from app.cli.options import Settings
from app.cli.output import Column, print_blank, print_fields, print_json, print_table
from app.cli.problems import sentences
from app.cli.reports import run_program
from app.format import count, duration, money, plain, wait
from app.present.chart import EIGHTHS
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.endpoint import POLICIES, EndpointSpec, ScalingPolicy, notation

SIMULATOR: Final = "orchestrator.simulator"
SIMULATE_S: Final = 24 * 3_600.0
USUAL: Final = {
    "slug": "sim", "model": "echo", "gpu_type": "L40", "baseline": 1, "maximum": 5, "concurrency": 1,
}  # fmt: skip
"""What is simulated has no weights: any model's lifecycle is the same."""
FIELDS: Final = ("idle_timeout_s", "queue_timeout_s")
PASSED_ON: Final = (
    "slug",
    "requests",
    "shape",
    "peak_rpm",
    "span",
    "service",
    "book",
    "cold",
    "sigma",
    "faults",
    "seed",
)
COLUMNS: Final = (
    Column("POLICY"), Column("COST", right=True), Column("BASELINE", right=True), Column("AUTOSCALED", right=True),
    Column("P50", right=True), Column("P95", right=True), Column("P99", right=True), Column("COLD STARTS", right=True),
    Column("SERVED", right=True),
)  # fmt: skip


def show_simulation(settings: Settings, trace: str | None, policies: Sequence[str], given: Mapping[str, Any]) -> None:
    """Raises CliError: 2 for a mistake in the options, 3 for an unknown slug, 1 for an invariant that did not hold."""
    recorded = given["slug"] is not None
    names = list(policies) or ([""] if recorded else list(POLICIES))
    arguments = [f"--spec={json.dumps(_spec(name, given, whole=not recorded))}" for name in names]
    if trace is not None:
        arguments.append(f"--trace={trace}")
    for name in PASSED_ON:
        if given[name] is not None:
            arguments.append(f"--{name.replace('_', '-')}={given[name]}")
    document = run_program([*arguments, *settings.account_argument], SIMULATE_S, SIMULATOR, fed=trace == "-")
    if settings.json:
        print_json(document)
    else:
        _print(document, [name or notation(_policy_of(run)) for name, run in zip(names, document["runs"], strict=True)])


def _spec(policy: str, given: Mapping[str, Any], *, whole: bool) -> dict[str, Any]:
    """The fields of the spec that are given, as data; `whole`: all that are needed, checked. Raises CliError."""
    fields: dict[str, Any] = {name: given[name] for name in FIELDS if given[name] is not None}
    if given["slots"] is not None:
        fields["concurrency"] = given["slots"]
    if given["gpu"] is not None:
        fields["gpu_type"] = given["gpu"]
    try:
        if policy:
            fields["policy"] = parse_policy(policy).model_dump(mode="json")
        if given["setup"] is not None:
            fields["baseline"], fields["maximum"] = _setup(given["setup"])
        spec = EndpointSpec.model_validate(USUAL | fields)  # names what is wrong in the words of the command line
    except ValidationError as error:
        raise CliError("; ".join(sentences(error)), Exit.USAGE) from error
    return spec.model_dump(mode="json") if whole else fields


def _setup(text: str) -> tuple[int, int]:
    match = SETUP.fullmatch(text)
    if match is None:
        raise CliError(f"--setup: '{text}' is no setup; write baseline-maximum, such as 1-5", Exit.USAGE)
    return int(match[1]), int(match[2])


def _policy_of(run: Mapping[str, Any]) -> ScalingPolicy:
    return EndpointSpec.model_validate(run["spec"]).policy


def _print(document: Mapping[str, Any], names: Sequence[str]) -> None:
    traffic, runs = document["traffic"], document["runs"]
    first = runs[0]["spec"]
    pace = sum(run["requests"] for run in runs) / max(sum(run["wall_s"] for run in runs), 1e-9)
    fields = {
        "traffic": f"{plain(traffic['name'])}: {_requests(traffic['requests'])} in {_span(traffic['span_s'])}, "
        f"{traffic['load']:.2g} at work on average",
        "setup": f"{first['baseline']}-{first['maximum']} × {first['gpu_type']}, "
        f"cold start {document['cold_s']:.3g} s in the median",
        "seed": f"{document['seed']} ({pace:,.0f} simulated requests per second)",
    }
    if traffic["told"]:
        fields["read"] = plain("; ".join(traffic["told"]))
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
        *(wait(wait_s[key]) for key in ("p50", "p95", "p99")),
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


def _requests(number: int) -> str:
    return "1 request" if number == 1 else f"{count(number)} requests"


def _span(seconds: float) -> str:
    return duration(int(seconds * SECOND_NS))
