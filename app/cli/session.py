"""One conversation with the orchestrator, with every failure turned into a sentence and an exit code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from pydantic import ValidationError

from app.cli.exits import CliError, Exit, not_running
from app.cli.options import settings
from app.cli.problems import sentences
from app.client import NotRunning, SocketClient
from app.spawn import SpawnError
from orchestrator.contract.command import Accepted, Command, RefusalCode, Refused
from orchestrator.contract.endpoint import may_call
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

    def __init__(self, client: SocketClient, account: str | None = None) -> None:
        self.client = client
        self.account = account
        """Whose endpoints and keys are seen; None for everybody's."""

    async def snapshot(self) -> Snapshot:
        """The state as the account sees it."""
        state = await self.everything()
        return state if self.account is None else seen_by(state, self.account)

    async def everything(self) -> Snapshot:
        """The state of all accounts."""
        return (await self.ask(AskSnapshot(), SnapshotAnswer)).snapshot

    async def endpoint(self, slug: str) -> tuple[EndpointView, Snapshot]:
        """The endpoint and the state it was found in."""
        state = await self.snapshot()
        return find_endpoint(state, slug), state

    async def demand_own(self, slug: str) -> None:
        """Raises CliError for an endpoint that the account may call but not change, or not even see."""
        if self.account is not None:
            view, _ = await self.endpoint(slug)
            if view.spec.account != self.account:
                raise CliError(f"endpoint '{slug}' belongs to account '{view.spec.account}'", Exit.REFUSED)

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


def seen_by(state: Snapshot, account: str) -> Snapshot:
    """The part of `state` that concerns `account`: its own and everybody's public endpoints, its keys, its credit.
    Raises CliError for an account that there is not."""
    if account not in {a.name for a in state.accounts}:
        there = ", ".join(a.name for a in state.accounts)
        raise CliError(f"there is no account '{account}' (accounts: {there})", Exit.NOT_FOUND)
    endpoints = tuple(e for e in state.endpoints if may_call(account, e.spec))
    slugs = {e.spec.slug for e in endpoints}
    return state.model_copy(
        update={
            "endpoints": endpoints,
            "accounts": tuple(a for a in state.accounts if a.name == account),
            "keys": tuple(k for k in state.keys if k.account == account),
            "events": tuple(e for e in state.events if e.endpoint in slugs),
        }
    )


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
        yield Session(client, settings().account)
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


def until_now() -> list[str]:
    """The argument that tells a study of recorded traffic the time by the clock of the orchestrator that runs; none
    when none runs, whose files then say when it was last there."""

    async def ask() -> list[str]:
        client = SocketClient(here().socket_file)
        try:
            await client.hello()
            return [f"--until-ns={(await Session(client).everything()).taken_at_ns}"]
        except NotRunning:
            return []
        finally:
            await client.aclose()

    return complete(ask)


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
    except asyncio.CancelledError:  # a signal; what the work had started, it has stopped
        raise CliError("interrupted", Exit.INTERRUPTED) from None
    except BrokenPipeError:
        raise
    except ConnectionError as error:
        raise CliError(str(error), Exit.NOT_RUNNING) from error
