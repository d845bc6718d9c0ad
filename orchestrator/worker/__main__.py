"""`python -m orchestrator.worker sketch|echo`: start one model server and serve until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from orchestrator.worker.server import LOG, CannotListen, Served, Server

GRACE_S: Final = 10.0


def build(name: str, environ: Mapping[str, str]) -> Served:
    """The model called `name`. Raises ValueError naming the environment variable at fault."""
    if name == "sketch":
        from orchestrator.worker.sketch import Sketch

        return Sketch(environ)
    from orchestrator.worker.echo import Echo

    return Echo(environ)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 after a graceful end, 1 when it cannot listen, 2 for bad arguments or environment."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.worker", description=__doc__)
    parser.add_argument("model", choices=("sketch", "echo"))
    parser.add_argument("--host", default="127.0.0.1", help="address to bind (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port to bind, 0 for a free one (default: %(default)s)")
    parser.add_argument(
        "--grace", type=float, default=GRACE_S, help="seconds for requests in flight after SIGTERM (default: 10)"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(
        stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname).1s %(message)s", datefmt="%H:%M:%S"
    )
    if not 0 <= options.port <= 65_535:
        parser.error("--port: give a number from 0 to 65535")
    if not 0 <= options.grace <= 600:
        parser.error("--grace: give seconds from 0 to 600")
    try:
        model = build(options.model, os.environ)
    except ValueError as error:
        LOG.error("%s: %s", options.model, error)
        return 2
    try:
        asyncio.run(Server(model, options.host, options.port, options.grace).run())
    except CannotListen as error:
        LOG.error("%s: %s", options.model, error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
