"""Exit codes and the one exception that carries them. Stable: scripts branch on these."""

from __future__ import annotations

import sys
from enum import IntEnum
from typing import IO, Any

import click


class Exit(IntEnum):
    """0 is success. 64 and above follow sysexits.h."""

    FAILURE = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    """Refused by policy: credit, GPUs, a limit, the state of the endpoint, a key."""
    TIMEOUT = 5
    NOT_RUNNING = 69
    LOCKED = 75
    CONFIGURATION = 78
    INTERRUPTED = 130


class CliError(click.ClickException):
    """Ends the command with a sentence on stderr and `code`."""

    def __init__(self, message: str, code: Exit = Exit.FAILURE, hint: str = "") -> None:
        super().__init__(message)
        self.exit_code = int(code)  # type: ignore[misc]  # click reads it from the instance
        self.hint = hint
        """What to do about it, on a line of its own."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"gpudeck: {self.message}", file=file or sys.stderr)
        if self.hint:
            click.echo(self.hint, file=file or sys.stderr)


def not_running() -> CliError:
    return CliError("gpudeck is not running: start it with `gpudeck up`", Exit.NOT_RUNNING)
