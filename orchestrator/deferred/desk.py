"""Where asynchronous calls come in and are asked about: the gateway's port `Deferrals`, and the front ends' questions.

Acceptance is the promise: the 202 goes out after the commit that holds the call and its whole body, so from then on
nothing short of the disk can lose it. What an endpoint may hold is bounded by number and by bytes, counted from the
first byte of an upload to the purge of the result.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Final

from orchestrator.contract.deferred import RequestState
from orchestrator.core.routing import KeyGrant
from orchestrator.deferred.call import later
from orchestrator.deferred.courier import Courier
from orchestrator.deferred.intake import Intake, Stock, unavailable
from orchestrator.deferred.records import Ending, Kept, Order, Purged, Record
from orchestrator.deferred.rules import Bounds, read_wishes
from orchestrator.deferred.runner import Runner
from orchestrator.deferred.store import DeferredStore, Loaded, StoreError, Taken
from orchestrator.deferred.telling import describe
from orchestrator.deferred.webhook import Allowance, read_url
from orchestrator.gateway.answers import Refusal, json_body
from orchestrator.gateway.deferral import Answer, Handed, Result, Upload
from orchestrator.gateway.hub import Hub

log = logging.getLogger(__name__)

SWEEP_S: Final = 0.5
PURGE_EVERY: Final = 20
"""Sweeps from one purge to the next."""
LOAD_EVERY: Final = 10
"""Sweeps from one attempt to open the file to the next."""


class DeferredDesk:
    """Implements `Deferrals`. `start` it once the routing table is there, `drain` and `close` it with the gateway."""

    def __init__(self, store: DeferredStore, hub: Hub, courier: Courier, bounds: Bounds, allowance: Allowance) -> None:
        self.store = store
        self.hub = hub
        self.courier = courier
        self.stock = Stock(bounds)
        self.runner = Runner(store, hub, bounds, self._ended)
        self._allowance = allowance
        self._open = False
        hub.deferrals = self
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take up what an earlier orchestrator left. A file that cannot be opened is tried again and again: meanwhile
        live requests are served and asynchronous ones refused."""
        await self._load()
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep_for_ever())

    async def drain(self, grace_s: float) -> None:
        await self.runner.drain(grace_s)

    async def close(self) -> None:
        """Stop; the file is closed by whoever opened the store."""
        self._open = False
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self.runner.drain(0)
        await self.courier.close()

    # --- the gateway's port

    def begin(self, handed: Handed, hold: Callable[[bool], None], broken: Callable[[Refusal], None]) -> Upload:
        if not self._open:
            raise unavailable()
        target, mark, query = handed.target.partition(b"?")
        wishes, lines, query = read_wishes(handed.lines, mark + query)
        if wishes.webhook is not None:
            try:
                read_url(wishes.webhook, self._allowance)
            except ValueError as error:
                raise Refusal(400, "webhook_refused", f"{str(error).capitalize()}.") from None
        order = Order(
            id=secrets.token_hex(16),
            slug=handed.route.slug,
            account=handed.grant.account,
            key_id=handed.grant.key_id,
            base=handed.base,
            target=target + query,
            head=b"\r\n".join(lines),
            attempts_max=wishes.attempts_max,
            idempotency_key=wishes.idempotency_key,
            webhook=wishes.webhook,
        )
        self.stock.take(order.slug, 1, handed.announced_bytes)
        return Intake(self, order, handed.announced_bytes, hold, broken)

    def look(self, request_id: str, grant: KeyGrant, base: str, done: Callable[[Answer | Refusal], None]) -> None:
        def found(record: Record | None) -> Answer | Refusal:
            if record is None or not _may_see(record, grant):
                return _unknown()
            return Answer(200, [*_JSON, *_hurry(record)], json_body(describe(self.as_it_waits(record), base)))

        self._answer(self.store.find(request_id), found, done)

    def cancel(self, request_id: str, grant: KeyGrant, base: str, done: Callable[[Answer | Refusal], None]) -> None:
        def found(record: Record | None) -> Answer | Refusal | None:
            if record is None or not _may_see(record, grant):
                return _unknown()
            if record.state is RequestState.CANCELLED:
                return Answer(200, _JSON, json_body(describe(record, base)))
            if record.state.over:
                return Refusal(409, "request_over", f"The call is {record.state} already; there is nothing to cancel.")
            later(self.store.end(_cancellation(request_id)), ended)
            return None

        def ended(future: Future[Record | None]) -> None:
            cancelled = None if future.exception() is not None else future.result()
            if cancelled is not None:
                self._dropped(cancelled)
            if future.exception() is not None:
                done(unavailable())
            else:
                self.cancel(request_id, grant, base, done)  # says what it has become, whoever was first

        self._answer(self.store.find(request_id), found, done)

    def fetch(self, request_id: str, grant: KeyGrant, done: Callable[[Result | Refusal], None]) -> None:
        def found(kept: Kept | None) -> Result | Refusal:
            if kept is None or not _may_see(kept.record, grant):
                return _unknown()
            record = kept.record
            if not record.state.over:
                text = f"The call is {record.state}; there is no result yet."
                return Refusal(409, "result_not_ready", text, retry_after_s=1)
            if record.worker_status is None:
                text = f"The call is {record.state} and has no result. {record.reason or ''}".rstrip()
                return Refusal(410, "no_result", text)
            lines = [line for line in kept.head.split(b"\r\n") if line and not line.lower().startswith(_STATE)]
            lines.append(b"x-request-state: %b" % record.state.value.encode())
            if record.worker_id is not None:
                lines.append(b"x-worker-id: %b" % record.worker_id.encode("ascii", "replace"))
            return Result(request_id, record.worker_status, lines, record.result_bytes, kept.parts)

        self._answer(self.store.kept(request_id), found, done)

    def part(self, request_id: str, n: int, done: Callable[[bytes | Refusal], None]) -> None:
        self._answer(self.store.result(request_id, n), lambda data: _unknown() if data is None else data, done)

    # --- what front ends need

    def as_it_waits(self, record: Record) -> Record:
        """A QUEUED call with what it waits for now, besides its turn."""
        if record.state is not RequestState.QUEUED:
            return record
        route = self.hub.table.routes.get(record.slug)
        closed = None if route is None else route.lane.closed
        return record if closed is None else replace(record, reason=closed.message)

    async def end_by_owner(self, request_id: str) -> Record | None:
        """Cancel it; None when it was over already, or there is none. Raises StoreError."""
        ended = await asyncio.wrap_future(self.store.end(_cancellation(request_id)))
        if ended is not None:
            self._dropped(ended)
        return ended

    # --- inside

    def accepted(self, taken: Taken, upload: Intake, done: Callable[[Answer | Refusal], None]) -> None:
        """The commit of an upload came back."""
        record = taken.record
        if taken.was != "new":
            self.stock.give_back(upload.order.slug, 1, upload.reserved)
        if taken.was == "another":
            text = "This Idempotency-Key was used for another call; its endpoint, query or body differs."
            done(Refusal(409, "idempotency_conflict", text))
            return
        if taken.was == "new":
            record = replace(record, position=self.runner.queued(record.slug) + 1)
            self.runner.add(record)
        fields = [*_JSON, ("location", f"/v2/requests/{record.id}")]
        if taken.was == "same":
            fields.append(("idempotent-replayed", "true"))
        done(Answer(202, fields, json_body(describe(self.as_it_waits(record), upload.order.base))))

    def _answer(self, future: Future[Any], make: Callable[[Any], Any], done: Callable[[Any], None]) -> None:
        def then(ended: Future[Any]) -> None:
            if ended.exception() is not None:
                log.error("asynchronous calls: %s", ended.exception())
                done(unavailable())
                return
            answer = make(ended.result())
            if answer is not None:
                done(answer)

        later(future, then)

    def _dropped(self, record: Record) -> None:
        self.runner.drop(record)
        self._ended(record)

    def _ended(self, record: Record) -> None:
        self.stock.give_back(record.slug, 1, record.body_bytes - record.result_bytes)
        if record.hook_state == "owed":
            self.courier.owe(record)

    async def _load(self) -> None:
        try:
            loaded: Loaded = await asyncio.wrap_future(self.store.load())
        except StoreError as error:
            log.error("asynchronous calls are refused: %s", error)
            return
        self.stock.bytes.update(loaded.held_bytes)
        for record in loaded.queued:
            self.stock.requests[record.slug] += 1
            self.runner.add(record)
        for record in loaded.owed:
            self.courier.owe(record)
        if loaded.queued or loaded.owed:
            log.info("%d asynchronous calls and %d webhooks go on", len(loaded.queued), len(loaded.owed))
        self._open = True

    async def _sweep_for_ever(self) -> None:
        turn = 0
        while True:
            await asyncio.sleep(SWEEP_S)
            turn += 1
            # Outside the task: an error in one sweep goes to the loop's handler and must not be the last of them.
            asyncio.get_running_loop().call_soon(self.runner.sweep, self.hub.now())
            if not self._open and turn % LOAD_EVERY == 0:
                await self._load()
            if self._open and turn % PURGE_EVERY == 0:
                await self._purge()

    async def _purge(self) -> None:
        more = True
        while more:
            try:
                purged: Purged = await asyncio.wrap_future(self.store.purge())
            except StoreError as error:
                log.error("old results cannot be purged: %s", error)
                return
            for slug, size in purged.bytes.items():
                self.stock.give_back(slug, 0, size)
            more = purged.more


_JSON: Final = [("content-type", "application/json")]
_STATE: Final = b"x-request-state:"
"""Ours: a worker's own is not passed on."""


def _may_see(record: Record, grant: KeyGrant) -> bool:
    return record.account == grant.account and (not grant.endpoints or record.slug in grant.endpoints)


def _unknown() -> Refusal:
    return Refusal(404, "no_such_request", "There is no such call; results are kept for an hour after their end.")


def _hurry(record: Record) -> list[tuple[str, str]]:
    """How soon it makes sense to ask again."""
    return [] if record.state.over else [("retry-after", "1")]


def _cancellation(request_id: str) -> Ending:
    return Ending(request_id, RequestState.CANCELLED, code="cancelled", reason="Its owner cancelled it.")
