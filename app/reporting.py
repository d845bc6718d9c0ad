"""Reports of the orchestrator's own programs (settings, checks, replays), each from a process of its own.

They need no running orchestrator, read the same files, and may compute for minutes: neither the loop that draws nor the
one that serves may wait for them.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from app.format import plain
from orchestrator.contract.places import HOME_VARIABLE

STUDY: Final = "orchestrator.simulator.study"
CHECKS: Final = "orchestrator"


class NoReport(Exception):
    """The program ended without a report, or too late; the text is the last it said."""


class TookTooLong(NoReport):
    """It was ended because its time was up."""


@dataclass(frozen=True, slots=True)
class Request:
    """A program (module name), its arguments, and the seconds it may take."""

    program: str
    arguments: tuple[str, ...]
    timeout_s: float
    fed: bool = False
    """Whether it reads our stdin, in our place."""


@dataclass(frozen=True, slots=True)
class Printed:
    """What a program that is over wrote to stdout and stderr, and its exit status."""

    document: bytes
    said: bytes
    code: int


Reporter = Callable[[Request], Coroutine[Any, Any, Any]]
"""From a request to the JSON document that was printed. Raises NoReport."""


def reporter(home: Path | None = None) -> Reporter:
    """Reports about the deck in `home`; None means this user's, as the environment says."""
    environ = None if home is None else {**os.environ, HOME_VARIABLE: str(home)}

    async def report(request: Request) -> Any:
        return read_report(await printed(request, environ))

    return report


async def printed(request: Request, environ: Mapping[str, str] | None = None) -> Printed:
    """Run the program to its end, in a session of its own: none of its processes outlives the wait for it.

    `environ` None means the environment as it is. Raises TookTooLong.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", request.program, *request.arguments,
        stdin=None if request.fed else asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, env=environ, start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(request.timeout_s):
            document, said = await child.communicate()
    except TimeoutError as error:
        raise TookTooLong(f"`{request.arguments[0]}` took longer than {request.timeout_s:g} s") from error
    finally:
        await _end(child)
    assert child.returncode is not None, "it is over"
    return Printed(document, said, child.returncode)


async def _end(child: asyncio.subprocess.Process) -> None:
    """Nobody waits for the answer any more: end the child and those that it shares its work with."""
    if child.returncode is None:
        # Its whole session: the processes of a pool do not notice that their parent is gone.
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        await child.wait()


def read_report(printed: Printed) -> Any:
    """The document on stdout, which also one with bad news in it has. Raises NoReport with the last line of stderr."""
    try:
        return json.loads(printed.document)
    except ValueError as error:
        raise NoReport(last_sentence(printed)) from error


def sentences(printed: Printed) -> list[str]:
    """The lines on stderr."""
    return [plain(line) for line in printed.said.decode(errors="replace").splitlines() if line.strip()]


def last_sentence(printed: Printed) -> str:
    """Why it failed, as far as it said so."""
    said = sentences(printed)
    return said[-1].removeprefix("gpudeck: ") if said else f"it ended with status {printed.code} and said nothing"
