"""One attempt at an asynchronous call: it waits in the endpoint's lane like any request, then plays the client of an
Exchange, so that dispatch, retry, time-outs, meters and release are those of live requests.

    WAITING ──granted──▶ TAKEN ──attempt is on disk──▶ RUNNING ──▶ OVER
       └─ lets live ones pass: WAITING again

The attempt is written between grant and dispatch: what a worker may have seen always counts, also after a SIGKILL. To
the Exchange it speaks HTTP/1.0, whose replies are never chunked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Protocol

from orchestrator.contract.endpoint import may_call
from orchestrator.core.lane import Closed, Slot
from orchestrator.core.routing import Route
from orchestrator.deferred.records import Ending, Record, Started
from orchestrator.deferred.rules import PART_BYTES, UNSAVED_BYTES_MAX, YIELD_NS, Bounds, state_of
from orchestrator.deferred.store import DeferredStore
from orchestrator.gateway.answers import Refusal
from orchestrator.gateway.exchange import Exchange
from orchestrator.gateway.head import ReplyHead, RequestHead, scan_reply
from orchestrator.gateway.hub import Hub

_WORKER: Final = b"x-worker-id: "


@dataclass(frozen=True, slots=True)
class Ticket:
    """A QUEUED call in its endpoint's order. Attempts are those already made; `deadline_ns` ends its waiting."""

    seq: int
    id: str
    slug: str
    account: str
    key_id: str
    body_bytes: int
    attempts: int
    attempts_max: int
    deadline_ns: int


def ticket_of(record: Record, wait_ns: int) -> Ticket:
    return Ticket(
        seq=record.seq,
        id=record.id,
        slug=record.slug,
        account=record.account,
        key_id=record.key_id,
        body_bytes=record.body_bytes,
        attempts=record.attempts,
        attempts_max=record.attempts_max,
        deadline_ns=record.accepted_ns + wait_ns,
    )


class Stage(Enum):
    NEW = "new"
    WAITING = "waiting"
    TAKEN = "taken"
    RUNNING = "running"
    OVER = "over"


class Office(Protocol):
    """What a call needs of the runner. Each call reports exactly one of the last four, unless it is dropped."""

    hub: Hub
    store: DeferredStore
    bounds: Bounds

    def others_waiting(self, call: Call) -> int:
        """How many asynchronous calls other than this one wait in its lane."""

    def ended(self, call: Call, ending: Ending) -> None:
        """A worker has answered."""

    def failed(self, call: Call, code: str, detail: str) -> None:
        """The attempt brought no reply."""

    def sent_back(self, call: Call, closed: Closed | None) -> None:
        """It never was an attempt: the lane closed, or the disk did not take it."""

    def vanished(self, call: Call) -> None:
        """It was cancelled before a worker saw it."""


def later(future: Future[Any], then: Callable[[Future[Any]], None]) -> None:
    """Call `then` in the running loop once the store's thread is done."""
    loop = asyncio.get_running_loop()
    future.add_done_callback(lambda done: loop.call_soon_threadsafe(then, done))


