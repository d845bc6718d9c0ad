"""A client's connection: requests are taken from it one after the other, replies go out in the same order.

    HEAD ──fields complete──▶ BODY ──body complete──▶ BUSY ──reply complete──▶ HEAD
    BODY ──answered early──▶ DISCARD (a short rest is read and dropped) ──▶ HEAD
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
from orchestrator.gateway.head import RequestHead, scan_request
from orchestrator.gateway.intake import Intake
from orchestrator.gateway.states import (
    BODY,
    BUSY,
    CLOSED,
    DISCARD,
    HEAD,
    HOLD_BUFFER,
    HOLD_PIPELINE,
    HOLD_WORKER,
    LINGER,
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


class ClientConnection(asyncio.Protocol):
    """Server side of one TCP connection."""

    __slots__ = (
        "_fresh", "_full_ns", "_head", "_holds", "_intake", "_mark_bytes", "_pumping", "_since_ns", "_state", "_tail",
        "full", "hub",
        "must_close", "peer_line", "reply_status", "request", "transport",
    )  # fmt: skip

    transport: asyncio.Transport

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.request: Task | None = None
        self.peer_line = b""
        self.must_close = False
        """The connection ends with the current reply."""
        self.reply_status = 0
        self.full = False
        """The transport asked us to stop writing."""
        self._state = HEAD
        self._tail = b""
        self._head: RequestHead | None = None
        self._intake: Intake | None = None
        self._mark_bytes = 0
        self._holds = 0
        self._pumping = False
        self._since_ns = hub.now()
        """Beginning of what the current state waits for: a head, body bytes, the end of a linger."""
        self._full_ns = 0
        self._fresh = True
        """No request has come yet: it is closed after the head's deadline, not after the idle time."""

    # --- the event loop's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.peer_line = sockets.peer_line(transport)
        hub = self.hub
        over = len(hub.clients) >= hub.limits.connections
        hub.joined(self)
        if over:
            self.must_close = True
            self.refuse(
                Refusal(503, "too_many_connections", "The gateway serves its maximum of connections.", retry_after_s=1),
                hub.next_id(),
            )

    def data_received(self, data: bytes) -> None:
        if self._tail:
            data = self._tail + data
            self._tail = b""
        self._pump(data)

    def eof_received(self) -> None:
        """The client has hung up. Half-closed clients count as gone, as with other proxies: no request is worked on
        for someone who may not be there."""
        self._leave()

    def connection_lost(self, exc: Exception | None) -> None:
        self.hub.left(self)
        self._leave()
        self._state = CLOSED

    def pause_writing(self) -> None:
        self.full = True
        self._full_ns = self.hub.coarse_ns
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
            else:
                break
        self._pumping = False

    def _take_head(self, data: bytes) -> bytes:
        limits = self.hub.limits
        if data[:2] == b"\r\n":
            data = data[2:]  # RFC 9112 2.2: one empty line before a request is ignored
        end = data.find(b"\r\n\r\n")
        try:
            if end < 0 or end > limits.head_bytes:
                self._check_partial(data, end)
                if not data:
                    return b""
                if not self._mark_bytes:
                    self._since_ns = self.hub.coarse_ns
                    self._mark_bytes = 1
                self._tail = data
                return b""
            head = scan_request(data[:end], limits.fields, limits.target_bytes)
            self._begin(head)
            admit(self, head)
        except Refusal as error:
            self.refuse(error, self._request_id())
        return data[end + 4 :] if end >= 0 else b""

    def _check_partial(self, data: bytes, end: int) -> None:
        """A head that is not complete (or too long): refuse what no further byte can mend."""
        limits = self.hub.limits
        if end > limits.head_bytes or len(data) > limits.head_bytes:
            line = data.find(b"\r\n")
            if line < 0 or line > limits.target_bytes + 64:
                raise Refusal(414, "target_too_long", f"The target exceeds {limits.target_bytes} bytes.", close=True)
            raise Refusal(431, "head_too_long", f"The header exceeds {limits.head_bytes} bytes.", close=True)
        if data.count(b"\n") != data.count(b"\r\n"):
            raise Refusal(400, "bad_character", "The head holds a bare LF.", close=True)

    def _begin(self, head: RequestHead) -> None:
        """Set the connection up for the body of `head`. Raises Refusal 413."""
        self._head = head
        self._fresh = False
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

    def hold_for_buffer(self, held: bool) -> None:
        self._hold(HOLD_BUFFER, held)

    def hold_for_worker(self, held: bool) -> None:
        self._hold(HOLD_WORKER, held)

    def _hold(self, reason: int, held: bool) -> None:
        before = self._holds
        self._holds = before | reason if held else before & ~reason
        if bool(before) != bool(self._holds) and not self.transport.is_closing():
            if self._holds:
                self.transport.pause_reading()
            else:
                self._since_ns = self.hub.coarse_ns
                self.transport.resume_reading()

    # --- answering

    def write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

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
        self.over(now_ns)

    def refuse(self, refusal: Refusal, request_id: bytes) -> None:
        """Reply with a problem document."""
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

    def _release_holds(self) -> None:
        if self._holds:
            self._holds = 0
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def _linger(self) -> None:
        """Half-close, and drop what still comes for a moment: closing with unread bytes would reset the connection and
        could take the answer with it."""
        self._state = LINGER
        self._since_ns = self.hub.coarse_ns
        self._tail = b""
        self._release_holds()
        if not self.transport.is_closing():
            self.transport.write_eof()

    def abort(self) -> None:
        """Cut the connection so that the client cannot take half a reply for a whole one."""
        self.request = None
        self._state = CLOSED
        sockets.reset_on_close(self.transport)
        self.transport.abort()

    # --- deadlines

    def close_if_idle(self) -> None:
        """Close the connection when it is between requests."""
        if self._state == HEAD and not self._tail:
            self._close()

    def hang_up(self) -> None:
        """End it now: a request in progress is answered or cut off, an idle connection is closed."""
        if self.request is not None:
            self._cut(Refusal(503, "stopping", "The gateway is stopping.", retry_after_s=5, close=True), failed=True)
        else:
            self._close()

    def _close(self) -> None:
        self._state = CLOSED
        self._since_ns = self.hub.coarse_ns
        self.transport.close()

    def sweep(self, now_ns: int) -> None:
        """Called about twice a second."""
        limits = self.hub.limits
        age_s = (now_ns - self._since_ns) / SECOND_NS
        if self.full and now_ns - self._full_ns > limits.send_stall_s * SECOND_NS:
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
                self._close()
        elif age_s > limits.linger_s:
            self.transport.abort()

    def _sweep_request(self, request: Task, now_ns: int, age_s: float) -> None:
        limits = self.hub.limits
        if self._holds and sockets.peer_gone(self.transport):
            # While reading is paused the event loop cannot tell us that the client left.
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
