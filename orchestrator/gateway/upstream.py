"""Connections to workers: one protocol that decodes replies, and a pool of idle ones per worker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from orchestrator.contract.base import SECOND_NS
from orchestrator.core.lane import Slot
from orchestrator.gateway.answers import Refusal
from orchestrator.gateway.chunks import BadChunk, ChunkDecoder
from orchestrator.gateway.descriptors import SHORTAGE
from orchestrator.gateway.head import ReplyHead, scan_reply
from orchestrator.gateway.wire import waited_lines

if TYPE_CHECKING:
    from orchestrator.gateway.exchange import Exchange
    from orchestrator.gateway.hub import Hub
    from orchestrator.gateway.tunnel import Tunnel

_UNTIL_EOF = -1
_SWITCHING = 101


class WorkerConnection(asyncio.Protocol):
    """One connection to a worker, used by one exchange at a time. `exchange` is None while it is idle."""

    __slots__ = (
        "_decoder", "_interim", "_left", "_pool", "_read_paused", "_replying", "_reusable", "_tail", "exchange",
        "idle_ns", "reused", "transport", "tunnel",
    )  # fmt: skip

    transport: asyncio.Transport

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.exchange: Exchange | None = None
        self.tunnel: Tunnel | None = None
        """What its exchange has become, once it is no longer HTTP."""
        self.idle_ns = 0
        self.reused = False
        """It has served a request before, so its end may be a keep-alive that ran out and not a dead worker."""
        self._tail = b""
        self._replying = False
        self._left = 0
        self._decoder: ChunkDecoder | None = None
        self._reusable = False
        self._interim = 0
        self._read_paused = False

    # --- the exchange's side

    def begin(self, exchange: Exchange, request: bytes) -> None:
        """Send the beginning of a request and expect its reply."""
        self.exchange = exchange
        self._interim = 0
        self.transport.write(request)

    def send(self, data: bytes) -> None:
        """More of the request. Nothing after the worker hung up: its end is on the way to us."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def hold(self, held: bool) -> None:
        """Stop or go on reading, as the client takes the reply slower or faster than the worker gives it."""
        if held != self._read_paused and not self.transport.is_closing():
            self._read_paused = held
            if held:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def finish(self, now_ns: int, *, request_sent: bool) -> None:
        """The reply is complete: back to the pool, or closed when more bytes could follow in either direction."""
        self.exchange = None
        clean = self._reusable and request_sent and not self._tail
        if clean and not self.transport.is_closing() and not self.transport.get_write_buffer_size():
            if self._read_paused:
                self.hold(False)
            self._replying = False
            self.reused = True
            self.idle_ns = now_ns
            self._pool.idle.append(self)
        else:
            self.transport.abort()

    def drop(self) -> None:
        """Give the exchange or tunnel up. The worker sees its connection end."""
        self.exchange = self.tunnel = None
        self.transport.abort()

    def end_writing(self) -> None:
        """Half-close a tunnel: the worker sees an end and may still send."""
        if not self.transport.is_closing():
            self.transport.write_eof()

    def close(self) -> None:
        """Send what is still to be sent, then end the connection."""
        self.transport.close()

    # --- the event loop's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._pool.opened.add(self)

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            if self.tunnel is not None:
                self.tunnel.reply(data)
                return
            # Bytes nobody asked for would be taken for the reply to the next request.
            self.transport.abort()
            return
        if self._tail:
            data = self._tail + data
            self._tail = b""
        try:
            if self._replying:
                self._body(exchange, data)
            else:
                self._head(exchange, data)
        except Refusal as error:
            exchange.reply_broken(error)
        except BadChunk as error:
            exchange.reply_broken(Refusal(502, "worker_protocol", f"The worker's reply is broken: {error}."))

    def _head(self, exchange: Exchange, data: bytes) -> None:
        limits = self._pool.hub.limits
        while True:
            end = data.find(b"\r\n\r\n")
            if end < 0 or end > limits.reply_head_bytes:
                if end >= 0 or len(data) > limits.reply_head_bytes:
                    raise Refusal(
                        502, "worker_protocol", f"The worker's reply head exceeds {limits.reply_head_bytes} bytes."
                    )
                self._tail = data
                return
            reply = scan_reply(data[:end], limits.fields)
            data = data[end + 4 :]
            if reply.status >= 200:
                break
            if reply.status == _SWITCHING:
                self._switch(exchange, reply, data)
                return
            self._interim += 1
            if self._interim > limits.interim_replies:
                raise Refusal(502, "worker_protocol", "The worker sent too many interim replies.")
            exchange.interim(reply)
        self._reusable = reply.keep_alive
        self._decoder = None
        if exchange.head_only or reply.status in (204, 304):
            self._left = 0
        elif reply.chunked:
            self._decoder = ChunkDecoder()
            self._left = _UNTIL_EOF
        elif reply.content_length >= 0:
            self._left = reply.content_length
        else:
            self._left = _UNTIL_EOF
            self._reusable = False
        self._replying = True
        if self._decoder is None and self._left == len(data):
            exchange.reply_whole(reply, data)
            return
        exchange.reply_head(reply, bodiless=self._left == 0)
        if self._left == 0 or data:
            self._body(exchange, data)

    def _switch(self, exchange: Exchange, reply: ReplyHead, data: bytes) -> None:
        exchange.switched(self, reply)
        if data and self.tunnel is not None:
            self.tunnel.reply(data)

    def _body(self, exchange: Exchange, data: bytes) -> None:
        if self._decoder is not None:
            spans = self._decoder.feed(data)
            if spans:
                exchange.reply_body(spans)
            if self._decoder.done and self.exchange is exchange:
                self._tail = self._decoder.leftover
                exchange.reply_end()
            return
        if self._left == _UNTIL_EOF:
            exchange.reply_body([data])
            return
        if len(data) > self._left:
            # The worker says more than it announced. The client gets what was announced; the rest goes with the
            # connection, because it could be read as another reply.
            self._tail = data[self._left :]
            data = data[: self._left]
        self._left -= len(data)
        if data:
            exchange.reply_body([data])
        if self._left == 0 and self.exchange is exchange:
            exchange.reply_end()

    def eof_received(self) -> bool:
        if self.tunnel is not None:
            self.tunnel.reply_end()
            return True
        exchange = self.exchange
        if exchange is not None and self._replying and self._left == _UNTIL_EOF and self._decoder is None:
            exchange.reply_end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.lost(self)
        if self.tunnel is not None:
            self.tunnel.worker_lost()
        exchange = self.exchange
        if exchange is not None:
            self.exchange = None
            exchange.worker_lost(self)

    def pause_writing(self) -> None:
        served = self.exchange or self.tunnel
        if served is not None:
            served.worker_full(True)

    def resume_writing(self) -> None:
        served = self.exchange or self.tunnel
        if served is not None:
            served.worker_full(False)


