"""Feeds QUEUED calls into the lanes of their endpoints, oldest first, and settles what comes of each attempt.

Everything happens in the event loop, in callbacks and one sweep; only the store's thread waits for the disk.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Final

from orchestrator.contract.base import HOUR_NS
from orchestrator.contract.deferred import RequestState
from orchestrator.core.lane import Closed
from orchestrator.deferred.call import Call, Stage, Ticket, later, ticket_of
from orchestrator.deferred.records import Ending, Record
from orchestrator.deferred.rules import RETRY_PAUSE_NS, WAIT_NS, Bounds, Next, after, window_of
from orchestrator.deferred.store import DeferredStore
from orchestrator.gateway.hub import Hub

log = logging.getLogger(__name__)

WRITE_AGAIN_S: Final = 1.0
"""After a failure to write what became of a call: it stays in memory until the disk takes it."""
_DELETED: Final = ("endpoint_deleted", "The endpoint was deleted before a worker took the call.")
_EXPIRED: Final = ("expired", f"No worker took the call within {WAIT_NS // HOUR_NS} hours.")


class Runner:
    """`on_ended` is told of every call that is over, once that is on the disk."""

    def __init__(self, store: DeferredStore, hub: Hub, bounds: Bounds, on_ended: Callable[[Record], None]) -> None:
        self.store = store
        self.hub = hub
        self.bounds = bounds
        self._on_ended = on_ended
        self._tickets: dict[str, Ticket] = {}
        """QUEUED and not in a lane, by id."""
        self._queued: Counter[str] = Counter()
        """How many there are of each endpoint."""
        self._turns: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
        """Heaps of (seq, id) by endpoint; ids without a ticket are skipped."""
        self._pauses: list[tuple[int, int, str]] = []
        """Heap of (due, seq, id): to be tried again, but not yet."""
        self._calls: defaultdict[str, dict[str, Call]] = defaultdict(dict)
        """In a lane, with a worker, or over and that not written yet; by endpoint and id."""
        self._stopping = False
        self._idle = asyncio.Event()
        """Set while a drain has nothing to wait for."""
        self._idle.set()

    @property
    def busy(self) -> int:
        """Calls that a worker has, or whose end is being written."""
        return sum(call.stage is not Stage.WAITING for call in self._each())

    def queued(self, slug: str) -> int:
        """Calls of the endpoint that no worker has yet."""
        return self._queued[slug] + self._waiting(slug)

    def add(self, record: Record) -> None:
        """A QUEUED call: a new one, or one that an earlier orchestrator left."""
        self._put_back(ticket_of(record, WAIT_NS))
        self.feed(record.slug)

    def drop(self, record: Record) -> None:
        """It is over by somebody else's decision, which is on the disk."""
        self._take(record.id)
        call = self._calls[record.slug].get(record.id)
        if call is not None:
            call.cancel()
            self._forget(call)

    def feed(self, slug: str) -> None:
        """Move calls into the endpoint's lane as far as its window reaches."""
        route = self.hub.table.routes.get(slug)
        if self._stopping or route is None or route.lane.closed is not None:
            return
        window = window_of(route.lane.queue_limit)
        while self._waiting(slug) < window and (ticket := self._next(slug)) is not None:
            call = Call(ticket, route, self)
            if not call.join():
                self._put_back(ticket, RETRY_PAUSE_NS)
                return
            self._calls[slug][ticket.id] = call
            self._idle.clear()

    def sweep(self, now_ns: int) -> None:
        """Twice a second: deadlines, pauses that are over, endpoints that are gone or open again."""
        for call in list(self._each()):
            if call.stage is Stage.WAITING and now_ns >= call.ticket.deadline_ns:
                call.cancel()
                self.ended(call, _failure(call.ticket.id, *_EXPIRED))
            else:
                call.sweep(now_ns)
        while self._pauses and self._pauses[0][0] <= now_ns:
            _, seq, request_id = heapq.heappop(self._pauses)
            ticket = self._tickets.get(request_id)
            if ticket is not None:
                heapq.heappush(self._turns[ticket.slug], (seq, request_id))
        if self._stopping or self.hub.table.restoring:
            return
        for slug in list(self._turns):
            gone = slug not in self.hub.table.routes
            while (ticket := self._first(slug)) is not None and (gone or now_ns >= ticket.deadline_ns):
                self._take(ticket.id)
                self._write_end(slug, _failure(ticket.id, *(_DELETED if gone else _EXPIRED)))
            self.feed(slug)

    async def drain(self, grace_s: float) -> None:
        """Feed nothing more, give those that workers have `grace_s` seconds. Whatever is left is QUEUED or PROCESSING
        on the disk, and the next orchestrator settles it."""
        self._stopping = True
        for call in list(self._each()):
            if call.stage is Stage.WAITING:
                call.cancel()
                self._forget(call)
        try:
            async with asyncio.timeout(grace_s):
                await self._idle.wait()
        except TimeoutError:
            for call in list(self._each()):
                call.cancel()
            self._calls.clear()

    # --- what calls report

    def others_waiting(self, call: Call) -> int:
        return self._waiting(call.ticket.slug) - (call.stage is Stage.WAITING)

    def ended(self, call: Call, ending: Ending) -> None:
        self._write_end(call.ticket.slug, ending, call)

    def failed(self, call: Call, code: str, detail: str) -> None:
        made = call.ticket.attempts + 1
        follows = after(code, made, call.ticket.attempts_max)
        log.info("request %s of %s, attempt %d: %s; %s", call.ticket.id, call.ticket.slug, made, code, follows)
        if follows is Next.FAIL:
            self.ended(call, _failure(call.ticket.id, code, detail))
        else:
            self._requeue(call, detail, counts=follows is Next.AGAIN)

    def sent_back(self, call: Call, closed: Closed | None) -> None:
        if closed is not None and closed.status == 404:
            self.ended(call, _failure(call.ticket.id, *_DELETED))
        else:
            self._forget(call)
            self._put_back(call.ticket, RETRY_PAUSE_NS)

    def vanished(self, call: Call) -> None:
        self._forget(call)

    # --- writing what became of them

    def _write_end(self, slug: str, ending: Ending, call: Call | None = None) -> None:
        def written(done: Future[Record | None]) -> None:
            if done.exception() is not None:
                log.error("how request %s ended cannot be written yet: %s", ending.id, done.exception())
                asyncio.get_running_loop().call_later(WRITE_AGAIN_S, self._write_end, slug, ending, call)
                return
            if call is not None:
                self._forget(call)
            record = done.result()
            if record is not None:
                self._on_ended(record)
            self.feed(slug)

        later(self.store.end(ending), written)

    def _requeue(self, call: Call, detail: str, *, counts: bool) -> None:
        ticket = call.ticket

        def written(done: Future[bool]) -> None:
            if done.exception() is not None:
                log.error("request %s cannot be put back yet: %s", ticket.id, done.exception())
                loop = asyncio.get_running_loop()
                loop.call_later(WRITE_AGAIN_S, lambda: self._requeue(call, detail, counts=counts))
                return
            self._forget(call)
            if done.result():
                pause_ns = RETRY_PAUSE_NS << ticket.attempts if counts else RETRY_PAUSE_NS
                self._put_back(replace(ticket, attempts=ticket.attempts + counts), pause_ns)
            self.feed(ticket.slug)

        later(self.store.requeue(ticket.id, detail, counts=counts), written)

    # --- who is where

    def _each(self) -> Iterator[Call]:
        for calls in self._calls.values():
            yield from calls.values()

    def _waiting(self, slug: str) -> int:
        return sum(call.stage is Stage.WAITING for call in self._calls[slug].values())

    def _forget(self, call: Call) -> None:
        calls = self._calls[call.ticket.slug]
        if calls.get(call.ticket.id) is call:
            del calls[call.ticket.id]
        if not any(self._calls.values()):
            self._idle.set()

    def _take(self, request_id: str) -> None:
        ticket = self._tickets.pop(request_id, None)
        if ticket is not None:
            self._queued[ticket.slug] -= 1

    def _put_back(self, ticket: Ticket, pause_ns: int = 0) -> None:
        self._tickets[ticket.id] = ticket
        self._queued[ticket.slug] += 1
        if pause_ns:
            heapq.heappush(self._pauses, (self.hub.now() + pause_ns, ticket.seq, ticket.id))
        else:
            heapq.heappush(self._turns[ticket.slug], (ticket.seq, ticket.id))

    def _first(self, slug: str) -> Ticket | None:
        """The oldest whose turn may come now; it stays."""
        turns = self._turns[slug]
        while turns:
            ticket = self._tickets.get(turns[0][1])
            if ticket is not None:
                return ticket
            heapq.heappop(turns)  # it was cancelled
        return None

    def _next(self, slug: str) -> Ticket | None:
        """The oldest whose turn may come now, taken out."""
        ticket = self._first(slug)
        if ticket is not None:
            heapq.heappop(self._turns[slug])
            self._take(ticket.id)
        return ticket


def _failure(request_id: str, code: str, detail: str) -> Ending:
    return Ending(request_id, RequestState.FAILED, code=code, reason=detail)
