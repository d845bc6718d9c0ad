"""The routing table: which lane a slug leads to and whom a key belongs to. Written by the controller, read by the
gateway, both in one event loop; a request costs two dictionary reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from orchestrator.contract.endpoint import Visibility
from orchestrator.core.lane import Lane, Slot
from orchestrator.core.traffic import Meter


@dataclass(slots=True)
class Route:
    """Everything the gateway needs to know about one endpoint."""

    slug: str
    account: str
    visibility: Visibility
    lane: Lane
    meter: Meter
    predict_path: str
    execution_timeout_s: float
    queue_timeout_s: float
    cancels: bool
    """The model stops working when its connection is closed: a timeout need not recycle the worker."""


@dataclass(slots=True)
class KeyGrant:
    """What a valid key entitles to. `used_ns` is written by the gateway and persisted with the next heartbeat."""

    key_id: str
    account: str
    expires_ns: int | None = None
    used_ns: int | None = None
    endpoints: frozenset[str] = frozenset()
    """The only slugs it may call; empty means all that its account may."""


def _unknown(_: Slot) -> tuple[tuple[int, int], ...]:
    """Nobody says what a worker is working on."""
    return ()


@dataclass(slots=True)
class RoutingTable:
    """`keys` maps the SHA-256 digest of a whole key to its grant: the lookup leaks nothing about the key's bytes."""

    routes: dict[str, Route] = field(default_factory=dict)
    keys: dict[bytes, KeyGrant] = field(default_factory=dict)
    balances_u: dict[str, int] = field(default_factory=dict)
    """Balance per account, for `x-remaining-credits` and `GET /v1/get-user-credits`."""
    ready: bool = False
    """What /readyz answers."""
    restoring: bool = False
    """The state of an earlier life is being read: routes and keys are not there yet."""
    in_flight: Callable[[Slot], Iterable[tuple[int, int]]] = _unknown
    """(arrival, dispatch) of the requests a worker is working on, as far as the data plane knows them. Asked at ticks:
    the request path keeps no record for it."""
