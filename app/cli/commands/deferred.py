"""`gpudeck requests`: asynchronous calls."""

from __future__ import annotations

import click

from app.cli.options import common, complete_slug, settings

STATES = ("queued", "processing", "completed", "failed", "cancelled")


class _ListByDefault(click.Group):
    """`gpudeck requests` and `gpudeck requests SLUG` list; an endpoint named like a verb is listed by `ls SLUG`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        help_wanted = bool(args) and args[0] in ctx.help_option_names
        if not help_wanted and (not args or args[0] not in self.commands):
            args = ["ls", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_ListByDefault)
@common
def requests() -> None:
    """Asynchronous calls (POST /v2/SLUG, `gpudeck call SLUG --async`).

    Results are kept for an hour after the end of their call.

    \b
    Examples:
      gpudeck requests                  the newest of all endpoints
      gpudeck requests sketch           of one endpoint
      gpudeck requests show ID
      gpudeck requests result ID --out cat.png
      gpudeck requests cancel ID
    """


@requests.command("ls")
@click.argument("slug", required=False, shell_complete=complete_slug)
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only these; may be repeated.")
@click.option("-n", "--limit", type=click.IntRange(1, 1_000), default=20, show_default=True, help="How many at most.")
@common
def requests_ls(slug: str | None, states: tuple[str, ...], limit: int) -> None:
    """The newest calls, of all endpoints or of SLUG.

    \b
    Examples:
      gpudeck requests ls --state queued --state processing
      gpudeck requests ls sketch -n 100
    """
    from app.cli.deferred import list_requests

    list_requests(settings(), slug, states, limit)


@requests.command("show")
@click.argument("request_id", metavar="ID")
@common
def requests_show(request_id: str) -> None:
    """Everything about the call ID but its result.

    \b
    Example:
      gpudeck requests show 3f0c8d5e9a7b4c21a0b1c2d3e4f5a6b7
    """
    from app.cli.deferred import show_request

    show_request(settings(), request_id)


@requests.command("result")
@click.argument("request_id", metavar="ID")
@click.option("--out", metavar="FILE", type=click.Path(dir_okay=False, writable=True),
              help="Write it to FILE instead of stdout.")  # fmt: skip
@click.option("--key", envvar="GPUDECK_API_KEY", show_envvar=True,
              help="API key; without one, a key that lives for a minute is made.")  # fmt: skip
@common
def requests_result(request_id: str, out: str | None, key: str | None) -> None:
    """What the worker replied to the call ID.

    \b
    Example:
      gpudeck requests result 3f0c8d5e9a7b4c21a0b1c2d3e4f5a6b7 --out cat.png
    """
    from app.cli.deferred import fetch_result

    fetch_result(settings(), request_id, out, key)


@requests.command("cancel", short_help="End the call ID, waiting or running.")
@click.argument("request_id", metavar="ID")
@common
def requests_cancel(request_id: str) -> None:
    """End the call ID: one that waits at once, one that runs by closing it.

    \b
    Example:
      gpudeck requests cancel 3f0c8d5e9a7b4c21a0b1c2d3e4f5a6b7
    """
    from app.cli.deferred import cancel_request

    cancel_request(settings(), request_id)


@requests.command("secret", short_help="Make the secret that signs webhooks.")
@common
def requests_secret() -> None:
    """Make the secret that signs the account's webhooks; print it, this once.

    Receivers verify webhook-signature with it, as Standard Webhooks says. One
    that was made before stays valid beside it for a day.

    \b
    Examples:
      gpudeck requests secret > hook.secret
      gpudeck --account research requests secret
    """
    from app.cli.deferred import make_secret

    make_secret(settings())
