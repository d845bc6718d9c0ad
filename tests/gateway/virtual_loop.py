"""An event loop whose time is virtual, and TCP in memory over it: an hour passes as fast as its work can be done.

Programs run unchanged: `asyncio.sleep`, time-outs, streams, `create_server` and `create_connection` are all that they
ask of a loop. What a network does to them is here: bytes are late, come in pieces that are cut anywhere, wait where
nobody reads, and are lost with a reset. All chance is from the loop's seed, and each connection has its own: in what
order a program goes through its connections, which a set leaves to the addresses of objects, changes nothing.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import random
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

Address = tuple[str, int]

KERNEL_BYTES = 128 * 1024
"""What the two kernels of a connection hold for a receiver that does not read."""
HIGH_BYTES = 64 * 1024
"""Beyond what the kernels hold: the sender is asked to pause,"""
LOW_BYTES = 16 * 1024
"""and to go on."""
PIECE_BYTES = 64 * 1024
EPHEMERAL = 32_768


class Deadlock(RuntimeError):
    """Everybody waits, and nothing is planned that could end it."""


class _Leap:
    """In the place of a selector: there is nothing to wait for but the next instant."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout_s: float | None) -> list[Any]:
        if timeout_s is None:
            raise Deadlock("nothing is left that could happen")
        if timeout_s > 0:
            self._loop.leap()
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """Time begins at 0 and is exact. Threads have no place here: their work would take none of it."""

    def __init__(self, seed: int | str = 0) -> None:
        super().__init__()
        self.seed = seed
        self.open: set[End] = set()
        """Ends of connections that are not closed."""
        self._selector = _Leap(self)
        self._at_s = 0.0
        self._servers: dict[int, Server] = {}
        self._ports = itertools.count(EPHEMERAL)
        self._connections = itertools.count()

    def time(self) -> float:
        return self._at_s

    def leap(self) -> None:
        """To the next instant for which something is planned."""
        self._at_s = max(self._at_s, self._scheduled[0].when())  # type: ignore[attr-defined]

    def _process_events(self, event_list: list[Any]) -> None:
        assert not event_list

    def _write_to_self(self) -> None:
        """Nobody sleeps who would have to be woken."""

    async def create_server(  # type: ignore[override]
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int = 0, **_options: Any
    ) -> Server:
        server = Server(self, factory, (host, port or next(self._ports)))
        if server.address[1] in self._servers:
            raise OSError(errno.EADDRINUSE, "address already in use")
        self._servers[server.address[1]] = server
        return server

    async def create_connection(  # type: ignore[override]
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int, **_options: Any
    ) -> tuple[End, asyncio.Protocol]:
        """Raises ConnectionRefusedError where nobody listens."""
        chance = random.Random(f"{self.seed} {next(self._connections)}")
        await asyncio.sleep(_latency_s(chance))
        server = self._servers.get(port)
        if server is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"nobody listens on {host}:{port}")
        # Somebody in a large office: not all clients are one, and not all are strangers.
        here = f"10.0.{chance.randrange(4)}.{chance.randrange(256)}", next(self._ports)
        near = End(self, factory(), here, server.address, chance)
        far = End(self, server.factory(), server.address, here, chance)
        near.peer, far.peer = far, near
        self.open |= {near, far}
        far.protocol.connection_made(far)
        near.protocol.connection_made(near)
        return near, near.protocol

    def unlisten(self, server: Server) -> None:
        if self._servers.get(server.address[1]) is server:
            del self._servers[server.address[1]]


def _latency_s(chance: random.Random) -> float:
    return 0.000_1 + 0.000_4 * chance.random()


class Server:
    """What `create_server` gives."""

    def __init__(self, loop: VirtualLoop, factory: Callable[[], asyncio.Protocol], address: Address) -> None:
        self.factory = factory
        self.address = address
        self.sockets = [_Listener(address)]
        self._loop = loop

    def close(self) -> None:
        """Idempotent. Connections go on."""
        self._loop.unlisten(self)
        for listener in self.sockets:
            listener.close()

    async def wait_closed(self) -> None:
        """It is."""


class _Listener(socket.socket):
    """Takes options like a listening socket, and has an address that no kernel knows."""

    def __init__(self, address: Address) -> None:
        super().__init__()
        self._address = address

    def getsockname(self) -> Address:
        return self._address


