"""A client's connection: requests are taken from it one after the other, replies go out in the same order.

    HEAD ──fields complete──▶ BODY ──body complete──▶ BUSY ──reply complete──▶ HEAD
    BODY ──answered early──▶ DISCARD (a short rest is read and dropped) ──▶ HEAD
    BUSY ──the worker switched protocols──▶ TUNNEL ──▶ CLOSED
    any ──last answer, bytes may still come──▶ LINGER ──▶ CLOSED

There is no task per request or per connection: everything happens in the event loop's callbacks and in one sweep.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from orchestrator.contract.base import SECOND_NS
from orchestrator.gateway import sockets
from orchestrator.gateway.admission import admit
from orchestrator.gateway.answers import Refusal, problem_body, problem_fields, render
from orchestrator.gateway.channel import Channel
from orchestrator.gateway.exchange import Exchange
from orchestrator.gateway.head import RequestHead
from orchestrator.gateway.intake import Intake, check_partial
from orchestrator.gateway.observing import LEFT
from orchestrator.gateway.peers import peer_name
from orchestrator.gateway.recall import Recall
from orchestrator.gateway.states import (
    BODY,
    BUSY,
    CLOSED,
    DISCARD,
    HEAD,
    HOLD_PIPELINE,
    LINGER,
    TUNNEL,
    Task,
)  # fmt: skip

if TYPE_CHECKING:
    from orchestrator.gateway.hub import Hub

PIPELINE_BYTES: Final = 64 * 1024
"""Bytes of later requests taken in while one is being served."""
DISCARD_BYTES: Final = 256 * 1024
"""A rest of a refused body up to this size is read and dropped to keep the connection."""
_CLOSE: Final = b"connection: close\r\n"
_KEEP: Final = b"connection: keep-alive\r\n"


class ClientConnection(Channel):
    """Server side of one TCP connection."""

    __slots__ = (
        "_blank", "_fresh", "_head", "_intake", "_mark_bytes", "_pumping", "_recall", "_state", "_tail", "must_close",
        "reply_status", "request",
    )  # fmt: skip

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub)
        self.request: Task | None = None
        self.must_close = False
        """The connection ends with the current reply."""
        self.reply_status = 0
        self._state = HEAD
        self._tail = b""
        self._head: RequestHead | None = None
        self._recall = Recall()
        self._intake: Intake | None = None
        self._mark_bytes = 0
        self._pumping = False
        self._blank = False
        self._fresh = True
        """No request has come yet: it is closed after the head's deadline, not after the idle time."""

    # --- the event loop's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        address = sockets.peer_address(transport)
        self.peer, self.peer_line = peer_name(address), sockets.peer_line(address)
        refusal = self.hub.joined(self)
        if refusal is None:
            return
        self.must_close = True
        self.refuse(refusal, self.hub.next_id())
        if self.hub.crowded:
            self.close()  # no time to see the client off: every moment is a descriptor

    def data_received(self, data: bytes) -> None:
        if self._tail:
            data = self._tail + data
            self._tail = b""
        self._pump(data)

    def eof_received(self) -> bool:
        """The client has hung up. Half-closed clients count as gone, as with other proxies: no request is worked on
        for someone who may not be there. Only a tunnel has two directions that end one by one."""
        if self._state == TUNNEL and self.request is not None:
            self.request.body_end()
            return True
        self._leave()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.hub.left(self)
        self._leave()
        self._state = CLOSED

    def pause_writing(self) -> None:
        self.full = True
        if self.request is not None:
            self.request.client_full(True)

    def resume_writing(self) -> None:
        self.full = False
        if self.request is not None:
            self.request.client_full(False)
        elif self._state == HEAD and self._holds:
            self._next_request(self.hub.coarse_ns)

    def _leave(self) -> None:
        request, self.request = self.request, None
        if request is not None:
            if self._state != TUNNEL and not isinstance(request, Exchange):
                self.hub.tell(self._head, self._request_id(), LEFT, 0)
            self._state = CLOSED
            request.client_gone()
            self.transport.abort()

    # --- reading

    def _pump(self, data: bytes) -> None:
        """Take `data` as far as the state allows. A loop, so that no number of pipelined requests can recurse."""
        self._pumping = True
        while data:
            state = self._state
            if state == HEAD:
                if self.full:
                    # Replies nobody reads would pile up here, one small one after the other.
                    self._tail = data
                    self._hold(HOLD_PIPELINE, True)
                    break
                data = self._take_head(data)
            elif state in (BODY, DISCARD):
                data = self._take_body(self._intake, data) if self._intake else b""
            elif state == BUSY:
                self._tail = data
                if len(data) > PIPELINE_BYTES:
                    self._hold(HOLD_PIPELINE, True)
                break
            elif state == TUNNEL and self.request is not None:
                self.request.body(data)
                break
            else:
                break
        self._pumping = False

    def _take_head(self, data: bytes) -> bytes:
        limits = self.hub.limits
        known = self._recall.again(data, limits)
        if known is not None:
            head, size = known
            return self._start(head, data[size:])
        if data[:2] == b"\r\n" and not self._blank:
            self._blank = True  # RFC 9112 2.2: one empty line before a request is ignored, however it is cut
            data = data[2:]
        end = data.find(b"\r\n\r\n")
        try:
            if end < 0 or end > limits.head_bytes:
                check_partial(data, end, limits)
                if not data:
                    return b""
                if not self._mark_bytes:
                    self._since_ns = self.hub.coarse_ns
                    self._mark_bytes = 1
                self._tail = data
                return b""
            head = self._recall.read(data, end, limits)
        except Refusal as error:
            self.refuse(error, self._request_id())
            return data[end + 4 :] if end >= 0 else b""
        return self._start(head, data[end + 4 :])

    def _start(self, head: RequestHead, rest: bytes) -> bytes:
        """Serve `head`; returns `rest`, what came after it."""
        try:
            self._begin(head)
            admit(self, head)
        except Refusal as error:
            self.refuse(error, head.request_id or self.hub.next_id())
        return rest

    def _begin(self, head: RequestHead) -> None:
        """Set the connection up for the body of `head`. Raises Refusal 413."""
        self._head = head
        self._fresh = self._blank = False
        self._mark_bytes = 0
        if not head.has_body:
            self._state = BUSY
            return
        self._intake = Intake(head, self.hub.limits.body_bytes)
        self._state = BODY
        self._since_ns = self.hub.coarse_ns

    def _take_body(self, intake: Intake, data: bytes) -> bytes:
        """Hand the body's spans to the request; without one (it has been answered) they are dropped."""
        try:
            spans = intake.feed(data)
        except Refusal as error:
            self._cut(error)
            return b""
        request = self.request
        for span in spans:
            if request is None or self.request is not request:
                break
            request.body(span)
        if intake.done and self._state == DISCARD:
            self._next_request(self.hub.coarse_ns)
        elif intake.done and self._state == BODY:
            self._state = BUSY
            if request is not None:
                request.body_end()
        return intake.rest

    def _cut(self, refusal: Refusal, *, failed: bool = False) -> None:
        """The request cannot be taken to its end."""
        self.must_close = True
        request = self.request
        if request is not None:
            request.cut(refusal, failed=failed)
        else:
            self._linger()

    # --- answering

    def connection_line(self) -> bytes:
        """The Connection field of the reply that begins now; decides whether the connection outlives it."""
        head = self._head
        if head is None or not head.keep_alive or self.hub.draining:
            self.must_close = True
        if self.must_close:
            return _CLOSE
        return b"" if head is None or head.minor else _KEEP

    def answer(self, status: int, fields: list[tuple[str, str]], body: bytes, request_id: bytes) -> None:
        """Reply on the gateway's own account and end the request."""
        head = self._head
        if self._state == BODY and not self._discardable():
            self.must_close = True
        now_ns = self.hub.now()
        self.write(
            render(
                status,
                fields,
                body,
                request_id,
                connection=self.connection_line(),
                head_only=head is not None and head.method == b"HEAD",
                now_ns=now_ns,
            )
        )
        if not isinstance(self.request, Exchange):  # what an exchange ends with, it tells
            self.hub.tell(head, request_id, status, len(body))
        self.over(now_ns)

    @property
    def intake(self) -> Intake | None:
        """The body that came last, or comes: another object for each request that has one."""
        return self._intake

    @property
    def body_bytes(self) -> int:
        """How much of the current request's body has come in."""
        return 0 if self._intake is None else self._intake.received

    def refuse(self, refusal: Refusal, request_id: bytes) -> None:
        """Reply with a problem document."""
        self.hub.refused[refusal.status, refusal.code] += 1
        if refusal.close:
            self.must_close = True
        self.answer(refusal.status, problem_fields(refusal), problem_body(refusal, request_id), request_id)

    def _request_id(self) -> bytes:
        return (self._head and self._head.request_id) or self.hub.next_id()

    def _discardable(self) -> bool:
        """The rest of the body is short and will come: a client that waits for 100 may send it or not."""
        intake, head = self._intake, self._head
        return intake is not None and intake.short(DISCARD_BYTES) and not (head is not None and head.expects)

    def over(self, now_ns: int) -> None:
        """The reply is complete: go on with the next request, or end the connection."""
        self.request = None
        if self._state >= LINGER:
            return
        if self._state == BODY:
            if self.must_close or not self._discardable():
                self._linger()
                return
            self._state = DISCARD
            self._since_ns = now_ns
            self._release_holds()
        elif self.must_close:
            self._linger()
        else:
            self._next_request(now_ns)

    def _next_request(self, now_ns: int) -> None:
        self._state = HEAD
        self._since_ns = now_ns
        self._head = None
        if self._tail and not self._pumping:
            data, self._tail = self._tail, b""
            self._release_holds()
            self._pump(data)
        elif self._holds:
            self._release_holds()

    def _linger(self) -> None:
        """Half-close, and drop what still comes for a moment: closing with unread bytes would reset the connection and
        could take the answer with it."""
        self._state = LINGER
        self._since_ns = self.hub.coarse_ns
        self._tail = b""
        self._release_holds()
        self.end_writing()

    def switch(self, tunnel: Task, head: bytes) -> None:
        """The connection is no longer HTTP: `head` is the 101 that says so; from here on `tunnel` gets all bytes."""
        self.request = tunnel
        self._state = TUNNEL
        self.write(head)
        data, self._tail = self._tail, b""
        self._hold(HOLD_PIPELINE, False)
        if data:
            tunnel.body(data)

    def close(self) -> None:
        """Send what is still to be sent, then end the connection."""
        self.request = None
        self._state = CLOSED
        self._since_ns = self.hub.coarse_ns
        self.transport.close()

    def abort(self, _refusal: Refusal | None = None) -> None:
        """Cut the connection so that the client cannot take half a reply for a whole one."""
        self.request = None
        self._state = CLOSED
        sockets.reset_on_close(self.transport)
        self.transport.abort()

    # --- deadlines

    def close_if_idle(self, *, fresh: bool) -> None:
        """Close the connection when it is between requests; before its first one only if `fresh`."""
        if self._state == HEAD and not self._tail and (fresh or not self._fresh):
            self.close()

    def hang_up(self) -> None:
        """End it now: a request in progress is answered or cut off, an idle connection is closed."""
        if self.request is not None:
            self._cut(Refusal(503, "stopping", "The gateway is stopping.", retry_after_s=5, close=True), failed=True)
        else:
            self.close()

    def sweep(self, now_ns: int) -> None:
        """Called about twice a second."""
        limits = self.hub.limits
        age_s = (now_ns - self._since_ns) / SECOND_NS
        if self._stalled(now_ns):
            self._leave()
            self.abort()
        elif self.request is not None:
            self._sweep_request(self.request, now_ns, age_s)
        elif self._state == HEAD and self._tail:
            if age_s > limits.head_deadline_s and not self.full:
                late = Refusal(408, "head_timeout", "The header did not arrive in time.", close=True)
                self.refuse(late, self.hub.next_id())
        elif self._state == HEAD:
            if age_s > (limits.head_deadline_s if self._fresh else limits.idle_s):
                self.close()
        elif self._unsent:
            self._since_ns = now_ns  # an end now would look like the reply's, and take the rest of it along
        elif age_s > limits.linger_s:
            self.transport.abort()

    def _sweep_request(self, request: Task, now_ns: int, age_s: float) -> None:
        limits = self.hub.limits
        if self._state != TUNNEL and self._gone_unread():
            self._leave()
            return
        request.sweep(now_ns)
        if self.request is not request or self._state != BODY or self._holds or self._intake is None:
            return
        if age_s > limits.body_window_s:
            if self._intake.received - self._mark_bytes < limits.body_window_bytes:
                self._cut(Refusal(408, "body_timeout", "The request body came too slowly.", close=True))
            else:
                self._since_ns = now_ns
                self._mark_bytes = self._intake.received
