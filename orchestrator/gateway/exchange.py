"""One request on a lane: wait, claim, forward, answer, release. The claim is given back exactly once, in `_leave`.

QUEUED ──granted──▶ CONNECTING ──connected──▶ RUNNING ──last byte──▶ OVER
   └─ refused, timed out, client gone: OVER       └─ worker lost: once more to QUEUED or CONNECTING, else OVER
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orchestrator.contract.base import SECOND_NS
from orchestrator.core.lane import Closed, Slot
from orchestrator.core.routing import Route
from orchestrator.gateway import wire
from orchestrator.gateway.answers import CONTINUE, Refusal
from orchestrator.gateway.chunks import LAST, frame
from orchestrator.gateway.head import ReplyHead, RequestHead

if TYPE_CHECKING:
    from orchestrator.gateway.inbound import ClientConnection
    from orchestrator.gateway.upstream import Pool, WorkerConnection


_QUEUED: Final = 0
_CONNECTING: Final = 1
_RUNNING: Final = 2
_OVER: Final = 3


class Exchange:
    """One admitted request. It is the lane's `Waiter` while it waits. Times are `now()` nanoseconds."""

    __slots__ = (
        "_account", "_body_done", "_chunk_out", "_client", "_cold", "_deadline_ns", "_dispatched_ns", "_head", "_held",
        "_pool", "_rejoined", "_replied", "_request_id", "_retried", "_route", "_spans", "_stage", "_target", "_worker",
        "arrived_ns", "head_only", "size_bytes",
    )  # fmt: skip

    def __init__(
        self,
        client: ClientConnection,
        head: RequestHead,
        route: Route,
        target: bytes,
        account: str,
        request_id: bytes,
        arrived_ns: int,
    ) -> None:
        self._client = client
        self._head = head
        self._route = route
        self._target = target
        self._account = account
        self._request_id = request_id
        self.arrived_ns = arrived_ns
        self.size_bytes = 0
        """Memory the body may take while it waits, as the lane's limit counts it."""
        self.head_only = head.method == b"HEAD"
        self._stage = _QUEUED
        self._pool: Pool | None = None
        self._worker: WorkerConnection | None = None
        self._dispatched_ns = arrived_ns
        self._deadline_ns = 0
        self._cold = False
        self._replied = False
        """A final reply head went to the client: from here on, failures can only cut the connection."""
        self._chunk_out = False
        self._retried = False
        self._rejoined = False
        self._body_done = not head.has_body
        self._spans: list[bytes] | None = [] if head.has_body else None
        """The body so far, while it waits or may have to be sent again; None once that is no longer possible."""
        self._held = 0

    # --- waiting

    def start(self) -> None:
        """Claim a worker or take a place in the queue. Raises Refusal 503 when the queue is full."""
        slot = self._route.lane.claim()
        if slot is not None:
            self._dispatch(slot, self.arrived_ns)
        elif not self._wait(self.arrived_ns):
            self._stage = _OVER
            self._route.meter.record(self.arrived_ns, total_ns=0, queue_ns=0, failed=True)
            raise Refusal(
                503, "queue_full", "Every worker is busy and the endpoint's queue is full; try again.", retry_after_s=1
            )

    def preload(self, body: bytes) -> None:
        """The whole body, read before the exchange began (it held the name of the model)."""
        self._spans = [body]
        self._held = len(body)
        self._body_done = True

    def granted(self, slot: Slot) -> None:
        """The lane's call: `slot` is claimed for this request."""
        self._dispatch(slot, self._client.hub.now())

    def refused(self, closed: Closed) -> None:
        """The lane's call: it closed while this request waited."""
        self._fail(Refusal(closed.status, closed.code, closed.message, retry_after_s=closed.retry_after_s))

    def _wait(self, now_ns: int) -> bool:
        lane, head, limit = self._route.lane, self._head, self._client.hub.limits.buffer_bytes
        if self._body_done:
            self.size_bytes = self._held
        else:
            self.size_bytes = limit if head.chunked else min(head.content_length, limit)
        self._stage = _QUEUED
        self._deadline_ns = now_ns + int(self._route.queue_timeout_s * SECOND_NS)
        if not any(slot.in_ring and not slot.suspect for slot in lane.slots.values()):
            self._cold = True
        return lane.enqueue(self)

    # --- sending

    def _dispatch(self, slot: Slot, now_ns: int) -> None:
        hub = self._client.hub
        self._dispatched_ns = now_ns
        self._deadline_ns = now_ns + int(self._route.execution_timeout_s * SECOND_NS)
        self._stage = _CONNECTING
        if slot.first_byte_ns is None:
            self._cold = True
        self._pool = pool = hub.pools.get(slot) or hub.pool(slot)
        worker = pool.take()
        if worker is None:
            pool.connect(self)
        else:
            self._send(pool, worker)

    def connected(self, pool: Pool, worker: WorkerConnection) -> bool:
        """A connection for this exchange is open; False when it is no longer wanted."""
        if self._stage != _CONNECTING or self._pool is not pool:
            return False
        self._send(pool, worker)
        return True

    def connect_failed(self, pool: Pool) -> None:
        """Nothing was sent, so any request may go to another worker."""
        if self._stage != _CONNECTING or self._pool is not pool:
            return
        self._pool = None
        self._route.lane.suspect(pool.slot)
        self._route.lane.unclaim(pool.slot)
        if not self._again():
            self._fail(Refusal(502, "worker_lost", "The worker could not be reached."))

    def _send(self, pool: Pool, worker: WorkerConnection) -> None:
        """Write the head and what is there of the body."""
        self._worker = worker
        self._stage = _RUNNING
        head = self._head
        request = wire.request_head(head, self._target, pool.host_line, self._request_id, self._client.peer_line)
        if self._spans is None:
            worker.begin(self, request)
            return
        spans = self._spans
        if self._held > self._client.hub.limits.buffer_bytes:
            self._spans = None
        if head.expects and not self._body_done and not self._held:
            self._client.write(CONTINUE)
        if head.chunked:
            body = (frame(spans) if spans else b"") + (LAST if self._body_done else b"")
        else:
            body = b"".join(spans)
        worker.begin(self, request + body)
        self._client.hold_for_buffer(False)

    def body(self, span: bytes) -> None:
        """A piece of the request body came in."""
        if self._spans is not None:
            self._spans.append(span)
            self._held += len(span)
            if self._held > self._client.hub.limits.buffer_bytes:
                if self._stage == _RUNNING:
                    self._spans = None
                else:
                    self._client.hold_for_buffer(True)
        if self._worker is not None:
            self._worker.send(frame([span]) if self._head.chunked else span)

    def body_end(self) -> None:
        """The request body is complete."""
        self._body_done = True
        if self._worker is not None and self._head.chunked:
            self._worker.send(LAST)

    def worker_full(self, full: bool) -> None:
        """The worker takes the body slower than the client sends it."""
        self._client.hold_for_worker(full)

    def client_full(self, full: bool) -> None:
        """The client takes the reply slower than the worker sends it."""
        if self._worker is not None:
            self._worker.hold(full)

    # --- the reply

    def interim(self, reply: ReplyHead) -> None:
        """A 1xx of the worker. 100 is not passed on: the client's Expect was answered by us."""
        if reply.status != 100 and self._head.minor:
            self._client.write(wire.interim_head(reply))

    def reply_whole(self, reply: ReplyHead, body: bytes) -> None:
        """Head and body came in one piece: the usual case, one write."""
        now_ns = self._client.hub.now()
        self._client.write(self._reply_head(reply, now_ns, bodiless=not body) + body)
        self._complete(now_ns, failed=reply.status >= 500)

    def reply_head(self, reply: ReplyHead, *, bodiless: bool) -> None:
        self._client.write(self._reply_head(reply, self._client.hub.now(), bodiless=bodiless))

    def reply_body(self, spans: list[bytes]) -> None:
        """Pieces of the reply, written at once: events of a stream must not wait for one another."""
        if self._chunk_out:
            self._client.write(frame(spans))
        else:
            self._client.write(spans[0] if len(spans) == 1 else b"".join(spans))

    def reply_end(self) -> None:
        if self._chunk_out:
            self._client.write(LAST)
        self._complete(self._client.hub.now(), failed=self._client.reply_status >= 500)

    def _reply_head(self, reply: ReplyHead, now_ns: int, *, bodiless: bool) -> bytes:
        client = self._client
        pool = self._pool
        assert pool is not None, "a reply without a worker"
        self._replied = True
        self._spans = None
        client.reply_status = reply.status
        if pool.slot.first_byte_ns is None:
            pool.slot.first_byte_ns = now_ns
        length = reply.content_length
        if length < 0 and not bodiless:
            if self._head.minor:
                self._chunk_out = True
            else:
                client.must_close = True  # HTTP/1.0: the end of the connection is the end of the body
        return wire.reply_head(
            reply,
            chunked=self._chunk_out or (reply.chunked and self.head_only and bool(self._head.minor)),
            connection=client.connection_line(),
            request_id=self._request_id,
            worker_line=pool.worker_line,
            queue_ns=self._dispatched_ns - self.arrived_ns,
            worker_ns=now_ns - self._dispatched_ns,
            cold=self._cold,
            balance=client.hub.balance(self._account),
        )

    # --- ends

    def _complete(self, now_ns: int, *, failed: bool) -> None:
        worker = self._worker
        assert worker is not None, "completed without a worker"
        self._worker = None
        worker.finish(now_ns, request_sent=self._body_done)
        self._leave(now_ns, failed=failed)
        self._client.over(now_ns)

    def reply_broken(self, refusal: Refusal) -> None:
        """The worker does not speak HTTP: never sent again, because it has worked on the request."""
        self._fail(refusal)

    def worker_lost(self, worker: WorkerConnection) -> None:
        """The connection ended before the reply did."""
        self._worker = None
        self._client.hold_for_worker(False)
        pool, lane = self._pool, self._route.lane
        assert pool is not None, "lost a worker that was not claimed"
        unanswered = not self._replied
        repeatable = unanswered and self._body_done and self._head.idempotent
        repeatable = repeatable and (self._spans is not None or not self._head.has_body)
        if repeatable and worker.reused and not self._rejoined:
            # A kept connection ran out just as we used it: nothing is wrong with the worker yet.
            self._rejoined = True
            self._stage = _CONNECTING
            pool.connect(self)
            return
        lane.suspect(pool.slot)
        if repeatable and not self._retried:
            self._pool = None
            lane.release(pool.slot, self._client.hub.now())
            if self._again():
                return
        self._fail(Refusal(502, "worker_lost", "The worker ended before it replied."))

    def _again(self) -> bool:
        """One more try with another worker, or in the queue; False when there was one, or the lane takes nothing."""
        lane = self._route.lane
        if self._retried or lane.closed is not None:
            return False
        self._retried = True
        now_ns = self._client.hub.now()
        slot = lane.claim()
        if slot is None:
            return self._wait(now_ns)
        self._dispatch(slot, now_ns)
        return True

    def client_gone(self) -> None:
        """The client left. Not a failure of ours."""
        if self._stage == _QUEUED:
            self._route.lane.cancel(self)
        self._drop_worker()
        self._leave(self._client.hub.now(), failed=False)

    def cut(self, refusal: Refusal, *, failed: bool) -> None:
        """End it for a reason of the gateway's own (body too large, malformed or stalled)."""
        if self._stage == _QUEUED:
            self._route.lane.cancel(self)
        self._fail(refusal, failed=failed)

    def sweep(self, now_ns: int) -> None:
        """Look at the deadline of the current stage."""
        if now_ns < self._deadline_ns:
            return
        if self._stage == _QUEUED:
            self._route.lane.cancel(self)
            limit = f"{self._route.queue_timeout_s:g} s"
            self._fail(Refusal(504, "queue_timeout", f"No worker became free within {limit}.", retry_after_s=10))
        else:
            assert self._pool is not None, "dispatched without a worker"
            if not self._route.cancels:
                self._route.lane.demand_recycle(self._pool.slot)
            limit = f"{self._route.execution_timeout_s:g} s"
            self._fail(Refusal(504, "execution_timeout", f"The worker did not finish within {limit}."))

    def _fail(self, refusal: Refusal, *, failed: bool | None = None) -> None:
        """Answer with `refusal`, or cut the client off when a reply has begun: never a clean end of half a reply."""
        self._drop_worker()
        now_ns = self._client.hub.now()
        self._leave(now_ns, failed=refusal.status >= 500 if failed is None else failed)
        if self._replied:
            self._client.abort()
        else:
            self._client.refuse(refusal, self._request_id)

    def _drop_worker(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.drop()

    def _leave(self, now_ns: int, *, failed: bool) -> None:
        """Give the claim back and count the request. The one place, and it happens once."""
        assert self._stage != _OVER, "an exchange ended twice"
        waited_until = now_ns if self._stage == _QUEUED else self._dispatched_ns
        self._stage = _OVER
        self._route.meter.record(
            now_ns, total_ns=now_ns - self.arrived_ns, queue_ns=waited_until - self.arrived_ns, failed=failed
        )
        pool, self._pool = self._pool, None
        if pool is not None:
            self._route.lane.release(pool.slot, now_ns)
