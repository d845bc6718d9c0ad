"""`gpudeck endpoint`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from app.cli.options import WholeOrDefault, Within, common, complete_slug, settings
from orchestrator.contract.presets import PRESETS

Callback = TypeVar("Callback", bound=Callable[..., Any])

FIELDS: Final = (
    click.option("--workers", metavar="B-M", help="Baseline and maximum in one, as 1-2."),
    click.option("--baseline", type=int, help="Workers always on."),
    click.option("--max", "maximum", type=int, help="Workers in all, baseline included."),
    click.option("--preset", type=click.Choice([p.name for p in PRESETS]), help="A named setup."),
    click.option("--idle-timeout", "idle_timeout_s", type=int, help="Seconds until an idle extra worker stops."),
    click.option("--execution-timeout", "execution_timeout_s", type=int, help="Seconds a request may run."),
    click.option("--queue-timeout", "queue_timeout_s", type=int, help="Seconds a request may wait for a worker."),
    click.option("--queue-limit", type=int, help="Requests that may wait."),
    click.option(
        "--policy",
        metavar="NAME[:VALUE]",
        help="auto[:10] or queue_delay[:4] (s), request_count[:4], concurrency[:0.7].",
    ),
    click.option(
        "--concurrency", type=WholeOrDefault(), help="Requests a worker takes at a time; default: as its model says."
    ),
    click.option("--public/--private", default=None, help="Who may call: any valid key, or the owner's only."),
    click.option(
        "--env",
        multiple=True,
        metavar="K[=V]",
        help="Environment of the workers; may be repeated. Without =V the value is taken from yours, "
        "which keeps a secret out of the list of processes.",
    ),
)


def fields(command: Callback) -> Callback:
    """Add the options that `create` and `update` share."""
    for option in reversed(FIELDS):
        command = option(command)
    return command


WAIT_S: Final = click.option(
    "--wait-timeout", type=Within(0, 86_400), metavar="S", default=900.0, show_default=True,
    help="Seconds that --wait waits.",
)  # fmt: skip


@click.group()
@common
def endpoint() -> None:
    """Create, change and list endpoints.

    \b
    Examples:
      gpudeck endpoint create sketch --model sketch --gpu L40 --workers 1-2
      gpudeck endpoint ls
      gpudeck endpoint update sketch --max 4
    """


@endpoint.command("create")
@click.argument("slug")
@click.option("--model", required=True, help="Model of the catalogue (`gpudeck models`).")
@click.option("--gpu", "gpu_type", required=True, help="GPU type (`gpudeck gpus`).")
@fields
@click.option("--dry-run", is_flag=True, help="Print price and admission, create nothing.")
@click.option("--wait", is_flag=True, help="Return when the baseline is ready.")
@WAIT_S
@common
def create(dry_run: bool, wait: bool, wait_timeout: float, **given: Any) -> None:
    """Create the endpoint SLUG; its baseline workers start at once.

    The worst case per hour is shown first; on a terminal you are asked.

    \b
    Presets:
      start 1-2   dev 0-1   serverless 0-5   production 2-5

    \b
    Examples:
      gpudeck endpoint create sketch --model sketch --gpu L40 --preset start
      gpudeck endpoint create sketch --model sketch --gpu L40 \\
          --workers 2-5 --policy request_count:4 --wait --yes
      gpudeck endpoint create big --model sketch --gpu H100 \\
          --workers 1-4 --dry-run
    """
    from app.cli.endpoints import create_endpoint

    create_endpoint(settings(), given, dry_run=dry_run, wait=wait, wait_s=wait_timeout)


@endpoint.command("update")
@click.argument("slug", shell_complete=complete_slug)
@click.option("--model", help="Another model.")
@click.option("--gpu", "gpu_type", help="Another GPU type.")
@fields
@common
def update(slug: str, **given: Any) -> None:
    """Change fields of SLUG; what is not given stays.

    New workers are ready before old ones drain; no request is lost.

    \b
    Examples:
      gpudeck endpoint update sketch --workers 2-5
      gpudeck endpoint update sketch --idle-timeout 30
    """
    from app.cli.endpoints import update_endpoint

    update_endpoint(settings(), slug, given)


@endpoint.command("enable")
@click.argument("slug", shell_complete=complete_slug)
@click.option("--wait", is_flag=True, help="Return when the baseline is ready.")
@WAIT_S
@common
def enable(slug: str, wait: bool, wait_timeout: float) -> None:
    """Start a disabled, suspended or failed endpoint.

    \b
    Example:
      gpudeck endpoint enable sketch --wait
    """
    from app.cli.endpoints import enable_endpoint

    enable_endpoint(settings(), slug, wait=wait, wait_s=wait_timeout)


@endpoint.command("disable")
@click.argument("slug", shell_complete=complete_slug)
@common
def disable(slug: str) -> None:
    """Drain SLUG and stop its workers; it stays listed.

    \b
    Example:
      gpudeck endpoint disable sketch
    """
    from app.cli.endpoints import disable_endpoint

    disable_endpoint(settings(), slug)


@endpoint.command("rm")
@click.argument("slug", shell_complete=complete_slug)
@common
def rm(slug: str) -> None:
    """Drain SLUG, stop its workers and forget it; its bill stays.

    \b
    Example:
      gpudeck endpoint rm sketch --yes
    """
    from app.cli.endpoints import delete_endpoint

    delete_endpoint(settings(), slug)


@endpoint.command("ls")
@common
def ls() -> None:
    """All endpoints.

    \b
    Example:
      gpudeck endpoint ls -o json
    """
    from app.cli.listing import show_endpoints

    show_endpoints(settings())


@endpoint.command("show")
@click.argument("slug", shell_complete=complete_slug)
@common
def show(slug: str) -> None:
    """Everything about SLUG.

    \b
    Example:
      gpudeck endpoint show sketch
    """
    from app.cli.listing import show_endpoint

    show_endpoint(settings(), slug)