class Call:
    """The lane's Waiter, then the Exchange's Caller."""

    def __init__(self, ticket: Ticket, route: Route, office: Office) -> None:
        self.ticket = ticket
        self.route = route
        self.stage = Stage.NEW
        self.hub = office.hub
        self.arrived_ns = office.hub.now()
        self.size_bytes = 0
        """Its body waits on the disk, not in memory."""
        self.body_bytes = ticket.body_bytes
        self.peer_line = b""
        self.reply_status = 0
        self.must_close = False
        self._office = office
        self._exchange: Exchange | None = None
        self._body: _BodyFeed | None = None
        self._reply: ReplyHead | None = None
        self._worker_id: str | None = None
        self._part = bytearray()
        """What is there of the result and not on its way to the disk yet."""
        self._result_bytes = 0
        self._parts = 0
        self._unsaved_bytes = 0
        self._problem: tuple[str, str] | None = None
        """Why the reply that is coming in cannot be kept."""
        self._ending: Ending | None = None
        """How it ended, while parts of its result are still on their way to the disk."""

    # --- in the lane

    def join(self) -> bool:
        """Claim a worker or take a place in the lane; False when it has no room."""
        slot = self.route.lane.claim()
        if slot is not None:
            self._take(slot)
        elif self.route.lane.enqueue(self):
            self.stage = Stage.WAITING
        return self.stage is not Stage.NEW

    def granted(self, slot: Slot) -> None:
        """The lane's call. Live requests that wait are let pass for a while: it gives its claim back to them."""
        lane = self.route.lane
        live = lane.queued > self._office.others_waiting(self)
        if live and self.hub.now() - self.arrived_ns < YIELD_NS and lane.enqueue(self):
            lane.unclaim(slot)
        else:
            self._take(slot)

    def refused(self, closed: Closed) -> None:
        """The lane's call: it closed."""
        self.stage = Stage.OVER
        self._office.sent_back(self, closed)

    def _take(self, slot: Slot) -> None:
        if not may_call(self.ticket.account, self.route):  # hours may have passed: it was public, or has a new owner
            self._fail("endpoint_private", "The endpoint belongs to another account and is not public any more.")
            self.route.lane.unclaim(slot)
            return
        self.stage = Stage.TAKEN
        later(self._office.store.start(self.ticket.id), lambda done: self._begin(slot, done))

    def _begin(self, slot: Slot, done: Future[Started | None]) -> None:
        started = None if done.exception() is not None else done.result()
        if self.stage is Stage.OVER:
            self.route.lane.unclaim(slot)
        elif started is None:
            self.stage = Stage.OVER
            self.route.lane.unclaim(slot)
            if done.exception() is not None:
                self._office.sent_back(self, None)
            else:
                self._office.vanished(self)
        else:
            self._run(slot, started)

    # --- with a worker

    def _run(self, slot: Slot, started: Started) -> None:
        head = RequestHead(b"POST", started.target, 0)
        head.kept = started.head.split(b"\r\n") if started.head else []
        head.content_length = self.ticket.body_bytes
        if self.hub.observer is not None:
            head = self.hub.observer.admitted(head)
        exchange = Exchange(
            self,
            head,
            self.route,
            started.target,
            self.ticket.account,
            self.ticket.id.encode("ascii"),
            self.arrived_ns,
            self.ticket.key_id,
            alone=True,  # a kept connection that ran out would look like a worker that died, and cost an attempt
        )
        self._exchange = exchange
        self.stage = Stage.RUNNING
        if started.parts == 1:
            exchange.preload(started.first)
        elif started.parts:
            exchange.body(started.first)
            self._body = _BodyFeed(self, exchange, self._office.store, started.parts)
        exchange.granted(slot)
        if self._body is not None:
            self._body.go_on()

    def cancel(self) -> None:
        """End it without a report. A worker at it sees its connection close."""
        stage, self.stage = self.stage, Stage.OVER
        if stage is Stage.WAITING:
            self.route.lane.cancel(self)
        elif stage is Stage.RUNNING and self._exchange is not None:
            self._exchange.client_gone()

    def sweep(self, now_ns: int) -> None:
        """Look at the deadline of the attempt."""
        if self.stage is Stage.RUNNING and self._exchange is not None:
            self._exchange.sweep(now_ns)

    def hold_for_buffer(self, held: bool) -> None:
        if self._body is not None:
            self._body.hold(buffer=held)

    def hold_for_worker(self, held: bool) -> None:
        if self._body is not None:
            self._body.hold(worker=held)

    def connection_line(self) -> bytes:
        return b""

    def write(self, data: bytes) -> None:
        """The exchange's call: the reply's head, then its body."""
        if self._reply is None:
            head, _, data = data.partition(b"\r\n\r\n")
            self._reply = scan_reply(head, self.hub.limits.fields * 2)
            named = [line for line in head.split(b"\r\n") if line.startswith(_WORKER)]
            self._worker_id = named[0][len(_WORKER) :].decode("ascii", "replace") if named else None
        if not data or self._problem is not None:
            return
        self._result_bytes += len(data)
        if self._result_bytes > self._office.bounds.result_bytes:
            self._stop("result_too_large", f"The reply has more than {self._office.bounds.result_bytes} bytes.")
            return
        self._part += data
        if len(self._part) >= PART_BYTES:
            self._save(bytes(self._part))
            self._part.clear()

    def over(self, now_ns: int) -> None:
        """The exchange's call: the reply is complete."""
        if self.stage is Stage.OVER:
            return
        self.stage = Stage.OVER
        if self._problem is not None:
            self._office.failed(self, *self._problem)
            return
        assert self._reply is not None, "complete without a head"
        failed = self._reply.status >= 400
        self._ending = Ending(
            self.ticket.id,
            state_of(self._reply.status),
            worker_status=self._reply.status,
            worker_id=self._worker_id,
            result_head=b"\r\n".join(self._reply.kept),
            result_bytes=self._result_bytes,
            tail=bytes(self._part),
            tail_n=self._parts,
            code="worker_error" if failed else None,
            reason=f"The worker answered {self._reply.status}." if failed else None,
        )
        if not self._unsaved_bytes:
            self._office.ended(self, self._ending)

    def refuse(self, refusal: Refusal, request_id: bytes) -> None:
        """The exchange's call: there is no reply."""
        self._fail(refusal.code, refusal.detail)

    def abort(self, refusal: Refusal) -> None:
        """The exchange's call: the reply broke off. A time-out or a lie is as final then as before the reply began."""
        self._fail(refusal.code, refusal.detail)

    def _fail(self, code: str, detail: str) -> None:
        if self.stage is not Stage.OVER:
            self.stage = Stage.OVER
            self._office.failed(self, code, detail)

    # --- keeping the result

    def _save(self, data: bytes) -> None:
        size = len(data)
        later(self._office.store.add_result(self.ticket.id, self._parts, data), lambda done: self._saved(size, done))
        self._parts += 1
        before, self._unsaved_bytes = self._unsaved_bytes, self._unsaved_bytes + size
        if before <= UNSAVED_BYTES_MAX < self._unsaved_bytes and self._exchange is not None:
            self._exchange.client_full(True)

    def _saved(self, size: int, done: Future[None]) -> None:
        before, self._unsaved_bytes = self._unsaved_bytes, self._unsaved_bytes - size
        if done.exception() is not None:
            self._stop("storage", "The reply could not be written to the disk.")
        elif self.stage is Stage.RUNNING and before > UNSAVED_BYTES_MAX >= self._unsaved_bytes:
            assert self._exchange is not None, "running without an exchange"
            self._exchange.client_full(False)
        if self._ending is not None and not self._unsaved_bytes:
            # Told of before, the end could be on the disk without a part of the result, and count as complete.
            if self._problem is None:
                self._office.ended(self, self._ending)
            else:
                self._office.failed(self, *self._problem)

    def _stop(self, code: str, detail: str) -> None:
        """The reply is not wanted any more. Not at once: the exchange may be in the middle of writing it."""
        if self._problem is None:
            self._problem = (code, detail)
            self._part.clear()
            asyncio.get_running_loop().call_soon(self._give_up)

    def _give_up(self) -> None:
        if self.stage is Stage.RUNNING and self._exchange is not None and self._problem is not None:
            self.stage = Stage.OVER
            self._exchange.client_gone()
            self._office.failed(self, *self._problem)


