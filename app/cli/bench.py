"""`gpudeck bench`: measurements that run beside others' programs on this machine. Each is a child process, because it
needs the insides of the orchestrator, which the front end may not import."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import click

from app.cli.exits import CliError, Exit
from app.cli.options import Settings, common, settings


@click.group()
@common
def bench() -> None:
    """Measure this machine: figures to compare, not settings to change.

    \b
    Examples:
      gpudeck bench gateway
      gpudeck bench gateway --quick -o json
      gpudeck bench tui
    """


@bench.command("gateway")
@click.option("--quick", is_flag=True, help="A few seconds instead of ten minutes; shows that it works, no more.")
@click.option("--rounds", type=click.IntRange(1, 99), help="Rounds per figure; the median is shown [default: 5].")
@click.option("--seconds", type=click.IntRange(1, 60), help="Length of one measurement [default: 2].")
@click.option(
    "--only", metavar="NAME", multiple=True, help="get, varied, post, reply, sse, latency or memory; repeatable."
)
@click.option("--connections", metavar="N,N", help="Connections of the closed-loop load [default: 1,32,256].")
@click.option("--beside", metavar="DIR", help="Measure the gateway of another source tree too, in turn.")
@click.option("--profile", is_flag=True, help="Show where the gateway's time goes instead of comparing it.")
@common
def gateway(
    quick: bool,
    rounds: int | None,
    seconds: int | None,
    only: tuple[str, ...],
    connections: str | None,
    beside: str | None,
    profile: bool,
) -> None:
    """The gateway beside nginx and HAProxy, each on one core.

    Needs wrk and nginx (`apt-get install wrk nginx-light haproxy`). A program
    that is missing is named, and its column left out.

    \b
    Examples:
      gpudeck bench gateway
      gpudeck bench gateway --only get --connections 32 --rounds 9
      gpudeck bench gateway --profile
    """
    arguments = [f"--only={name}" for name in only]
    for name, value in (("rounds", rounds), ("seconds", seconds), ("connections", connections), ("beside", beside)):
        if value is not None:
            arguments.append(f"--{name}={value}")
    arguments += [flag for flag, on in (("--quick", quick), ("--profile", profile)) if on]
    run_measurement(settings(), "gateway", arguments)


@bench.command("scaling")
@click.option("--traces", metavar="DIR", required=True, help="Folder of .csv(.gz) files: arrival_s,service_s.")
@click.option("--setup", metavar="TRACE=B-M", multiple=True, help="How a trace is run, such as llm=2-10x8; repeatable.")
@click.option("--cold", metavar="S,S", help="Medians of cold starts [default: 5,30,120].")
@click.option("--seeds", type=click.IntRange(1, 100), help="Lucks of cold starts per figure [default: 3].")
@click.option("--v", "wait_prices", metavar="V,V", help="Wait prices, worker-seconds a second [default: 0.2,1,5].")
@click.option("--only", metavar="NAME", multiple=True, help="Traces whose name begins so; repeatable.")
@click.option("--policy", metavar="NAME", multiple=True, help="These policies only; repeatable.")
@click.option("--quick", is_flag=True, help="Defaults only: no fixed settings, hence no regret.")
@click.option("--jobs", type=click.IntRange(1, 256), help="Processes [default: all cores].")
@click.option("--no-cache", is_flag=True, help="Measure everything anew and keep nothing.")
@common
def scaling(
    traces: str,
    setup: tuple[str, ...],
    cold: str | None,
    seeds: int | None,
    wait_prices: str | None,
    only: tuple[str, ...],
    policy: tuple[str, ...],
    quick: bool,
    jobs: int | None,
    no_cache: bool,
) -> None:
    """Our scaling policies beside others, on your traffic.

    Cost, waits and cold starts of each; what the best fixed settings would
    have been with hindsight; and what no policy can beat.

    A full run takes two to three minutes of one core per 10,000 requests, setup,
    median and seed. The first lines say how long yours takes here, by a short
    trial; the head of the report says what it took per 10,000. What is measured
    is kept, so a second run takes seconds. --quick takes a fifth of the time.

    \b
    Examples:
      gpudeck bench scaling --traces ./traces --quick
      gpudeck bench scaling --traces ./traces --cold 30 --only img_ -o json
      gpudeck bench scaling --traces ./traces --setup mine=0-4x2
    """
    arguments = [f"--traces={traces}"]
    for name, values in (("setup", setup), ("only", only), ("policy", policy)):
        arguments += [f"--{name}={value}" for value in values]
    for name, value in (("cold", cold), ("seeds", seeds), ("v", wait_prices), ("jobs", jobs)):
        if value is not None:
            arguments.append(f"--{name}={value}")
    arguments += [flag for flag, on in (("--quick", quick), ("--no-cache", no_cache)) if on]
    run_measurement(settings(), "scaling", arguments)


@bench.command("tui")
@click.option("--endpoints", type=click.IntRange(7, 99), default=50, show_default=True, help="Of the made-up deck.")
@click.option("--workers", type=click.IntRange(7, 990), default=500, show_default=True, help="All of them together.")
@click.option("--seconds", type=click.IntRange(1, 600), default=10, show_default=True, help="Of rest, for the CPU.")
@click.option("--keys", type=click.IntRange(1, 10_000), default=60, show_default=True, help="Keys pressed.")
@common
def tui(endpoints: int, workers: int, seconds: int, keys: int) -> None:
    """The dashboard itself: first picture, key to picture, CPU.

    It runs on a pseudo-terminal, over a made-up deck that changes four times a
    second. A key counts as answered when the terminal has its effect.

    \b
    Examples:
      gpudeck bench tui
      gpudeck bench tui --endpoints 10 --workers 20 -o json
    """
    from app.bench.report import show_tui
    from app.bench.tui import Wanted

    show_tui(settings(), Wanted(endpoints, workers, seconds=seconds, keys=keys))


def run_measurement(chosen: Settings, name: str, arguments: Sequence[str]) -> None:
    """Run `python -m orchestrator.bench NAME` to its end: its stdout becomes ours line by line, its talk goes to our
    stderr. `-o json` is passed on. Raises CliError with the child's exit code."""
    command = [sys.executable, "-m", "orchestrator.bench", name, *arguments]
    if chosen.json:
        command += ["-o", "json"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None, "stdout is a pipe"
        for line in child.stdout:
            click.echo(line, nl=False)
    if child.returncode:
        known = {code.value for code in Exit}
        code = Exit(child.returncode) if child.returncode in known else Exit.FAILURE
        raise CliError(f"the measurement ended with status {child.returncode}", code)