class Pool:
    """Idle connections to one worker, newest last, and the lines of a head that depend on the worker alone."""

    __slots__ = ("host_line", "hub", "idle", "opened", "slot", "unwaited")

    def __init__(self, hub: Hub, slot: Slot) -> None:
        self.hub = hub
        self.slot = slot
        self.idle: list[WorkerConnection] = []
        self.opened: set[WorkerConnection] = set()
        """Every open connection, idle or not."""
        host = f"[{slot.host}]" if ":" in slot.host else slot.host
        self.host_line = f"host: {host}:{slot.port}\r\n".encode("ascii")
        self.unwaited = waited_lines(slot.worker_id, 0, cold=False)
        """The lines of a reply to a request that did not wait: nearly all."""

    def take(self) -> WorkerConnection | None:
        """The connection used last (the least likely to have ended), or None."""
        while self.idle:
            connection = self.idle.pop()
            if not connection.transport.is_closing():
                return connection
        return None

    def connect(self, exchange: Exchange) -> asyncio.Task[None]:
        """Open a connection for `exchange`, which is told by `connected` or `connect_failed`, unless the task that is
        returned is cancelled. A task, but one per connection, not per request."""
        task = asyncio.get_running_loop().create_task(self._open(exchange))
        self.hub.tasks.add(task)
        task.add_done_callback(self.hub.tasks.discard)
        return task

    async def _open(self, exchange: Exchange) -> None:
        try:
            async with asyncio.timeout(self.hub.limits.connect_s):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: WorkerConnection(self), self.slot.host, self.slot.port
                )
        except OSError as error:  # TimeoutError is one
            exchange.connect_failed(self, ours=error.errno in SHORTAGE)
            return
        if not exchange.connected(self, connection):
            connection.drop()

    def lost(self, connection: WorkerConnection) -> None:
        self.opened.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)

    def sweep(self, now_ns: int) -> bool:
        """Close connections idle for too long; True when the worker has left and nothing is open: drop the pool."""
        gone = not self.slot.in_ring and self.slot.in_flight == 0
        oldest = now_ns - int(self.hub.limits.worker_idle_s * SECOND_NS)
        for connection in self.idle[:]:
            if gone or connection.idle_ns < oldest:
                self.idle.remove(connection)
                connection.transport.close()
        return gone and not self.opened

    def close(self) -> None:
        """Drop every connection; exchanges on them learn it through `worker_lost`."""
        for connection in list(self.opened):
            connection.transport.abort()
