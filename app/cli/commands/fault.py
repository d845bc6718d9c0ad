"""`gpudeck fault`."""

from __future__ import annotations

import click

from app.cli.options import common, complete_slug, settings
from orchestrator.contract.faults import FaultKind


@click.command()
@click.argument("slug", shell_complete=complete_slug)
@click.argument("kind", type=click.Choice([kind.value for kind in FaultKind]))
@click.option("--worker", metavar="W", help="Which worker, such as w2 [default: the first that is ready].")
@click.option(
    "--wait", type=click.FloatRange(0, 3_600), default=180.0, show_default=True, metavar="S",
    help="Seconds to watch the recovery; 0 does not.",
)  # fmt: skip
@common
def fault(slug: str, kind: str, worker: str | None, wait: float) -> None:
    """Break a worker of SLUG on purpose, and watch it being replaced.

    \b
    kill          SIGKILL
    hang          stopped where it stands (SIGSTOP, a paused container)
    slow-start    killed, and its successor starts 15 s late
    fail-health   works, but its health probes fail
    fill-memory   its memory limit falls below what it uses
    drop-nvml     no GPU is read for 20 s

    Refused unless the setting `faults` is on (GPUDECK_FAULTS=true); in the
    demo and in a lab it is.

    \b
    Examples:
      gpudeck fault sketch kill
      gpudeck fault sketch hang --worker w2 --wait 0
    """
    from app.cli.faults import inject_fault

    inject_fault(settings(), slug, kind, worker=worker, wait_s=wait)
