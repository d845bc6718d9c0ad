"""`gpudeck sim`."""

from __future__ import annotations

from typing import Any

import click

from app.cli.options import common, complete_slug, settings

SHAPES = ("steady", "ramp", "spike", "diurnal", "on-off")


@click.command()
@click.argument("trace", required=False, type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--slug", shell_complete=complete_slug, metavar="SLUG",
              help="The recorded traffic of this endpoint instead, and its settings where none are given.")  # fmt: skip
@click.option("--requests", type=click.IntRange(20, 200_000), metavar="N",
              help="Of a recording: the newest N [default: 3000].")  # fmt: skip
@click.option("--shape", type=click.Choice(SHAPES), help="Synthetic traffic instead of a TRACE.")
@click.option("--peak-rpm", type=float, metavar="N", help="Of a shape: requests per minute at its peak [default: 60].")
@click.option("--span", type=float, metavar="S", help="Of a shape: its length in seconds [default: 3600].")
@click.option("--service", type=float, metavar="S", help="Of a shape: mean seconds of work per request [default: 6].")
@click.option("--setup", metavar="B-M", help="Baseline and maximum [default: 1-5].")
@click.option("--policy", "policies", multiple=True, metavar="NAME[:N]",
              help="As of `endpoint create`; repeatable, to compare [default: all].")  # fmt: skip
@click.option("--slots", type=int, metavar="N", help="Requests a worker takes at a time [default: 1].")
@click.option("--idle-timeout", "idle_timeout_s", type=int, metavar="S", help="Idle timeout, seconds [default: 10].")
@click.option("--queue-timeout", "queue_timeout_s", type=int, metavar="S",
              help="Seconds a request may wait [default: 600].")  # fmt: skip
@click.option("--gpu", metavar="TYPE", help="GPU type, for the price [default: L40].")
@click.option("--book", metavar="NAME", help="Price book [default: 2025-seed; with --slug, the one in force].")
@click.option("--cold", type=float, metavar="S", help="Median seconds of a cold start [default: 30].")
@click.option("--sigma", type=float, metavar="X", help="Scatter of cold starts (of the logarithm) [default: 0.5].")
@click.option("--faults", metavar="LIST", help="`all`, or names such as death,crash=10 (a factor on how often).")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same run, to the bit.")
@common
def sim(trace: str | None, policies: tuple[str, ...], **given: Any) -> None:
    """Run traffic through the orchestrator's own core in virtual time.

    TRACE is a CSV file (gzip or not), - for stdin, whose header names arrival_s
    and service_s: seconds since the beginning (or since 1970), and seconds of
    work. Other columns and the order of rows do not matter. --slug takes what
    an endpoint has really had, with its own cold starts. Lifecycle, queue,
    routing, scaling and billing are those of the live orchestrator; workers
    and callers are simulated. Nothing is started, nothing is charged.

    Faults: lost-before, lost-after, refused, crash-loop, slow-start, silence,
    crash, death, removal, hang, gpu-lost, engine-down, clock-jump, sleep,
    disk-full. The invariants of lifecycle and ledger are checked at every
    step; one that fails is shown with the command that repeats it.

    \b
    Examples:
      gpudeck sim --shape diurnal --span 86400 --peak-rpm 20 --setup 1-5
      gpudeck sim --slug sketch --policy auto --policy queue_delay:2
      gpudeck sim traffic.csv.gz --setup 0-5 --policy auto --cold 45
      zcat traffic.csv.gz | head -n 500 | gpudeck sim - --policy auto
      gpudeck sim --shape spike --faults all --seed 7 -o json
    """
    from app.cli.sim import show_simulation

    show_simulation(settings(), trace, policies, given)
