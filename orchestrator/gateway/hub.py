"""What every connection of the gateway shares: table, clock, limits, and the pools of worker connections."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from orchestrator.core.lane import Slot
from orchestrator.core.routing import RoutingTable
from orchestrator.gateway.answers import Refusal, dollars
from orchestrator.gateway.browser import Doorman
from orchestrator.gateway.limits import Access, Limits
from orchestrator.gateway.peers import Census, Failures
from orchestrator.gateway.spool import Disk
from orchestrator.gateway.upstream import Pool

if TYPE_CHECKING:
    from orchestrator.gateway.deferral import Deferrals
    from orchestrator.gateway.head import RequestHead
    from orchestrator.gateway.inbound import ClientConnection
    from orchestrator.gateway.observing import Observer


TURNED_AWAY: Final = 64
"""Connections beyond the limit that are told why and seen off; those beyond that are closed at once."""
_LOW: Final = tuple(b"%02x" % low for low in range(256))


class Hub:
    """Shared state of one gateway; lives in one event loop."""

    __slots__ = (
        "_balances", "_block", "_counter", "_prefix", "census", "clients", "coarse_ns", "deferrals", "disk", "doorman",
        "draining", "emptied", "failures", "limits", "now", "observer", "pools", "refused", "table",
        "tasks",
    )  # fmt: skip

    def __init__(self, table: RoutingTable, now: Callable[[], int], limits: Limits, access: Access) -> None:
        self.table = table
        self.now = now
        self.limits = limits
        self.doorman = Doorman(access)
        self.census = Census(limits.connections, limits.connections_per_peer)
        self.failures = Failures(limits.wrong_keys, limits.wrong_key_pause_s)
        self.clients: set[ClientConnection] = set()
        self.pools: dict[Slot, Pool] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        """Connections to workers being opened: the loop itself holds tasks weakly."""
        self.deferrals: Deferrals | None = None
        """Keeps and runs asynchronous calls; None where there are none."""
        self.observer: Observer | None = None
        """Gets a record of every request that is over; None costs nothing."""
        self.refused: Counter[tuple[int, str]] = Counter()
        """Answers of our own that are errors, by status and code."""
        self.draining = False
        self.emptied = asyncio.Event()
        """Set while there are no client connections."""
        self.emptied.set()
        self.coarse_ns = now()
        """The clock as of the last sweep, for deadlines of seconds: not worth a clock call per event."""
        self.disk = Disk(limits.spool_bytes, limits.spool_directory)
        self._prefix = secrets.token_hex(4).encode()
        self._counter = 0
        self._block = self._prefix + b"000000"
        """All but the last two digits of an id: the same for 256 of them."""
        self._balances: dict[str, tuple[int, bytes]] = {}

    def next_id(self) -> bytes:
        """A request id: 16 hexadecimal digits, unique in this process, unlikely to repeat in another."""
        self._counter = counter = (self._counter + 1) & 0xFFFFFFFF
        low = counter & 0xFF
        if not low:
            self._block = b"%b%06x" % (self._prefix, counter >> 8)
        return self._block + _LOW[low]

    def pool(self, slot: Slot) -> Pool:
        pool = self.pools.get(slot)
        if pool is None:
            pool = self.pools[slot] = Pool(self, slot)
        return pool

    def in_flight(self, slot: Slot) -> list[tuple[int, int]]:
        """(arrival, dispatch) of the requests on a worker's connections. For ticks: the request path keeps no list."""
        pool = self.pools.get(slot)
        served = [c.exchange or c.tunnel for c in pool.opened] if pool is not None else []
        return [(s.arrived_ns, s.dispatched_ns) for s in served if s is not None]

    def balance(self, account: str) -> bytes:
        """The account's balance in dollars. Formatted anew only when it changed, not per request."""
        amount_u = self.table.balances_u.get(account, 0)
        known = self._balances.get(account)
        if known is not None and known[0] == amount_u:
            return known[1]
        text = dollars(amount_u).encode("ascii")
        self._balances[account] = (amount_u, text)
        return text

    def fit(self, connections: int) -> None:
        """There is room for so many clients only; a single peer's share shrinks with it."""
        limits = self.limits
        if connections < limits.connections:
            share = max(1, limits.connections_per_peer * connections // limits.connections)
            self.census = Census(connections, share)

    @property
    def crowded(self) -> bool:
        """More clients are being turned away than can be seen off in good order."""
        return len(self.clients) > self.census.limit + TURNED_AWAY

    def tell(self, head: RequestHead | None, request_id: bytes, status: int, bytes_out: int) -> None:
        """A request that is no exchange is over; `head` is None when it could not be read."""
        if self.observer is not None:
            self.observer.answered(head, request_id, status, bytes_out)

    def joined(self, client: ClientConnection) -> Refusal | None:
        """A client has connected. The answer to it if there are too many."""
        refusal = self.census.enter(client.peer, len(self.clients))
        self.clients.add(client)
        self.emptied.clear()
        return refusal

    def left(self, client: ClientConnection) -> None:
        self.clients.discard(client)
        self.census.leave(client.peer)
        if not self.clients:
            self.emptied.set()