class End(asyncio.Transport):
    """One end of a connection. Its queue holds what the other end has not read yet."""

    peer: End

    def __init__(
        self, loop: VirtualLoop, protocol: asyncio.Protocol, here: Address, there: Address, chance: random.Random
    ) -> None:
        super().__init__({"sockname": here, "peername": there})
        self.protocol = protocol
        self._loop = loop
        self._chance = chance
        self._queue: deque[memoryview] = deque()
        self._queued_bytes = 0
        self._flowing = False
        self._full = False
        self._reading = True
        self._ended = False
        """It sends no more."""
        self._end_told = False
        self._closing = False
        self._lost = False
        self._reset_waits = False
        """The other end has reset the connection, and this one does not look."""

    # --- the protocol's side

    def write(self, data: bytes) -> None:  # type: ignore[override]
        assert not self._ended, "written after the end"
        if not data or self._closing:
            return
        if self._reset_waits or self.peer._lost:
            self._later(self._be_reset, True)
            return
        self._queue.append(memoryview(bytes(data)))
        self._queued_bytes += len(data)
        if not self._full and self.get_write_buffer_size() > HIGH_BYTES:
            self._full = True
            self.protocol.pause_writing()
        self._flow_later()

    def write_eof(self) -> None:
        self._ended = True
        self._flow_later()

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return max(0, self._queued_bytes - KERNEL_BYTES)

    def close(self) -> None:
        if self._closing:
            return
        self._closing = self._ended = True
        self._reading = False
        if not self.get_write_buffer_size():
            self._loop.call_soon(self._lose, None)
        self._flow_later()

    def abort(self) -> None:
        if self._lost:
            return
        self._closing = self._ended = self._end_told = True
        self._forget_queue()
        self._loop.call_soon(self._lose, None)
        self._later(self.peer._be_reset)

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return self._reading

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        if self._closing:
            return
        self._reading = True
        if self._reset_waits:
            self._loop.call_soon(self._be_reset)
        self.peer._flow_later()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self.protocol = protocol

    def get_protocol(self) -> asyncio.Protocol:
        return self.protocol

    # --- the network's side

    def _flow_later(self) -> None:
        if not self._flowing and (self._queue or (self._ended and not self._end_told)):
            self._flowing = True
            self._later(self._flow)

    def _later(self, what: Callable[..., None], *arguments: object) -> None:
        self._loop.call_later(_latency_s(self._chance), what, *arguments)

    def _flow(self) -> None:
        """The next piece arrives, or the end does."""
        self._flowing = False
        peer = self.peer
        if peer._closing:
            if self._queue:
                self._be_reset(True)  # nobody will read it: the other kernel says so
            return
        if not peer._reading:
            return  # until it does
        if self._queue:
            peer.protocol.data_received(self._take())
            self._make_room()
        elif self._ended and not self._end_told:
            self._end_told = True
            if not peer.protocol.eof_received():
                peer.close()
        self._flow_later()

    def _take(self) -> bytes:
        """From the front of the queue, cut anywhere."""
        size = PIECE_BYTES if self._chance.random() < 0.7 else self._chance.randrange(1, 2_048)
        pieces = []
        while self._queue and size:
            front = self._queue.popleft()
            if len(front) > size:
                self._queue.appendleft(front[size:])
                front = front[:size]
            pieces.append(front)
            size -= len(front)
        data = b"".join(pieces)
        self._queued_bytes -= len(data)
        return data

    def _make_room(self) -> None:
        if self._lost:
            return
        if self._full and self.get_write_buffer_size() <= LOW_BYTES:
            self._full = False
            self.protocol.resume_writing()
        if self._closing and not self.get_write_buffer_size():
            self._lose(None)

    def _be_reset(self, noticed: bool = False) -> None:
        """The other end is gone, and says so. Who does not read, notices when it writes or reads on."""
        if self._lost:
            return
        self._forget_queue()
        if self._reading or self._closing or noticed:
            self._closing = self._ended = self._end_told = True
            self._lose(ConnectionResetError(errno.ECONNRESET, "connection reset by peer"))
        else:
            self._reset_waits = True

    def _lose(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = True
        self._reading = False
        self._loop.open.discard(self)
        self.protocol.connection_lost(error)
        if self.peer._queue:
            self.peer._flow_later()  # towards a reset

    def _forget_queue(self) -> None:
        self._queue.clear()
        self._queued_bytes = 0