class _BodyFeed:
    """Hands a body of several parts to the exchange, as fast as the worker takes it."""

    def __init__(self, call: Call, exchange: Exchange, store: DeferredStore, parts: int) -> None:
        self._call = call
        self._exchange = exchange
        self._store = store
        self._parts = parts
        self._n = 1
        self._fetching = False
        self._full = False
        self._slow = False

    def hold(self, *, buffer: bool | None = None, worker: bool | None = None) -> None:
        self._full = self._full if buffer is None else buffer
        self._slow = self._slow if worker is None else worker
        self.go_on()

    def go_on(self) -> None:
        running = self._call.stage is Stage.RUNNING
        if running and not (self._full or self._slow or self._fetching) and self._n < self._parts:
            self._fetching = True
            later(self._store.body(self._call.ticket.id, self._n), self._fetched)

    def _fetched(self, done: Future[bytes | None]) -> None:
        self._fetching = False
        if self._call.stage is not Stage.RUNNING:
            return
        data = None if done.exception() is not None else done.result()
        if data is None:
            self._exchange.cut(Refusal(503, "storage", "The body could not be read back from the disk."), failed=True)
            return
        self._n += 1
        self._exchange.body(data)
        if self._n == self._parts:
            self._exchange.body_end()
        self.go_on()
