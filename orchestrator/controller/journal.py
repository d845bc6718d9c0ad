"""Transactions in order, none lost: what could not be written is tried again before anything later.

A command's transaction that fails is reported to its caller and dropped. Everything else (postings, ends of workers)
describes what has already happened, so it waits in a backlog until the disk takes it (reliability.md H1, B9).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from orchestrator.core.writes import Heartbeat, Posted, WorkerEnded, WorkerIntended, WorkerReady, WorkerStarted, Write
from orchestrator.crash import point
from orchestrator.ledger.ports import CreditChanged, Ledger, LedgerError

log = logging.getLogger(__name__)

RETRY_S = 1.0


class Batch(NamedTuple):
    writes: tuple[Write, ...]
    done: asyncio.Future[None]
    command_id: str | None


_KINDS: Final[dict[type[Write], str]] = {
    WorkerIntended: "intent",
    WorkerStarted: "started",
    WorkerReady: "ready",
    WorkerEnded: "ended",
    Posted: "posting",
    Heartbeat: "heartbeat",
}


def kinds_of(batch: Batch) -> list[str]:
    """What the transaction does, by the names of orchestrator.crash.BATCHES."""
    found = dict.fromkeys(_KINDS[type(write)] for write in batch.writes if type(write) in _KINDS)
    return ["command", *found] if batch.command_id is not None else [*found]


class Journal:
    """Feeds the ledger one batch at a time. `on_problem(None)` says that the backlog is written."""

    def __init__(self, ledger: Ledger, on_problem: Callable[[str | None], None]) -> None:
        self._ledger = ledger
        self._on_problem = on_problem
        self._backlog: deque[Batch] = deque()
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failing = False

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="journal")

    def submit(self, writes: tuple[Write, ...], command_id: str | None) -> asyncio.Future[None]:
        """Queue one transaction. The future ends when it is on disk; LedgerError only for a command's transaction."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._backlog.append(Batch(writes, done, command_id))
        self._more.set()
        return done

    async def close(self, grace_s: float = 5.0) -> int:
        """Write what is queued, for at most `grace_s`; returns how many transactions could not be written."""
        if self._task is not None:
            try:
                async with asyncio.timeout(grace_s):
                    while self._backlog:
                        await asyncio.wait([self._backlog[-1].done])
            except TimeoutError:
                log.error("%d transactions were not written", len(self._backlog))
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        return len(self._backlog)

    async def _run(self) -> None:
        while True:
            while self._backlog:
                batch = self._backlog[0]
                if await self._write(batch):
                    self._backlog.popleft()
                else:
                    await asyncio.sleep(RETRY_S)
            self._more.clear()
            await self._more.wait()

    async def _write(self, batch: Batch) -> bool:
        """One attempt; True when the batch is dealt with."""
        kinds = kinds_of(batch)
        for kind in kinds:
            point(f"commit.{kind}.before")
        try:
            await asyncio.wrap_future(self._ledger.write(batch.writes))
        except LedgerError as error:
            if not isinstance(error, CreditChanged):
                self._report(str(error))
            if batch.command_id is None:
                log.error("ledger: %s; kept for another attempt", error)
                return False
            if not batch.done.done():
                batch.done.set_exception(error)
            return True
        for kind in kinds:
            point(f"commit.{kind}.after")
        self._report(None)
        if not batch.done.done():
            batch.done.set_result(None)
        return True

    def _report(self, problem: str | None) -> None:
        if problem is not None or self._failing:
            self._failing = problem is not None
            self._on_problem(problem)
