"""How a call comes in: room for it, and its body on the way to the disk."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, Protocol

from orchestrator.deferred.call import later
from orchestrator.deferred.records import Order
from orchestrator.deferred.rules import PART_BYTES, UNSAVED_BYTES_MAX, Bounds
from orchestrator.deferred.store import DeferredStore, Taken
from orchestrator.gateway.answers import Refusal
from orchestrator.gateway.deferral import Answer

log = logging.getLogger(__name__)

FULL_RETRY_S: Final = 10
UNAVAILABLE_RETRY_S: Final = 5


def _full(detail: str) -> Refusal:
    return Refusal(503, "deferred_full", detail, retry_after_s=FULL_RETRY_S)


def unavailable() -> Refusal:
    """What is said while the disk does not take anything."""
    return Refusal(
        503,
        "deferred_unavailable",
        "The queue of asynchronous calls cannot be read or written now.",
        retry_after_s=UNAVAILABLE_RETRY_S,
    )


class Stock:
    """What an endpoint holds now: calls that are not over, and bytes of bodies and results. In memory, derived from the
    file at start."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self.requests: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def take(self, slug: str, requests: int, size: int) -> None:
        """Raises Refusal 503 when there is no room for it."""
        bounds = self._bounds
        if self.requests[slug] + requests > bounds.requests:
            raise _full(f"The endpoint holds {bounds.requests:,} asynchronous calls, its maximum; try again later.")
        if self.bytes[slug] + size > bounds.bytes:
            raise _full(f"The endpoint holds {bounds.bytes:,} bytes of asynchronous calls, its maximum; try later.")
        self.requests[slug] += requests
        self.bytes[slug] += size

    def give_back(self, slug: str, requests: int, size: int) -> None:
        self.requests[slug] -= requests
        self.bytes[slug] -= size


class Acceptor(Protocol):
    """What an upload needs of the desk."""

    store: DeferredStore
    stock: Stock

    def accepted(self, taken: Taken, upload: Intake, done: Callable[[Answer | Refusal], None]) -> None:
        """The commit came back."""


class Intake:
    """The body of one call on its way to the disk."""

    def __init__(
        self,
        desk: Acceptor,
        order: Order,
        announced_bytes: int,
        hold: Callable[[bool], None],
        broken: Callable[[Refusal], None],
    ) -> None:
        self.order = order
        self.request_id = order.id
        self.reserved = announced_bytes
        """Bytes counted in the endpoint's stock for it."""
        self._desk = desk
        self._hold = hold
        self._broken = broken
        self._part = bytearray()
        """What is not on its way to the disk yet."""
        self._bytes = 0
        self._parts = 0
        self._unsaved = 0
        self._over = False

    def add(self, span: bytes) -> None:
        self._bytes += len(span)
        if self._bytes > self.reserved:
            try:
                self._desk.stock.take(self.order.slug, 0, self._bytes - self.reserved)
            except Refusal as refusal:
                self._broken(refusal)
                return
            self.reserved = self._bytes
        self._part += span
        if len(self._part) >= PART_BYTES:
            self._save()

    def commit(self, done: Callable[[Answer | Refusal], None]) -> None:
        self._over = True
        desk = self._desk

        def then(ended: Future[Taken]) -> None:
            if ended.exception() is not None:
                log.error("an asynchronous call could not be accepted: %s", ended.exception())
                self.discard()
                done(unavailable())
            else:
                desk.accepted(ended.result(), self, done)

        later(desk.store.accept(self.order, bytes(self._part), self._parts, self._bytes), then)

    def discard(self) -> None:
        self._over = True
        self._desk.stock.give_back(self.order.slug, 1, self.reserved)
        self._desk.store.discard(self.request_id)

    def _save(self) -> None:
        data = bytes(self._part)
        self._part.clear()
        size = len(data)
        later(self._desk.store.add_body(self.request_id, self._parts, data), lambda done: self._saved(size, done))
        self._parts += 1
        self._unsaved += size
        if self._unsaved > UNSAVED_BYTES_MAX:
            self._hold(True)

    def _saved(self, size: int, done: Future[None]) -> None:
        self._unsaved -= size
        if self._over:
            return
        if done.exception() is not None:
            log.error("a body could not be kept: %s", done.exception())
            self._broken(unavailable())
        elif self._unsaved <= UNSAVED_BYTES_MAX:
            self._hold(False)
