"""Who is connected, and who keeps trying keys that are none. Pure; costs something at accept and at a refusal only."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from ipaddress import IPv6Address, ip_address
from typing import Final

from orchestrator.contract.base import SECOND_NS
from orchestrator.gateway.answers import Refusal

_SITE_BYTES: Final = 8
"""One household or host has a /64 of IPv6 and may use any address in it."""
NAMES_MAX: Final = 4_096
"""Peers and keys whose failures are remembered; beyond, the one that failed longest ago is forgotten."""


def peer_name(address: str) -> bytes:
    """What stands for the peer at `address`: the address of IPv4, the /64 of IPv6; empty for none that can be read."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return b""
    if not isinstance(ip, IPv6Address):
        return ip.packed
    mapped = ip.ipv4_mapped
    return mapped.packed if mapped is not None else ip.packed[:_SITE_BYTES]


class Census:
    """Connections in all and per peer."""

    def __init__(self, limit: int, peer_limit: int) -> None:
        self.limit = limit
        self._peer_limit = peer_limit
        self._peers: dict[bytes, int] = {}

    def enter(self, peer: bytes, present: int) -> Refusal | None:
        """Count a connection of `peer`, who must `leave` again whatever the answer; `present` are there already."""
        count = self._peers[peer] = self._peers.get(peer, 0) + 1
        if present >= self.limit:
            return Refusal(503, "too_many_connections", f"{self.limit} connections are open already.", retry_after_s=1)
        if count > self._peer_limit:
            detail = f"{self._peer_limit} connections from your address are open already."
            return Refusal(503, "too_many_connections_of_peer", detail, retry_after_s=1)
        return None

    def leave(self, peer: bytes) -> None:
        count = self._peers.get(peer, 0) - 1
        if count > 0:
            self._peers[peer] = count
        else:
            self._peers.pop(peer, None)


class Failures:
    """Wrong keys, counted by peer and by key. Each may fail `burst` times at once and then once in `pause_s`; beyond,
    the answer is 429 and not 401. Asked only once a key has been found wrong, so a right key is served whatever others
    do."""

    def __init__(self, burst: int, pause_s: float) -> None:
        self._burst_ns = int(burst * pause_s * SECOND_NS)
        self._pause_ns = int(pause_s * SECOND_NS)
        self._spent_ns: OrderedDict[bytes, int] = OrderedDict()
        """Instant at which a name will have its whole burst again."""

    def count(self, peer: bytes, key: bytes | None, now_ns: int) -> Refusal | None:
        """A key of `peer` was wrong. The answer if there were too many; None when 401 will do. A request without a key
        is no attempt at one."""
        if key is None:
            return None
        digest = hashlib.sha256(key).digest()  # a key of another system may be among them: it is not kept
        wait_ns = max(self._spend(name, now_ns) for name in (b"p" + peer, b"k" + digest))
        if wait_ns <= 0:
            return None
        return Refusal(
            429,
            "too_many_failures",
            "Too many wrong keys from your address, or the same wrong key too often. A right key is served at once.",
            retry_after_s=-(-wait_ns // SECOND_NS),
            close=True,
        )

    def _spend(self, name: bytes, now_ns: int) -> int:
        """Nanoseconds until `name` may fail again; the failure is charged only if it may now."""
        full_ns = max(self._spent_ns.pop(name, 0), now_ns) + self._pause_ns
        wait_ns = full_ns - now_ns - self._burst_ns
        self._spent_ns[name] = full_ns if wait_ns <= 0 else full_ns - self._pause_ns
        if len(self._spent_ns) > NAMES_MAX:
            self._spent_ns.popitem(last=False)
        return wait_ns
