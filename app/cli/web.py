"""`gpudeck web`: listen, say where, and serve until interrupted."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys

import click

from app.cli.exits import CliError, Exit
from app.cli.options import Settings
from app.cli.output import print_json, say
from app.cli.session import complete, here
from app.web.guard import Guard, is_loopback
from app.web.server import TerminalMissing, WebServer, browser_files, serve

INSTALL = "Install it with `pip install 'gpudeck[web]'` (or `uv sync --extra web`)."


def open_web(settings: Settings, *, host: str, port: int, remote: bool, sessions: int, readonly: bool) -> None:
    """Serve the dashboard to browsers. Raises CliError for an address that needs --remote, a port that is taken, and
    a browser's terminal that is not installed."""
    here()
    if not is_loopback(host) and not remote:
        raise CliError(
            f"--host {host}: everybody on that network could try; add --remote if that is meant",
            Exit.USAGE,
            "It is plain HTTP: over a network that is not yours, use `ssh -L 8485:127.0.0.1:8485` instead.",
        )
    try:
        files = browser_files()
    except TerminalMissing as error:
        raise CliError(str(error), Exit.FAILURE, INSTALL) from error
    with _listen(host, port) as listener:
        guard = Guard(listener.getsockname()[1], remote=remote)
        command = [sys.executable, "-m", "app.web", *(["--read-only"] if readonly else [])]
        server = WebServer(guard, command, dict(os.environ), sessions, files)
        address = f"http://{f'[{host}]' if ':' in host else host}:{guard.port}/?token={guard.token}"
        complete(lambda: _serve(settings, server, listener, address))


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CliError(f"cannot listen on {host}:{port}: {reason}", Exit.FAILURE, "Choose another --port.") from error


async def _serve(settings: Settings, server: WebServer, listener: socket.socket, address: str) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, ended.set)
    if settings.json:
        print_json({"url": address, "port": server.guard.port, "sessions_max": server.sessions_max})
    else:
        click.echo(address)
        say("whoever has this address has this deck; Ctrl-C ends it, and every page with it")
    await serve(server, listener, ended)
