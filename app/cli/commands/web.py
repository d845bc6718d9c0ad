"""`gpudeck web`."""

from __future__ import annotations

import click

from app.cli.options import common, settings


@click.command()
@click.option("--port", type=click.IntRange(0, 65_535), default=8485, show_default=True,
              help="0 lets the system choose.")  # fmt: skip
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--remote", is_flag=True, help="Allow a --host that others can reach. Plain HTTP.")
@click.option("--sessions", type=click.IntRange(1, 64), default=4, show_default=True,
              help="Most pages at a time; each is a process.")  # fmt: skip
@click.option("--read-only", "readonly", is_flag=True, help="Look, but change nothing.")
@common
def web(port: int, host: str, remote: bool, sessions: int, readonly: bool) -> None:
    """The dashboard in a browser, by an address with a secret in it.

    The address is good until the command ends. Needs the extra
    gpudeck[web]. From another machine, tunnel it: ssh -L 8485:127.0.0.1:8485.

    \b
    Examples:
      gpudeck web
      gpudeck web --read-only --port 0 -o json
    """
    from app.cli.web import open_web

    open_web(settings(), host=host, port=port, remote=remote, sessions=sessions, readonly=readonly)
