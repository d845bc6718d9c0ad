"""`gpudeck call`."""

from __future__ import annotations

from typing import Any

import click

from app.cli.options import common, complete_slug, settings


@click.command()
@click.argument("slug", shell_complete=complete_slug)
@click.option("--image", metavar="FILE", type=click.Path(dir_okay=False), help="Send a picture.")
@click.option("--json", "json_text", metavar="TEXT|@FILE", help="Send JSON, given here or in a file.")
@click.option("--data", metavar="FILE", type=click.Path(dir_okay=False, allow_dash=True),
              help="Send a file as it is; - is stdin.")  # fmt: skip
@click.option("--out", metavar="FILE", type=click.Path(dir_okay=False, writable=True),
              help="Write the reply to FILE instead of stdout.")  # fmt: skip
@click.option("--path", default="", metavar="/REST", help="Path on the worker instead of the model's own.")
@click.option("-q", "--query", multiple=True, metavar="K=V", help="Query parameter; may be repeated.")
@click.option("-H", "--header", multiple=True, metavar="'K: V'", help="Request header; may be repeated.")
@click.option("-X", "--method", default="POST", show_default=True, help="HTTP method.")
@click.option("--key", envvar="GPUDECK_API_KEY", show_envvar=True,
              help="API key; without one, a key that lives for a minute is made.")  # fmt: skip
@click.option("--async", "deferred", is_flag=True,
              help="Do not wait: print the id of the request instead.")  # fmt: skip
@click.option("--webhook", metavar="URL", help="With --async: whom to tell when it is over.")
@click.option("--attempts", type=click.IntRange(1, 10), metavar="N",
              help="With --async: most attempts, should workers be lost; 3 without it.")  # fmt: skip
@click.option("--timeout", type=float, default=1_200.0, show_default=True, help="Seconds for the whole reply.")
@common
def call(**given: Any) -> None:
    """Send one request to SLUG and print its reply.

    The reply goes to stdout (or --out), as it arrives; who answered, the time
    in the queue and the timing go to stderr.

    \b
    Examples:
      gpudeck call sketch --image cat.jpg --out cat.png
      gpudeck call sketch --image cat.jpg -q operation=stylise > cat.png
      gpudeck call echo --json '{"tokens": 5}'
      gpudeck call echo --path /health -X GET
      gpudeck call sketch --image cat.jpg --async
    """
    from app.cli.requests import Call, send_request

    deferred, webhook, attempts = given.pop("deferred"), given.pop("webhook"), given.pop("attempts")
    if not deferred:
        if webhook or attempts:
            raise click.UsageError("--webhook and --attempts go with --async")
        send_request(settings(), Call(**given))
        return
    from app.cli.deferred import submit_request

    submit_request(settings(), Call(**given), webhook, attempts)
