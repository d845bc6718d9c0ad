"""The gateway as a whole: listen, sweep deadlines, drain, close."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from orchestrator.core.routing import RoutingTable
from orchestrator.gateway import sockets
from orchestrator.gateway.descriptors import make_room
from orchestrator.gateway.hub import Hub
from orchestrator.gateway.inbound import ClientConnection
from orchestrator.gateway.limits import Access, Limits

log = logging.getLogger(__name__)

SWEPT_AT_ONCE: Final = 128
BACKLOG: Final = 1_024
ACCEPT_TURNS: Final = 8
"""Of the loop, until what has been accepted is a client: it needs four at most."""
FIRST_REQUEST_S: Final = 1.0
_ABORT_S = 1.0
"""Time for clients to hang up after their last answer, and for the event loop to report connections it cut."""


class ListenError(Exception):
    """The gateway cannot listen. The message names the address and what to do."""


class Gateway:
    """The data plane. Reads and writes `table` only, in the event loop it is started in."""

    def __init__(
        self,
        table: RoutingTable,
        now: Callable[[], int],
        limits: Limits | None = None,
        access: Access | None = None,
    ) -> None:
        self._hub = Hub(table, now, limits or Limits(), access or Access())
        table.in_flight = self._hub.in_flight
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._port = 0

    @property
    def hub(self) -> Hub:
        """What its connections share, for those who send requests over the same lanes and pools."""
        return self._hub

    @property
    def port(self) -> int:
        """The port it listens on; 0 before `start`."""
        return self._port

    @property
    def clients(self) -> frozenset[ClientConnection]:
        """Client connections open now."""
        return frozenset(self._hub.clients)

    @property
    def connections(self) -> int:
        """Number of client connections open now."""
        return len(self._hub.clients)

    @property
    def worker_connections(self) -> int:
        """Connections to workers open now, idle ones included."""
        return sum(len(pool.opened) for pool in self._hub.pools.values())

    async def start(self, host: str, port: int) -> None:
        """Listen on `host`:`port` (0 picks a free port). Raises ListenError."""
        loop = asyncio.get_running_loop()
        self._hub.fit(make_room(self._hub.limits.connections))
        try:
            self._server = await loop.create_server(
                lambda: ClientConnection(self._hub), host, port, backlog=BACKLOG, reuse_address=True
            )
        except OSError as error:
            raise ListenError(_explain(error, host, port)) from error
        for sock in self._server.sockets:
            with socket.socket(fileno=os.dup(sock.fileno())) as twin:  # uvloop's own offers no setsockopt
                sockets.notice_dead_peers(twin)
        self._port = int(self._server.sockets[0].getsockname()[1])
        self._sweeper = loop.create_task(self._sweep_for_ever())

    async def drain(self, grace_s: float, others: Awaitable[None] | None = None) -> None:
        """Accept nothing more, let requests finish for `grace_s` seconds, then close. Who is connected but has not
        asked yet has FIRST_REQUEST_S to do so. `others` is what else is to be finished over our connections to
        workers, within a grace of its own."""
        self._hub.draining = True
        await self._stop_listening()
        first_s = min(grace_s, FIRST_REQUEST_S)
        for fresh, patience_s in ((False, first_s), (True, grace_s - first_s)):
            for client in list(self._hub.clients):
                client.close_if_idle(fresh=fresh)
            with suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await self._hub.emptied.wait()
        if self._hub.clients:
            log.info("%d client connections are cut off after %g s", len(self._hub.clients), grace_s)
        if others is not None:
            await others
        await self.close()

    async def _stop_listening(self) -> None:
        """Close the listener once everybody whose connection has been made is a client."""
        if self._server is None:
            return
        for sock in self._server.sockets:
            with socket.socket(fileno=os.dup(sock.fileno())) as twin:
                try:
                    sockets.take_no_more(twin)
                except OSError as error:
                    log.debug("connections that are made while the listener closes are reset: %s", error.strerror)
                for _ in range(BACKLOG):  # uvloop accepts one a turn
                    if not sockets.has_callers(twin):
                        break
                    await asyncio.sleep(0)
        for _ in range(ACCEPT_TURNS):
            await asyncio.sleep(0)
        self._server.close()

    async def close(self) -> None:
        """Cut every connection now. Claims are given back, waiters leave their queues. Idempotent."""
        hub = self._hub
        hub.draining = True
        if self._server is not None:
            self._server.close()
            self._server = None
        for end in (ClientConnection.hang_up, ClientConnection.abort):
            for client in list(hub.clients):
                end(client)
            try:
                async with asyncio.timeout(_ABORT_S):
                    await hub.emptied.wait()
            except TimeoutError:
                continue  # answered and told to go, but it did not: cut
        for task in list(hub.tasks):
            task.cancel()
        if hub.tasks:
            await asyncio.wait(hub.tasks)
        for pool in hub.pools.values():
            pool.close()
        hub.pools.clear()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    async def _sweep_for_ever(self) -> None:
        """A task and not a chain of timers, so that a loop that is closed without `close` can end it. The sweep itself
        runs outside the task: an error in one goes to the loop's handler and must not be the last of them."""
        while True:
            await asyncio.sleep(self._hub.limits.sweep_s)
            asyncio.get_running_loop().call_soon(self._sweep)

    def _sweep(self) -> None:
        """Look at every deadline."""
        hub = self._hub
        hub.coarse_ns = now_ns = hub.now()
        self._sweep_clients(list(hub.clients), now_ns)
        for slot, pool in list(hub.pools.items()):
            if pool.sweep(now_ns):
                del hub.pools[slot]

    def _sweep_clients(self, clients: list[ClientConnection], now_ns: int) -> None:
        """Some of `clients` now, the others in later turns of the loop: all 4,096 at once would keep every request
        waiting for 3 ms."""
        for client in clients[-SWEPT_AT_ONCE:]:
            if client in self._hub.clients:  # it may have left since
                client.sweep(now_ns)
        del clients[-SWEPT_AT_ONCE:]
        if clients:
            asyncio.get_running_loop().call_soon(self._sweep_clients, clients, now_ns)


def _explain(error: OSError, host: str, port: int) -> str:
    where = f"{host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return f"Cannot listen on {where}: port {port} is taken. Stop the program that uses it, or choose another port."
    if error.errno == errno.EACCES:
        return f"Cannot listen on {where}: ports below 1024 need root. Choose a port from 1024 to 65535."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"Cannot listen on {where}: this machine has no such address. Use 127.0.0.1, or 0.0.0.0 for all."
    return f"Cannot listen on {where}: {error.strerror or error}."
