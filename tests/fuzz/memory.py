"""The real gateway without sockets and without an event loop: connections in memory, whose bytes and ends are the
caller's to give. Deterministic, and fast enough to be run a million times."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from orchestrator.contract.endpoint import Visibility
from orchestrator.core.lane import Lane, Slot
from orchestrator.core.routing import KeyGrant, Route, RoutingTable
from orchestrator.core.traffic import Meter
from orchestrator.gateway.exchange import Exchange
from orchestrator.gateway.head import RequestHead
from orchestrator.gateway.hub import Hub
from orchestrator.gateway.inbound import ClientConnection
from orchestrator.gateway.limits import Access, Limits
from orchestrator.gateway.upstream import Pool, WorkerConnection
from tests.gateway.readings import CheckedRecall

KEY = b"gd_k1_owner"
NOW_NS = 1_800_000_000_000_000_000


class Wire(asyncio.Transport):
    """The end of a connection that the gateway holds."""

    def __init__(self, stage: Stage, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._stage = stage
        self.protocol = protocol
        self.sent = b""
        """What the gateway wrote."""
        self.reading = True
        self.half_closed = False
        self.closed = False
        self.aborted = False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        assert not self.closed, "written to a closed connection"
        assert not self.half_closed, "written after the end"
        assert data, "an empty write"
        self.sent += data

    def write_eof(self) -> None:
        self.half_closed = True

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._stage.later(partial(self.protocol.connection_lost, None))

    def abort(self) -> None:
        self.aborted = self.aborted or not self.closed
        self.close()

    def is_closing(self) -> bool:
        return self.closed

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    # --- the other end

    def give(self, data: bytes) -> None:
        """Bytes arrive."""
        if data and not self.closed:
            self.protocol.data_received(data)
            self._stage.settle()

    def end(self) -> None:
        """The other end sends no more."""
        if not self.closed:
            if not self.protocol.eof_received():
                self.close()
            self._stage.settle()


class MemoryPool(Pool):
    """Opens connections at once, but not before the caller has returned, as a loop would."""

    def __init__(self, stage: Stage, slot: Slot) -> None:
        super().__init__(stage.hub, slot)
        self._stage = stage

    def connect(self, exchange: Exchange) -> None:
        self._stage.later(partial(self._connect, exchange))

    def _connect(self, exchange: Exchange) -> None:
        connection = WorkerConnection(self)
        wire = Wire(self._stage, connection)
        connection.connection_made(wire)
        self._stage.workers.append(wire)
        if not exchange.connected(self, connection):
            connection.drop()


class WatchedConnection(ClientConnection):
    """Remembers the requests it took up, and has every head that it recalls read a second time."""

    __slots__ = ("taken",)

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub)
        self.taken: list[RequestHead] = []
        self._recall = CheckedRecall()

    def _begin(self, head: RequestHead) -> None:
        self.taken.append(head)
        super()._begin(head)


class Stage:
    """One gateway, one endpoint `sketch`, a client, and as many connections to workers as it opens."""

    def __init__(self) -> None:
        self._later: deque[Callable[[], object]] = deque()
        self.workers: list[Wire] = []
        table = RoutingTable(ready=True)
        table.keys[hashlib.sha256(KEY).digest()] = KeyGrant("k1", "local")
        self.lane = Lane("sketch", queue_limit=8, queue_bytes_limit=1 << 30)
        table.routes["sketch"] = Route(
            "sketch", "local", Visibility.PRIVATE, self.lane, Meter(), "/predict", 600, 600, cancels=False
        )
        self.hub = Hub(table, lambda: NOW_NS, Limits(), Access())
        self.hub._prefix, self.hub._block = b"00000000", b"00000000000000"
        slot = Slot("id-a", "a", "127.0.0.1", 9, 4, ready_ns=0)
        self.hub.pools[slot] = MemoryPool(self, slot)
        self.lane.set_ring([slot])
        self.connection, self.client = self.connect()

    def connect(self) -> tuple[WatchedConnection, Wire]:
        """One more client."""
        connection = WatchedConnection(self.hub)
        wire = Wire(self, connection)
        connection.connection_made(wire)
        return connection, wire

    def later(self, call: Callable[[], object]) -> None:
        self._later.append(call)

    def settle(self) -> None:
        """Run what was to be run later, and what follows from it."""
        rounds = 0
        while self._later:
            self._later.popleft()()
            rounds += 1
            assert rounds < 10_000, "it does not come to rest"

    def leave(self) -> None:
        """The client goes; nothing may be left behind."""
        self.client.abort()
        self.settle()
        assert self.connection.request is None
        assert (self.lane.running, self.lane.queued, self.lane.queued_bytes) == (0, 0, 0)
        assert not self.hub.clients
        (pool,) = self.hub.pools.values()
        assert pool.opened == {c for c in pool.idle if not c.transport.is_closing()}
