"""The body of a request on its way from client to worker: kept while the request waits and as long as it may have to be
sent again, then passed on as it comes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from orchestrator.gateway.chunks import LAST, frame
from orchestrator.gateway.spool import Spool

if TYPE_CHECKING:
    from orchestrator.gateway.caller import Caller
    from orchestrator.gateway.head import RequestHead
    from orchestrator.gateway.upstream import WorkerConnection

log = logging.getLogger(__name__)

_CRUMB_BYTES: Final = 512
"""Pieces that are smaller together are kept as one: an object costs some forty bytes, whatever it holds."""


class Upload:
    """In memory are at most `Limits.buffer_bytes` (and one read of the client) of it; what waits beyond is spooled."""

    __slots__ = ("_client", "_full", "_head", "_held_bytes", "_spans", "_spool", "_worker", "done")

    def __init__(self, client: Caller, head: RequestHead) -> None:
        self._client = client
        self._head = head
        self._spans: list[bytes] | None = []
        """Its beginning; None once that cannot be sent again."""
        self._held_bytes = 0
        self._spool: Spool | None = None
        """What follows `_spans`, in the time before the worker has caught up."""
        self._worker: WorkerConnection | None = None
        self._full = False
        self.done = False
        """All of it has come from the client."""

    @property
    def empty(self) -> bool:
        """Nothing of it has come."""
        return not self._held_bytes

    @property
    def sent(self) -> bool:
        """The worker has been given all of it."""
        return self.done and self._spool is None

    @property
    def repeatable(self) -> bool:
        """All of it is here and can be sent from its beginning."""
        return self.sent and self._spans is not None

    @property
    def size_bytes(self) -> int:
        """Memory it may take while it waits."""
        limit = self._client.hub.limits.buffer_bytes
        if self.done:
            return self._held_bytes
        return limit if self._head.chunked else min(self._head.content_length, limit)

    def preload(self, body: bytes) -> None:
        """The whole body, read before."""
        self._spans = [body]
        self._held_bytes = len(body)
        self.done = True

    # --- from the client

    def add(self, span: bytes, *, waits: bool) -> None:
        """A piece came in; `waits` says that the request has no worker yet."""
        if self._spool is not None:
            if not self._spool.append(span):
                self._client.hold_for_buffer(True)
            return
        spans = self._spans
        if spans is not None:
            if spans and len(spans[-1]) + len(span) <= _CRUMB_BYTES:
                spans[-1] += span
            else:
                spans.append(span)
            self._held_bytes += len(span)
            if self._held_bytes > self._client.hub.limits.buffer_bytes:
                if self._worker is not None:
                    self._spans = None
                elif not waits or not self._open_spool():
                    self._client.hold_for_buffer(True)
        if self._worker is not None:
            self._worker.send(frame([span]) if self._head.chunked else span)

    def end(self) -> None:
        """It is complete."""
        self.done = True
        if self._worker is not None and self._spool is None and self._head.chunked:
            self._worker.send(LAST)

    def _open_spool(self) -> bool:
        disk = self._client.hub.disk
        if disk.left <= 0:
            return False
        try:
            self._spool = Spool(disk)
        except OSError as error:
            log.warning("bodies of waiting requests stay with their clients: %s", error)
            return False
        return True

    # --- to the worker

    def begin(self, worker: WorkerConnection) -> bytes:
        """Its beginning, to go out with the head on `worker`; `go_on` must follow."""
        self._worker = worker
        spans = self._spans
        assert spans is not None, "a body that is gone cannot be sent"
        if self._held_bytes > self._client.hub.limits.buffer_bytes:
            self._spans = None
        if not self._head.chunked:
            return b"".join(spans)
        return (frame(spans) if spans else b"") + (LAST if self.sent else b"")

    def go_on(self) -> None:
        """Send what has been spooled, as fast as the worker takes it; after that the client is read again. Raises
        OSError when the spool cannot be read."""
        spool, worker = self._spool, self._worker
        while spool is not None and worker is not None and not self._full and spool.left:
            data = spool.read()
            worker.send(frame([data]) if self._head.chunked else data)
        if spool is not None:
            if spool.left:
                self._client.hold_for_buffer(True)
                return
            self.close()
            if self.done and self._head.chunked and worker is not None:
                worker.send(LAST)
        self._client.hold_for_buffer(False)

    def worker_full(self, full: bool) -> None:
        """The worker takes it slower than it comes, or goes on. Raises OSError as `go_on` does."""
        self._full = full
        if not full and self._spool is not None:
            self.go_on()

    def lose_worker(self) -> None:
        """The connection it was being sent on is gone."""
        self._worker = None
        self._full = False

    def close(self) -> None:
        """The spool is not needed any more."""
        spool, self._spool = self._spool, None
        if spool is not None:
            spool.close()
