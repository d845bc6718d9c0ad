"""Shell completion: the scripts, and the words that only the running orchestrator knows."""

from __future__ import annotations

import asyncio
from typing import Final

import click
from click.shell_completion import get_completion_class

from app.cli.exits import CliError, Exit

ANSWER_S: Final = 0.5
"""A completion that takes longer than this is worse than none."""


def script(command: click.Command, shell: str) -> str:
    """The script that makes `shell` complete gpudeck. Raises CliError for a shell that cannot."""
    kind = get_completion_class(shell)
    if kind is None:
        raise CliError(f"shell: no completion for '{shell}'", Exit.USAGE)
    try:
        return kind(command, {}, "gpudeck", "_GPUDECK_COMPLETE").source()
    except RuntimeError as error:
        raise CliError(f"{shell}: {error}", Exit.FAILURE) from error


def slugs() -> list[str]:
    """Slugs of all endpoints; empty when the orchestrator does not answer within ANSWER_S."""
    from app.client import SocketClient
    from orchestrator.contract.frames import SnapshotAnswer
    from orchestrator.contract.places import places
    from orchestrator.contract.query import AskSnapshot

    async def ask() -> list[str]:
        client = SocketClient(places().socket_file)
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await client.ask(AskSnapshot())
        finally:
            await client.aclose()
        return [view.spec.slug for view in answer.snapshot.endpoints] if isinstance(answer, SnapshotAnswer) else []

    try:
        return asyncio.run(ask())
    except (ConnectionError, TimeoutError, ValueError):
        return []  # a shell that is completing has no place to show an error
