"""One request on a lane: wait, claim, forward, answer, release. The claim is given back exactly once, in `_leave`.

QUEUED ──granted──▶ CONNECTING ──connected──▶ RUNNING ──last byte──▶ OVER
   └─ refused, timed out, client gone: OVER       └─ worker lost: once more to QUEUED or CONNECTING, else OVER
"""

from __future__ import annotations

from asyncio import Task
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, cast

from orchestrator.contract.base import SECOND_NS
from orchestrator.core.lane import Closed, Slot, Waiter
from orchestrator.core.routing import Route
from orchestrator.gateway import websocket, wire
from orchestrator.gateway.answers import CONTINUE, Refusal
from orchestrator.gateway.chunks import LAST, frame
from orchestrator.gateway.head import ReplyHead, RequestHead
from orchestrator.gateway.observing import LEFT, Ended
from orchestrator.gateway.tunnel import Tunnel
from orchestrator.gateway.upload import Upload

if TYPE_CHECKING:
    from orchestrator.gateway.caller import Caller
    from orchestrator.gateway.inbound import ClientConnection
    from orchestrator.gateway.upstream import Pool, WorkerConnection


_MS_NS: Final = 1_000_000
_QUEUED: Final = 0
_CONNECTING: Final = 1
_RUNNING: Final = 2
_OVER: Final = 3
_SWITCHING: Final = 101


