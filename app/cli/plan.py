"""`gpudeck plan`: a setup for given traffic, what it costs, and how long requests wait with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from app.cli.options import Settings
from app.cli.output import Column, print_blank, print_fields, print_json, print_table
from app.cli.reports import run_program
from app.format import plain, rate_per_hour
from app.reporting import STUDY

PLAN_S: Final = 60.0
NEVER_ENDS: Final = "grows"


def show_plan(settings: Settings, arguments: Sequence[str]) -> None:
    """Raises CliError for numbers that make no plan, naming the field and its limit."""
    found = run_program(["plan", *arguments], PLAN_S, STUDY)
    if settings.json:
        print_json(found)
        return
    demand, price = found["demand"], found["price"]
    source = f", measured on {demand['measured']} requests" if demand["measured"] else ""
    print_fields(
        {
            "traffic": f"{demand['rpm']:g} requests a minute, {demand['peak_rpm']:g} at the peak",
            "service": f"{demand['latency_s']:.3g} s, spread {demand['cv']:.2g}{source}",
            "one worker": f"{demand['worker_rpm']:.3g} requests a minute",
            "by the mean": _setup(found["by_mean"], price),
            f"p95 wait {found['wait_p95_s']:.3g} s": _setup(found["by_wait"], price),
        }
    )
    print_blank()
    columns = [Column("WORKERS", right=True)]
    for when in ("EXPECTED", "PEAK"):
        columns += [Column(f"{when}: BUSY", right=True), Column("P50 WAIT", right=True), Column("P95", right=True)]
        columns.append(Column("P99", right=True))
    print_table(columns, [[str(r["workers"]), *_cells(r["expected"]), *_cells(r["peak"])] for r in found["rows"]])


def _setup(setup: dict[str, Any], price: dict[str, Any]) -> str:
    always, worst = rate_per_hour(setup["baseline_uh"]), rate_per_hour(setup["worst_uh"])
    limit = "; more than 10 workers need a higher limits.workers_max" if setup["maximum"] > 10 else ""
    return f"{setup['setup']} on {plain(price['gpu_type'])}: {always} always, {worst} at most{limit}"


def _cells(wait: dict[str, float] | None) -> list[str]:
    if wait is None:
        return ["100%", NEVER_ENDS, NEVER_ENDS, NEVER_ENDS]
    return [f"{wait['busy']:.0%}", *(f"{wait[key]:.1f} s" for key in ("p50_s", "p95_s", "p99_s"))]
