"""Answers questions: from the state at once, from the ledger and the engine off the loop."""

from __future__ import annotations

import asyncio

from orchestrator.clock import Now
from orchestrator.contract.command import Command, Outcome
from orchestrator.contract.frames import Answer, SnapshotAnswer
from orchestrator.contract.query import (
    AskBill,
    AskLogs,
    AskQuote,
    AskSnapshot,
    AskVerify,
    LogLines,
    Logs,
    Query,
    Unanswered,
)
from orchestrator.contract.snapshot import Snapshot
from orchestrator.controller.loop import Controller
from orchestrator.core.admission import quote
from orchestrator.core.state import Draft
from orchestrator.engine.ports import EngineError
from orchestrator.ledger.ports import Ledger, LedgerError


class FrontDesk:
    """The one door for front ends: implements what the control socket needs."""

    def __init__(self, controller: Controller, ledger: Ledger, now: Now) -> None:
        self._controller = controller
        self._ledger = ledger
        self._now = now

    async def submit(self, command: Command) -> Outcome:
        return await self._controller.submit(command)

    def snapshot(self) -> Snapshot:
        return self._controller.snapshot()

    async def answer(self, query: Query) -> Answer:
        """Never raises for a question that merely has no answer: that is an `Unanswered`."""
        match query:
            case AskSnapshot():
                return SnapshotAnswer(snapshot=self.snapshot())
            case AskQuote(spec=spec):
                return quote(Draft(self._controller.state, self._now()), spec)
            case AskLogs():
                return await self._logs(query)
            case AskBill():
                return await self._bill(query)
            case AskVerify():
                try:
                    return await asyncio.wrap_future(self._ledger.verify())
                except LedgerError as error:
                    return Unanswered(code="unavailable", message=f"ledger: {error}")

    async def _bill(self, query: AskBill) -> Answer:
        try:
            return await asyncio.wrap_future(self._ledger.bill(query.account, query.month, self._now()))
        except KeyError:
            known = ", ".join(self._controller.state.accounts)
            return Unanswered(code="not_found", message=f"account: no account {query.account!r} (there are: {known})")
        except LedgerError as error:
            return Unanswered(code="unavailable", message=f"ledger: {error}")

    async def _logs(self, query: AskLogs) -> Answer:
        state = self._controller.state
        if query.slug not in state.endpoints:
            known = ", ".join(sorted(state.endpoints)) or "none"
            return Unanswered(code="not_found", message=f"slug: no endpoint {query.slug!r} (there are: {known})")
        workers = [w for w in state.workers.values() if w.endpoint == query.slug]
        if query.worker is not None:
            workers = [w for w in workers if query.worker in (w.id, w.label)]
            if not workers:
                text = f"worker: endpoint {query.slug} has no worker {query.worker!r} now"
                return Unanswered(code="not_found", message=text)
        found = []
        for worker in sorted(workers, key=lambda w: w.ordinal):
            try:
                lines = await self._controller.engine.logs(worker.id, query.tail)
            except KeyError:
                lines = []  # it is starting: there is nothing written yet
            except EngineError as error:
                return Unanswered(code="unavailable", message=error.message)
            found.append(LogLines(worker_id=worker.id, label=worker.label, lines=tuple(lines)))
        return Logs(workers=tuple(found))
