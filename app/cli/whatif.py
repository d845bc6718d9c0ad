"""`gpudeck whatif`: a table of settings, what each would have cost, and which to take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from app.cli.options import Settings
from app.cli.output import Column, print_blank, print_fields, print_json, print_lines, print_table
from app.cli.reports import run_program
from app.cli.session import until_now
from app.format import count, counted, money, plain, rate_per_hour, wait
from app.present.amounts import minute
from app.reporting import STUDY

REPLAY_S: Final = 1_800.0


def show_whatif(settings: Settings, slug: str, arguments: Sequence[str], *, everything: bool) -> None:
    """Raises CliError for an unknown endpoint or too little recorded traffic."""
    found = run_program(["whatif", slug, *arguments, *settings.account_argument, *until_now()], REPLAY_S, STUDY)
    if settings.json:
        print_json(found)
        return
    cold, price = found["cold_start"], found["price"]
    measured = f"measured {counted(cold['measured'], 'time')}" if cold["measured"] else "assumed"
    missed = f", {count(found['missed'])} more came too fast to be kept" if found["missed"] else ""
    span = f"{minute(found['since_ns'])} to {minute(found['until_ns'])} UTC"
    rates = f"{rate_per_hour(price['baseline_uh'])} baseline, {rate_per_hour(price['autoscale_uh'])} autoscaled"
    print_fields(
        {
            "traffic": f"{count(found['requests'])} requests, {span}, {found['load']:.2g} at a time on average{missed}",
            "cold start": f"{wait(cold['median_s'])}, {measured}",
            "prices": f"{price['gpu_type']} in {price['book']}: {rates}",
        }
    )
    print_blank()
    rows = [row for row in found["settings"] if everything or row["best"] or row["now"] or row["recommended"]]
    _print_settings(sorted(rows, key=lambda row: (row["cost_u"], row["wait_p95_s"])))
    if found["levels"]:
        print_blank()
        _print_levels(found["levels"], found["ratio"])
    print_blank()
    print_lines(plain(said) for said in (found["recommendation"], found["caution"]) if said)


def _print_settings(rows: Sequence[dict[str, Any]]) -> None:
    columns = [Column(""), Column("SETTING")]
    columns += [Column(title, right=True) for title in ("COST", "PER HOUR", "P50 WAIT", "P95", "P99", "COLD STARTS")]
    table = []
    for row in rows:
        notes = [note for note, on in (("now", row["now"]), ("take this", row["recommended"] and not row["now"])) if on]
        name = plain(row["name"]) + (f"  ({', '.join(notes)})" if notes else "")
        waits = [wait(row[key]) for key in ("wait_p50_s", "wait_p95_s", "wait_p99_s")]
        mark = "*" if row["best"] else ""
        starts = f"{row['cold_starts']:.0f}"
        table.append([mark, name, money(row["cost_u"]), rate_per_hour(row["per_hour_u"]), *waits, starts])
    print_table(columns, table)


def _print_levels(levels: Sequence[dict[str, Any]], ratio: float) -> None:
    columns = [Column("WORKER"), Column("ON", right=True), Column("AS BASELINE", right=True)]
    columns += [Column("ON DEMAND", right=True), Column("BASELINE SAVES", right=True), Column("CHEAPER AS")]
    table = [
        [
            str(level["number"]),
            f"{level['on']:.1%}",
            rate_per_hour(level["baseline_uh"]),
            rate_per_hour(level["on_demand_uh"]),
            rate_per_hour(level["saves_uh"]),
            "baseline" if level["saves_uh"] > 0 else "on demand",
        ]
        for level in levels
    ]
    print_lines([f"A worker that is on for more than {ratio:.1%} of the time is cheaper as baseline."])
    print_table(columns, table)
