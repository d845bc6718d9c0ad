"""`gpudeck bench tui`: the figures for people, with what was aimed at."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from app.bench.deck import PER_SECOND
from app.bench.tui import Measured, Wanted, measure
from app.cli.exits import CliError, Exit
from app.cli.options import Settings
from app.cli.output import print_fields, print_json, say
from app.cli.session import complete

KEY_P95_GOAL_MS: Final = 50.0
CPU_GOAL: Final = 0.25


def show_tui(settings: Settings, wanted: Wanted) -> None:
    """Measure and print. Raises CliError when the dashboard shows nothing for a minute."""
    say(f"{wanted.endpoints} endpoints, {wanted.workers} workers, {wanted.columns}x{wanted.rows} …")
    try:
        found = complete(lambda: measure(wanted))
    except TimeoutError as error:
        raise CliError("the dashboard did not show what it should within a minute", Exit.TIMEOUT) from error
    if settings.json:
        print_json({"wanted": asdict(wanted), "measured": asdict(found)})
    else:
        print_fields(fields(found))


def fields(found: Measured) -> dict[str, str]:
    """The figures with their units."""
    return {
        "first picture": f"{found.first_paint_ms:,.0f} ms",
        "key to picture": f"p50 {found.key_p50_ms:.1f} ms, p95 {found.key_p95_ms:.1f} ms, "
        f"longest {found.key_max_ms:.1f} ms (goal: p95 {KEY_P95_GOAL_MS:.0f} ms)",
        "CPU": f"{found.cpu_share:.1%} of a core at rest, {found.cpu_share_keys:.1%} with keys (goal: {CPU_GOAL:.0%})",
        "pictures": f"{found.frames_per_s:.1f} a second (of {PER_SECOND} that were offered)",
        "to the terminal": f"{found.bytes_per_s / 1_024:,.1f} KiB/s",
        "memory": f"{found.memory_mib:,.0f} MiB",
    }
