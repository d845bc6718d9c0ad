"""Answers questions: from the state at once, from the ledger and the engine off the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

from orchestrator.assets import AssetError
from orchestrator.clock import Now
from orchestrator.contract.accounting import BackupMade
from orchestrator.contract.command import Command, Outcome
from orchestrator.contract.decision import AskDecisions
from orchestrator.contract.deferred import AskRequest, AskRequests
from orchestrator.contract.ended import AskEnded, EndedWorkers
from orchestrator.contract.frames import Answer, SnapshotAnswer
from orchestrator.contract.query import (
    AskBackup,
    AskBill,
    AskComparison,
    AskHistory,
    AskJournal,
    AskLogs,
    AskQuote,
    AskSnapshot,
    AskStatement,
    AskVerify,
    Bill,
    LogLines,
    Logs,
    Query,
    Unanswered,
)
from orchestrator.contract.routing import AskRouting
from orchestrator.contract.snapshot import Snapshot
from orchestrator.contract.steps import Steps
from orchestrator.controller.explaining import explain
from orchestrator.core.admission import quote
from orchestrator.core.pricing import PriceBook
from orchestrator.core.routing import RoutingTable
from orchestrator.core.state import Draft, State
from orchestrator.core.turns import routing_of
from orchestrator.engine.ports import EngineError
from orchestrator.ledger.backups import examine
from orchestrator.ledger.metrics import MetricsStore
from orchestrator.ledger.ports import Ledger, LedgerError

A = TypeVar("A")
BILL_LINES_MAX = 30_000
"""Some 350 bytes each."""
Books = Callable[[str], PriceBook]
"""Reads the price book of that name. Raises AssetError."""


class Owner(Protocol):
    """Who owns the state: the controller, or a lab (orchestrator/lab)."""

    @property
    def state(self) -> State: ...

    @property
    def engine(self) -> Teller: ...

    @property
    def table(self) -> RoutingTable: ...

    async def submit(self, command: Command) -> Outcome: ...

    def snapshot(self) -> Snapshot: ...

    def observing(self) -> Steps[Snapshot]: ...

    async def journalled(self) -> None: ...


class Teller(Protocol):
    """What is asked of the engine."""

    async def logs(self, worker_id: str, tail: int) -> list[str]: ...


class FrontDesk:
    """The one door for front ends: implements what the control socket needs."""

    def __init__(
        self,
        controller: Owner,
        ledger: Ledger,
        now: Now,
        *,
        metrics: MetricsStore | None = None,
        books: Books | None = None,
    ) -> None:
        self._controller = controller
        self._ledger = ledger
        self._now = now
        self._metrics = metrics
        self._books = books

    async def submit(self, command: Command) -> Outcome:
        return await self._controller.submit(command)

    def observing(self) -> Steps[Snapshot]:
        return self._controller.observing()

    async def answer(self, query: Query) -> Answer:
        """Never raises for a question that merely has no answer: that is an `Unanswered`."""
        match query:
            case AskSnapshot():
                return SnapshotAnswer(snapshot=self._controller.snapshot())
            case AskQuote(spec=spec):
                return quote(Draft(self._controller.state, self._now()), spec)
            case AskLogs():
                return await self._logs(query)
            case AskHistory():
                return await self._history(query)
            case AskDecisions():
                await self._controller.journalled()
                return await explain(self._metrics, query)
            case AskRouting(slug=slug, latencies=latencies):
                route = self._controller.table.routes.get(slug)
                if route is None:
                    return Unanswered(code="not_found", message=f"slug: no endpoint {slug!r} has a route")
                return routing_of(route, self._now(), latencies=latencies)
            case AskEnded():
                return await self._ended(query)
            case AskRequests() | AskRequest():
                return Unanswered(code="unavailable", message="asynchronous calls are not kept here")
            case _:
                return await self._account(query)

    async def _account(
        self, query: AskBill | AskStatement | AskComparison | AskJournal | AskVerify | AskBackup
    ) -> Answer:
        """Questions to the ledger."""
        ledger, now_ns = self._ledger, self._now()
        try:
            match query:
                case AskBill(account=account, month=month):
                    return _fitting(await _done(ledger.bill(account, month, now_ns)))
                case AskStatement():
                    return await self._statement(query, now_ns)
                case AskComparison(account=account, month=month, book=name):
                    if self._books is None:
                        return Unanswered(code="unavailable", message="book: no price books are known here")
                    return await _done(ledger.comparison(account, month, now_ns, self._books(name)))
                case AskJournal():
                    return await _done(ledger.journal(query))
                case AskVerify():
                    return await _done(ledger.verify(None if self._books is None else self._book))
                case AskBackup():
                    return await self._backup()
        except KeyError as error:
            known = ", ".join(self._controller.state.accounts)
            return Unanswered(code="not_found", message=f"account: no account {error.args[0]!r} (there are: {known})")
        except AssetError as error:
            return Unanswered(code="not_found", message=str(error))
        except LedgerError as error:
            return Unanswered(code="unavailable", message=f"ledger: {error}")

    async def _statement(self, query: AskStatement, now_ns: int) -> Answer:
        if query.as_of_ns is not None:
            now_ns = min(now_ns, query.as_of_ns)
        found = await _done(
            self._ledger.statement(query.account, query.month, now_ns, after=query.after, limit=query.limit)
        )
        if self._metrics is None:
            return found
        try:
            served = await _done(self._metrics.served({line.interval_id for line in found.lines}, query.month))
        except LedgerError:
            return found  # the money is right without the counts, and says that it has none
        # An interval has a second line for time that is not charged because nobody was there: it served nothing then.
        lines = tuple(line.model_copy(update={"requests": served.pop(line.interval_id, 0)}) for line in found.lines)
        return found.model_copy(update={"lines": lines})

    async def _ended(self, query: AskEnded) -> Answer:
        endpoint = self._controller.state.endpoints.get(query.slug)
        if endpoint is None:
            return Unanswered(code="not_found", message=f"slug: no endpoint {query.slug!r}")
        try:
            found = await _done(self._ledger.ended(query.slug, endpoint.spec.account, query.limit, self._now()))
        except LedgerError as error:
            return Unanswered(code="unavailable", message=f"ledger: {error}")
        return await self._with_requests(found)

    async def _with_requests(self, found: EndedWorkers) -> EndedWorkers:
        """The workers with the requests that they served, where a history of those is kept."""
        if self._metrics is None:
            return found
        try:
            served = await _done(self._metrics.served({each for w in found.workers for each in w.interval_ids}))
        except LedgerError:
            return found  # as in a statement: the money is right without the counts
        workers = tuple(
            worker.model_copy(update={"requests": sum(served.get(each, 0) for each in worker.interval_ids)})
            for worker in found.workers
        )
        return found.model_copy(update={"workers": workers})

    async def _backup(self) -> Answer:
        made = await _done(self._ledger.back_up())
        examined = await asyncio.to_thread(examine, made)
        return BackupMade(path=str(made), size_bytes=made.stat().st_size, head=examined.head)

    def _book(self, name: str) -> PriceBook | None:
        """Called in the thread of the ledger."""
        assert self._books is not None
        try:
            return self._books(name)
        except AssetError:
            return None  # verification reports it as a book that is not installed

    async def _history(self, query: AskHistory) -> Answer:
        if self._metrics is None:
            return Unanswered(code="unavailable", message="history: none is kept here")
        if query.until_ns <= query.since_ns:
            return Unanswered(code="invalid", message="until_ns: must be later than since_ns")
        try:
            found = await _done(self._metrics.history(query.slug, query.since_ns, query.until_ns, query.step_s))
            endpoint = self._controller.state.endpoints.get(query.slug)
            if endpoint is None:
                return found
            window = (found.since_ns, found.until_ns, found.step_s, self._now())
            spent = await _done(self._ledger.spending(query.slug, endpoint.spec.account, *window))
            return found.model_copy(update={"spent": spent})
        except LedgerError as error:
            return Unanswered(code="unavailable", message=str(error))

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


def _fitting(bill: Bill) -> Answer:
    """A bill that would not fit into a frame is refused; statements come in pages."""
    if len(bill.lines) <= BILL_LINES_MAX:
        return bill
    text = f"bill: {len(bill.lines):,} lines are too many for one answer; ask for one month, or for the statement"
    return Unanswered(code="invalid", message=text)


async def _done(future: Future[A]) -> A:
    return await asyncio.wrap_future(future)
