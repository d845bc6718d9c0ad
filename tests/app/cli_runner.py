"""Running the command line in this process, against whatever orchestrator GPUDECK_HOME leads to."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from click.testing import CliRunner, Result

from app.cli.root import cli


async def gpudeck(*arguments: str, stdin: str | bytes = "") -> Result:
    """Run `gpudeck ARGUMENTS` in a thread, so that a server in this event loop can answer it."""
    return await asyncio.to_thread(gpudeck_sync, *arguments, stdin=stdin)


def gpudeck_sync(*arguments: str, stdin: str | bytes = "") -> Result:
    """Run `gpudeck ARGUMENTS`; an exception other than a clean exit fails the test."""
    result = CliRunner().invoke(cli, list(arguments), prog_name="gpudeck", input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


async def data(*arguments: str) -> Any:
    """What `gpudeck ARGUMENTS -o json` prints; anything but success fails the test."""
    return await asyncio.to_thread(data_sync, *arguments)


def data_sync(*arguments: str) -> Any:
    """`data` without an event loop."""
    result = gpudeck_sync(*arguments, "-o", "json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)
