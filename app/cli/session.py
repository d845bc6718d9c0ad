"""One conversation with the orchestrator, with every failure turned into a sentence and an exit code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from pydantic import ValidationError

from app.cli.exits import CliError, Exit, not_running
from app.cli.problems import sentences
from app.client import NotRunning, SocketClient
from app.spawn import SpawnError
from orchestrator.contract.command import Accepted, Command, RefusalCode, Refused
from orchestrator.contract.frames import SnapshotAnswer
from orchestrator.contract.places import Places
from orchestrator.contract.places import places as places_of
from orchestrator.contract.query import AskSnapshot, Query, Unanswered
from orchestrator.contract.snapshot import EndpointView, Snapshot

Result = TypeVar("Result")
Kind = TypeVar("Kind")

REFUSALS: Final = {
    RefusalCode.INVALID: Exit.USAGE,
    RefusalCode.NOT_FOUND: Exit.NOT_FOUND,
    RefusalCode.EXISTS: Exit.REFUSED,
    RefusalCode.LIMIT: Exit.REFUSED,
    RefusalCode.CREDIT: Exit.REFUSED,
    RefusalCode.GPU: Exit.REFUSED,
    RefusalCode.STATE: Exit.REFUSED,
    RefusalCode.STOPPING: Exit.REFUSED,
    RefusalCode.ID_REUSED: Exit.FAILURE,
    RefusalCode.LEDGER: Exit.FAILURE,
}


class Session:
    """What commands do with the orchestrator. Every method raises CliError, or ConnectionError when it is gone."""

    def __init__(self, client: SocketClient) -> None:
        self.client = client

    async def snapshot(self) -> Snapshot:
        return (await self.ask(AskSnapshot(), SnapshotAnswer)).snapshot

    async def endpoint(self, slug: str) -> tuple[EndpointView, Snapshot]:
        """The endpoint and the state it was found in."""
        state = await self.snapshot()
        return find_endpoint(state, slug), state

    async def send(self, command: Command) -> Accepted:
        outcome = await self.client.send(command)
        if isinstance(outcome, Refused):
            raise CliError(outcome.message, REFUSALS[outcome.code])
        return outcome

    async def ask(self, query: Query, kind: type[Kind]) -> Kind:
        """The answer of type `kind`."""
        answer = await self.client.ask(query)
        if isinstance(answer, Unanswered):
            codes = {"not_found": Exit.NOT_FOUND, "invalid": Exit.USAGE, "unavailable": Exit.FAILURE}
            raise CliError(answer.message, codes[answer.code])
        if not isinstance(answer, kind):
            raise CliError(f"the orchestrator answered '{query.kind}' with '{answer.kind}'")
        return answer


def find_endpoint(state: Snapshot, slug: str) -> EndpointView:
    """Raises CliError naming the endpoints there are."""
    for view in state.endpoints:
        if view.spec.slug == slug:
            return view
    there = ", ".join(view.spec.slug for view in state.endpoints) or "none yet"
    raise CliError(f"there is no endpoint '{slug}' (endpoints: {there})", Exit.NOT_FOUND)


def here() -> Places:
    """This user's places. Raises CliError for an unusable GPUDECK_HOME."""
    try:
        return places_of()
    except ValueError as error:
        raise CliError(str(error), Exit.CONFIGURATION) from error


def spawn_failure(error: SpawnError) -> CliError:
    """The exit code of a failed start: locked and configuration pass through."""
    codes = {None: Exit.TIMEOUT, 75: Exit.LOCKED, 78: Exit.CONFIGURATION}
    return CliError(str(error), codes.get(error.exit_code, Exit.FAILURE), "\n".join(f"  {x}" for x in error.lines[:-1]))


@asynccontextmanager
async def connected() -> AsyncIterator[Session]:
    """A session with the running orchestrator. Raises CliError 69 when none runs; it is never started silently."""
    client = SocketClient(here().socket_file)
    try:
        await client.hello()
        yield Session(client)
    except NotRunning as error:
        raise not_running() from error
    finally:
        await client.aclose()


def talk(work: Callable[[Session], Awaitable[Result]]) -> Result:
    """Run `work` in a session with the running orchestrator and close it."""

    async def whole() -> Result:
        async with connected() as session:
            return await work(session)

    return complete(whole)


def complete(work: Callable[[], Awaitable[Result]]) -> Result:
    """Run `work` in an event loop of its own; turn what can go wrong on the way into a CliError."""

    async def whole() -> Result:
        return await work()

    try:
        return asyncio.run(whole())
    except ValidationError as error:
        raise CliError("\n".join(sentences(error)), Exit.USAGE) from error
    except SpawnError as error:
        raise spawn_failure(error) from error
    except BrokenPipeError:
        raise
    except ConnectionError as error:
        raise CliError(str(error), Exit.NOT_RUNNING) from error
