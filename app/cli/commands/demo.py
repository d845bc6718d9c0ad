"""`gpudeck demo`."""

from __future__ import annotations

import click

from app.cli.options import Within, common, settings


@click.command()
@click.option("--headless", is_flag=True, help="Without the dashboard; the report goes to stdout.")
@click.option("--engine", type=click.Choice(["auto", "docker", "process"]), default="process", show_default=True,
              help="Where workers run: Docker containers or local processes.")  # fmt: skip
@click.option("--gpus", metavar="TYPE:N", default="L40:2", show_default=True,
              help="Declared (simulated) GPUs; `probe` uses the real ones.")  # fmt: skip
@click.option("--keep", is_flag=True, help="Keep the demo's home directory with ledger and logs.")
@click.option("--lab", is_flag=True, help="A simulated day in time-lapse instead: nothing in it is real.")
@click.option("--speed", type=click.IntRange(1, 600), default=60, show_default=True,
              help="Of a lab: how many times as fast as time; < and > change it.")  # fmt: skip
@click.option("--timeout", type=Within(0, 86_400), metavar="S", default=180.0, show_default=True,
              help="Seconds for the whole tour.")  # fmt: skip
@common
def demo(headless: bool, engine: str, gpus: str, keep: bool, lab: bool, speed: int, timeout: float) -> None:
    """A tour with real requests, on a private orchestrator.

    It creates an endpoint with one worker, sends more pictures than that one
    can draw in time, shows the second worker start, take its share and stop
    again, and ends with the bill. On a terminal it runs in the dashboard.
    Your own endpoints and credit are not touched; nothing is left running.

    Exit code 0 only if every request succeeded, the workers went 1, 2, 1, and
    the ledger adds up.

    With --lab the dashboard shows a simulated host whose clock runs up to 600
    times as fast: a day of scaling, the warning of low credit and the shut-off
    at $10 in two minutes. The core is the real one; workers, requests and
    money are SIMULATED, in a home that is thrown away.

    \b
    Examples:
      gpudeck demo
      gpudeck demo --headless -o json > report.json
      gpudeck demo --engine docker --keep
      gpudeck demo --lab --speed 600
    """
    if lab:
        from app.cli.lab import run_lab

        run_lab(settings(), headless=headless, speed=speed, keep=keep, timeout_s=timeout)
        return
    from app.cli.demo import run_demo

    run_demo(settings(), headless=headless, engine=engine, gpus=gpus, keep=keep, timeout_s=timeout)
