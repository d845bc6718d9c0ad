"""`gpudeck plan`: a setup for given traffic, what it costs, and how long requests wait with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from app.cli.options import Settings
from app.cli.output import Column, print_blank, print_fields, print_json, print_lines, print_table
from app.cli.reports import run_program
from app.cli.session import until_now
from app.format import count, plain, rate_per_hour, wait
from app.reporting import STUDY

PLAN_S: Final = 60.0
NEVER_ENDS: Final = "grows"


def show_plan(settings: Settings, arguments: Sequence[str], *, recorded: bool) -> None:
    """Raises CliError for numbers that make no plan, naming the field and its limit. `recorded`: they say whose traffic
    to go by."""
    whose = [*settings.account_argument, *until_now()] if recorded else []
    found = run_program(["plan", *arguments, *whose], PLAN_S, STUDY)
    if settings.json:
        print_json(found)
        return
    demand, price, target = found["demand"], found["price"], wait(found["wait_p95_s"])
    source = f", measured on {count(demand['measured'])} requests" if demand["measured"] else ""
    print_fields(
        {
            "traffic": f"{_rate(demand['rpm'])} requests a minute, {_rate(demand['peak_rpm'])} at the peak",
            "service": f"{_service(demand['latency_s'])}, spread {demand['cv']:.2g} (deviation over mean){source}",
            "one worker": f"{_rate(demand['worker_rpm'])} requests a minute",
            "by the mean": _setup(found["by_mean"], price),
            f"p95 wait ≤ {target}": _setup(found["by_wait"], price),
        }
    )
    print_blank()
    columns = [Column("WORKERS", right=True)]
    for rpm in (demand["rpm"], demand["peak_rpm"]):
        columns += [Column(f"{_rate(rpm)} RPM: BUSY", right=True), Column("P50 WAIT", right=True)]
        columns += [Column("P95", right=True), Column("P99", right=True)]
    print_table(columns, [[str(r["workers"]), *_cells(r["expected"]), *_cells(r["peak"])] for r in found["rows"]])
    if any(row["peak"] is None for row in found["rows"]):
        print_blank()
        print_lines([f"{NEVER_ENDS}: more comes than so many workers can do, so the queue has no end."])


def _setup(setup: dict[str, Any], price: dict[str, Any]) -> str:
    always, worst = rate_per_hour(setup["baseline_uh"]), rate_per_hour(setup["worst_uh"])
    limit = "; more than 10 workers need a higher workers_max in the settings" if setup["maximum"] > 10 else ""
    most = f", {worst} at most" if setup["worst_uh"] > setup["baseline_uh"] else ""
    return f"{setup['setup']} on {plain(price['gpu_type'])}: {always} always{most}{limit}"


def _cells(wait_s: dict[str, float] | None) -> list[str]:
    if wait_s is None:
        return ["100%", NEVER_ENDS, NEVER_ENDS, NEVER_ENDS]
    return [f"{wait_s['busy']:.0%}", *(wait(wait_s[key]) for key in ("p50_s", "p95_s", "p99_s"))]


def _rate(rpm: float) -> str:
    """A rate to three digits, never in powers of ten: `0.05`, `74.7`, `1,200`."""
    return f"{rpm:,.0f}" if rpm >= 1_000 else f"{rpm:.3g}"


def _service(span_s: float) -> str:
    return f"{span_s * 1_000:.3g} ms" if span_s < 1 else f"{span_s:,.0f} s" if span_s >= 1_000 else f"{span_s:.3g} s"