class Exchange:
    """One admitted request. It is the lane's `Waiter` while it waits. Times are `now()` nanoseconds."""

    __slots__ = (
        "_account", "_alone", "_bytes_out", "_chunk_out", "_client", "_cold", "_head", "_key_id", "_limit_s",
        "_opening", "_pool", "_rejoined", "_replied", "_request_id", "_retried", "_route", "_since_ns", "_stage",
        "_target", "_upload", "_worker", "arrived_ns", "dispatched_ns", "head_only", "size_bytes",
    )  # fmt: skip

    def __init__(
        self,
        client: Caller,
        head: RequestHead,
        route: Route,
        target: bytes,
        account: str,
        request_id: bytes,
        arrived_ns: int,
        key_id: str = "",
        *,
        alone: bool = False,
    ) -> None:
        """`alone`: never over a kept connection, which may end at the very moment it is used."""
        self._client = client
        self._head = head
        self._route = route
        self._target = target
        self._account = account
        self._key_id = key_id
        self._alone = alone
        self._bytes_out = 0
        self._request_id = request_id
        self.arrived_ns = arrived_ns
        self.size_bytes = 0
        """Memory the body may take while it waits, as the lane's limit counts it."""
        self.head_only = head.method == b"HEAD"
        self._stage = _QUEUED
        self._pool: Pool | None = None
        self._worker: WorkerConnection | None = None
        self._opening: Task[None] | None = None
        """The attempt to connect to it."""
        self.dispatched_ns = arrived_ns  # that is, while it waits
        self._since_ns = arrived_ns
        self._limit_s = 0.0
        """How long it may wait or run, from `_since_ns` on; as the endpoint said then, not as it says now."""
        self._cold = False
        self._replied = False
        """A final reply head went to the client: from here on, failures can only cut the connection."""
        self._chunk_out = False
        self._retried = False
        self._rejoined = False
        self._upload = Upload(client, head) if head.has_body else None

    # --- waiting

    def start(self) -> None:
        """Claim a worker or take a place in the queue. Raises Refusal 503 when the queue is full."""
        slot = self._route.lane.claim()
        if slot is not None:
            self._dispatch(slot, self.arrived_ns)
        elif not self._wait(self.arrived_ns, self._route.lane.enqueue):
            self._stage = _OVER
            self._route.meter.record(self.arrived_ns, total_ns=0, queue_ns=0, failed=True, status=503)
            raise Refusal(
                503, "queue_full", "Every worker is busy and the endpoint's queue is full; try again.", retry_after_s=1
            )

    def preload(self, body: bytes) -> None:
        """The whole body, read before the exchange began (it held the name of the model)."""
        self._upload = Upload(self._client, self._head)
        self._upload.preload(body)

    def granted(self, slot: Slot) -> None:
        """The lane's call: `slot` is claimed for this request."""
        self._dispatch(slot, self._client.hub.now())

    def refused(self, closed: Closed) -> None:
        """The lane's call: it closed while this request waited."""
        self._fail(Refusal(closed.status, closed.code, closed.message, retry_after_s=closed.retry_after_s))

    def _wait(self, now_ns: int, join: Callable[[Waiter], bool]) -> bool:
        lane, upload = self._route.lane, self._upload
        self.size_bytes = upload.size_bytes if upload is not None else 0
        self._stage = _QUEUED
        self._since_ns = now_ns
        self._limit_s = self._route.queue_timeout_s
        if not any(slot.in_ring and not slot.suspect for slot in lane.slots.values()):
            self._cold = True
        return join(self)

    # --- sending

    def _dispatch(self, slot: Slot, now_ns: int) -> None:
        hub = self._client.hub
        self.dispatched_ns = self._since_ns = now_ns
        self._limit_s = self._route.execution_timeout_s
        self._stage = _CONNECTING
        if slot.first_byte_ns is None:
            self._cold = True
        self._pool = pool = hub.pools.get(slot) or hub.pool(slot)
        worker = None if self._alone else pool.take()
        if worker is None:
            self._opening = pool.connect(self)
        else:
            self._send(pool, worker)

    def connected(self, pool: Pool, worker: WorkerConnection) -> bool:
        """A connection for this exchange is open; False when it is no longer wanted."""
        self._opening = None
        if self._stage != _CONNECTING or self._pool is not pool:
            return False
        self._send(pool, worker)
        return True

    def connect_failed(self, pool: Pool, *, ours: bool) -> None:
        """Nothing was sent, so any request may go to another worker; not if this host is out of descriptors or ports
        (`ours`): that is nothing to blame a worker for, and no other one would be reached either."""
        self._opening = None
        if self._stage != _CONNECTING or self._pool is not pool:
            return
        self._pool = None
        if not ours:
            self._route.lane.suspect(pool.slot)
        self._route.lane.unclaim(pool.slot)
        if ours:
            self._fail(Refusal(503, "out_of_descriptors", "The gateway can open no connection.", retry_after_s=1))
        elif not self._again():
            self._fail(Refusal(502, "worker_unreachable", "The worker could not be reached."))

    def _send(self, pool: Pool, worker: WorkerConnection) -> None:
        """Write the head and what is there of the body."""
        self._worker = worker
        self._stage = _RUNNING
        head = self._head
        request = wire.request_head(head, self._target, pool.host_line, self._request_id, self._client.peer_line)
        upload = self._upload
        if upload is None:
            worker.begin(self, request)
            return
        if head.expects and not upload.done and upload.empty:
            self._client.write(CONTINUE)
        worker.begin(self, request + upload.begin(worker))
        self._pass_on(upload.go_on)

    def body(self, span: bytes) -> None:
        """A piece of the request body came in."""
        if self._upload is not None:
            self._upload.add(span, waits=self._stage == _QUEUED)

    def body_end(self) -> None:
        """The request body is complete."""
        if self._upload is not None:
            self._upload.end()

    def worker_full(self, full: bool) -> None:
        """The worker takes the body slower than the client sends it."""
        self._client.hold_for_worker(full)
        if self._upload is not None:
            self._pass_on(partial(self._upload.worker_full, full))

    def _pass_on(self, send: Callable[[], None]) -> None:
        try:
            send()
        except OSError:
            self._fail(Refusal(500, "spool_lost", "The request's body could not be read back from the disk."))

    def client_full(self, full: bool) -> None:
        """The client takes the reply slower than the worker sends it."""
        if self._worker is not None:
            self._worker.hold(full)

    # --- the reply

    def interim(self, reply: ReplyHead) -> None:
        """A 1xx of the worker. 100 is not passed on: the client's Expect was answered by us."""
        if reply.status != 100 and self._head.minor:
            self._client.write(wire.interim_head(reply))

    def switched(self, worker: WorkerConnection, reply: ReplyHead) -> None:
        """The worker's 101: what follows it is no longer HTTP. Raises Refusal 502 when it was not asked for."""
        websocket.check_switch(self._head.accept, reply)
        client = cast("ClientConnection", self._client)  # an asynchronous call cannot ask for it (deferral.py)
        now_ns = client.hub.now()
        tunnel = Tunnel(client, worker, self, now_ns)
        worker.exchange, worker.tunnel, self._worker = None, tunnel, None
        client.switch(tunnel, self._reply_head(reply, now_ns, b"", bodiless=True))

    def tunnel_over(self, now_ns: int, since_ns: int, *, failed: bool) -> None:
        """The WebSocket that it became at `since_ns` has ended. How long people talked is no latency: counted is what
        it took to open it."""
        self.arrived_ns += now_ns - since_ns
        self.dispatched_ns += now_ns - since_ns
        self._leave(now_ns, _SWITCHING, failed=failed)

    def reply_whole(self, reply: ReplyHead, body: bytes) -> None:
        """Head and body came in one piece: the usual case, one write."""
        now_ns = self._client.hub.now()
        self._bytes_out = len(body)
        self._client.write(self._reply_head(reply, now_ns, body, bodiless=not body))
        self._complete(now_ns, failed=reply.status >= 500)

    def reply_head(self, reply: ReplyHead, *, bodiless: bool) -> None:
        self._client.write(self._reply_head(reply, self._client.hub.now(), b"", bodiless=bodiless))

    def reply_body(self, spans: list[bytes]) -> None:
        """Pieces of the reply, written at once: events of a stream must not wait for one another."""
        self._bytes_out += sum(map(len, spans))
        self._client.write(frame(spans) if self._chunk_out else b"".join(spans))

    def reply_end(self) -> None:
        if self._chunk_out:
            self._client.write(LAST)
        self._complete(self._client.hub.now(), failed=self._client.reply_status >= 500)

    def _reply_head(self, reply: ReplyHead, now_ns: int, body: bytes, *, bodiless: bool) -> bytes:
        client = self._client
        pool = self._pool
        assert pool is not None, "a reply without a worker"
        self._replied = True
        client.reply_status = reply.status
        if pool.slot.first_byte_ns is None:
            pool.slot.first_byte_ns = now_ns
        length = reply.content_length
        if length < 0 and not bodiless:
            if self._head.minor:
                self._chunk_out = True
            else:
                client.must_close = True  # HTTP/1.0: the end of the connection is the end of the body
        queue_ns = self.dispatched_ns - self.arrived_ns
        if self._cold or queue_ns >= _MS_NS:
            waited = wire.waited_lines(pool.slot.worker_id, queue_ns, cold=self._cold)
        else:
            waited = pool.unwaited
        return wire.reply_head(
            reply,
            chunked=self._chunk_out or (reply.chunked and self.head_only and bool(self._head.minor)),
            connection=client.connection_line() if reply.status != _SWITCHING else wire.SWITCH,
            request_id=self._request_id,
            waited=waited,
            worker_ns=now_ns - self.dispatched_ns,
            balance=client.hub.balance(self._account),
            body=body,
        )

    # --- ends

    def _complete(self, now_ns: int, *, failed: bool) -> None:
        worker = self._worker
        assert worker is not None, "completed without a worker"
        self._worker = None
        worker.finish(now_ns, request_sent=self._upload is None or self._upload.sent)
        self._leave(now_ns, self._client.reply_status, failed=failed)
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
        upload = self._upload
        repeatable = not self._replied and self._head.idempotent and (upload is None or upload.repeatable)
        if upload is not None:
            upload.lose_worker()
        if repeatable and worker.reused and not self._rejoined:
            # A kept connection ran out just as we used it: nothing is wrong with the worker yet.
            self._rejoined = True
            self._stage = _CONNECTING
            self._opening = pool.connect(self)
            return
        lane.suspect(pool.slot)
        if repeatable and not self._retried:
            self._pool = None
            lane.release(pool.slot, self._client.hub.now())
            if self._again():
                return
        self._fail(Refusal(502, "worker_lost", "The worker ended before its reply was complete."))

    def _again(self) -> bool:
        """One more try with another worker, or in the queue; False when there was one, or the lane takes nothing."""
        lane = self._route.lane
        if self._retried or lane.closed is not None:
            return False
        self._retried = True
        now_ns = self._client.hub.now()
        slot = lane.claim()
        if slot is None:
            self._wait(now_ns, lane.rejoin)
        else:
            self._dispatch(slot, now_ns)
        return True

    def client_gone(self) -> None:
        """The client left. Not a failure of ours."""
        if self._stage == _QUEUED:
            self._route.lane.cancel(self)
        self._drop_worker()
        self._leave(self._client.hub.now(), LEFT, failed=False)

    def cut(self, refusal: Refusal, *, failed: bool) -> None:
        """End it for a reason of the gateway's own (body too large, malformed or stalled)."""
        if self._stage == _QUEUED:
            self._route.lane.cancel(self)
        self._fail(refusal, failed=failed)

    def sweep(self, now_ns: int) -> None:
        """Look at the deadline of the current stage."""
        if now_ns - self._since_ns < self._limit_s * SECOND_NS:
            return
        limit = f"{self._limit_s:g} s"
        if self._stage == _QUEUED:
            self._route.lane.cancel(self)
            self._fail(Refusal(504, "queue_timeout", f"No worker became free within {limit}.", retry_after_s=10))
        else:
            assert self._pool is not None, "dispatched without a worker"
            if not self._route.cancels:
                self._route.lane.demand_recycle(self._pool.slot)
            self._fail(Refusal(504, "execution_timeout", f"The worker did not finish within {limit}."))

    def _fail(self, refusal: Refusal, *, failed: bool | None = None) -> None:
        """Answer with `refusal`, or cut the client off when a reply has begun: never a clean end of half a reply."""
        self._drop_worker()
        now_ns = self._client.hub.now()
        self._leave(now_ns, refusal.status, failed=refusal.status >= 500 if failed is None else failed)
        if self._replied:
            self._client.abort(refusal)
        else:
            self._client.refuse(refusal, self._request_id)

    def _drop_worker(self) -> None:
        worker, self._worker = self._worker, None
        opening, self._opening = self._opening, None
        if worker is not None:
            worker.drop()
        elif opening is not None:
            opening.cancel()

    def _leave(self, now_ns: int, status: int, *, failed: bool) -> None:
        """Give the claim back and count the request, with what its client was told. The one place; it happens once."""
        assert self._stage != _OVER, "an exchange ended twice"
        waited_until = now_ns if self._stage == _QUEUED else self.dispatched_ns
        self._stage = _OVER
        total_ns, queue_ns = now_ns - self.arrived_ns, waited_until - self.arrived_ns
        self._route.meter.record(now_ns, total_ns=total_ns, queue_ns=queue_ns, failed=failed, status=status)
        observer = self._client.hub.observer
        if observer is not None:
            head, worker_id = self._head, None if self._pool is None else self._pool.slot.worker_id
            bytes_in = self._client.body_bytes if head.chunked else max(0, head.content_length)
            observer.ended(
                Ended(now_ns, self._request_id, head, self._route.slug, self._account, self._key_id, worker_id, status,
                      queue_ns, total_ns, bytes_in, self._bytes_out, self._cold)
            )  # fmt: skip
        if self._upload is not None:
            self._upload.close()
        pool, self._pool = self._pool, None
        if pool is not None:
            self._route.lane.release(pool.slot, now_ns)
