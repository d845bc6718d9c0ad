"""What every connection of the gateway shares: table, clock, limits, and the pools of worker connections."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.core.lane import Slot
from orchestrator.core.routing import RoutingTable
from orchestrator.gateway.answers import dollars
from orchestrator.gateway.browser import Doorman
from orchestrator.gateway.limits import Access, Limits
from orchestrator.gateway.upstream import Pool

if TYPE_CHECKING:
    from orchestrator.gateway.inbound import ClientConnection


class Hub:
    """Shared state of one gateway; lives in one event loop."""

    __slots__ = (
        "_balances", "_counter", "_prefix", "clients", "coarse_ns", "doorman", "draining", "emptied", "limits", "now",
        "pools", "table", "tasks",
    )  # fmt: skip

    def __init__(self, table: RoutingTable, now: Callable[[], int], limits: Limits, access: Access) -> None:
        self.table = table
        self.now = now
        self.limits = limits
        self.doorman = Doorman(access)
        self.clients: set[ClientConnection] = set()
        self.pools: dict[Slot, Pool] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        """Connections to workers being opened: the loop itself holds tasks weakly."""
        self.draining = False
        self.emptied = asyncio.Event()
        """Set while there are no client connections."""
        self.emptied.set()
        self.coarse_ns = now()
        """The clock as of the last sweep, for deadlines of seconds: not worth a clock call per event."""
        self._prefix = secrets.token_hex(4).encode()
        self._counter = 0
        self._balances: dict[str, tuple[int, bytes]] = {}

    def next_id(self) -> bytes:
        """A request id: 16 hexadecimal digits, unique in this process, unlikely to repeat in another."""
        self._counter = (self._counter + 1) & 0xFFFFFFFF
        return b"%b%08x" % (self._prefix, self._counter)

    def pool(self, slot: Slot) -> Pool:
        pool = self.pools.get(slot)
        if pool is None:
            pool = self.pools[slot] = Pool(self, slot)
        return pool

    def balance(self, account: str) -> bytes:
        """The account's balance in dollars. Formatted anew only when it changed, not per request."""
        amount_u = self.table.balances_u.get(account, 0)
        known = self._balances.get(account)
        if known is not None and known[0] == amount_u:
            return known[1]
        text = dollars(amount_u).encode("ascii")
        self._balances[account] = (amount_u, text)
        return text

    def joined(self, client: ClientConnection) -> None:
        self.clients.add(client)
        self.emptied.clear()

    def left(self, client: ClientConnection) -> None:
        self.clients.discard(client)
        if not self.clients:
            self.emptied.set()
