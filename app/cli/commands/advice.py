"""Commands that explain and advise: why, whatif, plan."""

from __future__ import annotations

import click

from app.cli.options import Within, common, complete_slug, settings


@click.command()
@click.argument("slug", shell_complete=complete_slug)
@click.option(
    "--at", metavar="WHEN",
    help="As of then: 2026-03-01T12:00 (UTC, or with +01:00 behind it) or, counted back from now, 90m.",
)  # fmt: skip
@click.option("-n", "--last", type=click.IntRange(1, 1_000), default=20, show_default=True, metavar="N", help="Newest.")
@click.option("--replay", is_flag=True, help="Decide each one anew from its inputs, and compare.")
@common
def why(slug: str, at: str | None, last: int, replay: bool) -> None:
    """Why SLUG has the workers it has: every decision, with its numbers.

    A line is another number of workers wanted, or something that was wanted
    and not done (no GPU, the maximum, credit, a failing start). Works without
    a running orchestrator too.

    \b
    Examples:
      gpudeck why sketch
      gpudeck why sketch --at 2026-03-01T12:00 -n 3
      gpudeck why sketch --replay -o json | jq '.lines[].same'
    """
    from app.cli.why import show_why

    show_why(settings(), slug, at=at, last=last, replay=replay)


@click.command()
@click.argument("slug", shell_complete=complete_slug)
@click.option(
    "--baseline",
    metavar="N,N",
    help="Baselines to try [default: 0 to 3, that of now, what the workers' shares advise].",
)
@click.option("--maximum", metavar="N,N", help="Maxima to try [default: the one of now].")
@click.option("--idle", metavar="S,S", help="Idle timeouts to try, seconds [default: 10,60,300 and the one of now].")
@click.option(
    "--policy", metavar="NAME[:N]", multiple=True,
    help="A policy to try, such as queue_delay:2; repeatable [default: the one of now and the others].",
)  # fmt: skip
@click.option("--book", metavar="NAME", help="Under another price book.")
@click.option("--wait", type=Within(0, 3_600), metavar="S", help="The p95 wait to aim at [default: as now].")
@click.option("--cold-start", type=Within(0.1, 3_600), metavar="S", help="Instead of the measured ones.")
@click.option(
    "--requests", type=click.IntRange(20, 200_000), default=3_000, show_default=True, metavar="N",
    help="Replay the newest N.",
)  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="Show every setting tried, not the best ones alone.")
@common
def whatif(
    slug: str,
    baseline: str | None,
    maximum: str | None,
    idle: str | None,
    policy: tuple[str, ...],
    book: str | None,
    wait: float | None,
    cold_start: float | None,
    requests: int,
    everything: bool,
) -> None:
    """The recorded traffic of SLUG under other settings.

    Replays its own requests with its own cold starts through the policies
    themselves, from its creation (or the first of the requests that are
    replayed) until now. A * marks what nothing else tried beats in both cost
    and p95 wait.
    Works without a running orchestrator too.

    \b
    Examples:
      gpudeck whatif sketch
      gpudeck whatif sketch --baseline 0,1,2 --policy auto --wait 2
      gpudeck whatif sketch --book my-prices --all
    """
    from app.cli.whatif import show_whatif

    lists = {"--baseline": baseline, "--maximum": maximum, "--idle": idle, "--book": book}
    numbers = {"--wait": wait, "--cold-start": cold_start, "--requests": requests}
    arguments = [f"{name}={value}" for name, value in (lists | numbers).items() if value is not None]
    arguments += [f"--policy={one}" for one in policy]
    show_whatif(settings(), slug, arguments, everything=everything)


@click.command()
@click.option("--rpm", type=float, metavar="N", help="Requests per minute that are expected.")
@click.option("--peak", type=float, metavar="N", help="Requests per minute at the peak [default: as expected].")
@click.option("--latency", type=float, metavar="S", help="Mean time a worker needs for one, seconds.")
@click.option("--cv", type=float, help="Spread of that time: deviation over mean [default: 1, or as measured].")
@click.option("--slots", type=int, metavar="N", help="Requests a worker takes at a time [default: 1].")
@click.option("--gpu", metavar="TYPE", help="Priced as this GPU type [default: L40].")
@click.option("--wait", type=Within(0, 3_600), metavar="S", help="p95 wait to stay below [default: --latency].")
@click.option("--slug", shell_complete=complete_slug, help="Take what is not given from this endpoint's own traffic.")
@click.option("--book", metavar="NAME", help="Under another price book.")
@common
def plan(
    rpm: float | None,
    peak: float | None,
    latency: float | None,
    cv: float | None,
    slots: int | None,
    gpu: str | None,
    wait: float | None,
    slug: str | None,
    book: str | None,
) -> None:
    """How many workers some traffic needs, and what they cost.

    By the mean (a worker does 60 / latency requests a minute), and by how long
    requests then wait in the queue.

    \b
    Examples:
      gpudeck plan --rpm 20 --peak 100 --latency 6
      gpudeck plan --slug sketch --peak 300 --wait 1
    """
    from app.cli.plan import show_plan

    given = {
        "--rpm": rpm, "--peak": peak, "--latency": latency, "--cv": cv, "--slots": slots, "--gpu": gpu,
        "--wait": wait, "--slug": slug, "--book": book,
    }  # fmt: skip
    arguments = [f"{name}={value}" for name, value in given.items() if value is not None]
    show_plan(settings(), arguments, recorded=slug is not None)
