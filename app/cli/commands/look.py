"""Commands that only look."""

from __future__ import annotations

import click

from app.cli.options import common, complete_slug, settings


@click.command()
@common
def status() -> None:
    """Engine, GPUs, endpoints and money at a glance.

    With -o json it prints the whole state, every amount in micro-dollars.

    \b
    Examples:
      gpudeck status
      gpudeck status -o json | jq '.accounts[0].balance_u'
    """
    from app.cli.listing import show_status

    show_status(settings())


@click.command()
@click.argument("slug", required=False, shell_complete=complete_slug)
@common
def ps(slug: str | None) -> None:
    """The workers of every endpoint, or of SLUG alone.

    \b
    Examples:
      gpudeck ps
      gpudeck ps sketch -o json
    """
    from app.cli.listing import show_workers

    show_workers(settings(), slug)


@click.command()
@click.argument("slug", shell_complete=complete_slug)
@click.argument("worker", required=False)
@click.option("-f", "--follow", is_flag=True,
              help="Keep printing new lines until interrupted; with -o json one object a line.")  # fmt: skip
@click.option("--tail", type=int, default=100, show_default=True, metavar="N", help="Newest lines of each worker.")
@common
def logs(slug: str, worker: str | None, follow: bool, tail: int) -> None:
    """Log lines of the workers of SLUG, or of one WORKER (id or label).

    \b
    Examples:
      gpudeck logs sketch
      gpudeck logs sketch w2 -f --tail 20
    """
    from app.cli.logs import show_logs

    show_logs(settings(), slug, worker, follow=follow, tail=tail)


@click.command()
@common
def models() -> None:
    """The models an endpoint can serve, and on which engine.

    \b
    Example:
      gpudeck models
    """
    from app.cli.listing import show_models

    show_models(settings())


@click.command()
@common
def gpus() -> None:
    """The GPUs of this host, their load and who uses them.

    \b
    Example:
      gpudeck gpus -o json
    """
    from app.cli.listing import show_gpus

    show_gpus(settings())
