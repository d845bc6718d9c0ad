"""The inside of one endpoint's routing at an instant: whose turn it is, who is passed over and why, who waits.

Asked for by whoever looks at it, and derived then: the request path keeps nothing for it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from orchestrator.contract.base import Frozen, Received
from orchestrator.contract.limits import Slug

WAITS_MAX = 20
"""Waiters that are shown one by one."""


class AskRouting(Frozen):
    """With `latencies` the answer has the histograms of the last 60 s too, at the price of a snapshot's percentiles."""

    kind: Literal["routing"] = "routing"
    slug: Slug
    latencies: bool = False


class PlaceView(Received):
    """A worker's place. The ring and the reserve are in their own order; `out`: it finishes what it has."""

    worker_id: str
    label: str
    place: Literal["ring", "reserve", "out"]
    in_flight: int
    concurrency: int
    served: int
    idle_since_ns: int
    passed_over: Literal["busy", "suspect", "recycle", "draining"] | None = None
    """Why it would get no request now."""


class Bucket(Received):
    """Replies that took [from_us, to_us) microseconds."""

    from_us: int
    to_us: int
    count: int


class Routing(Received):
    """`turn` and `last` are ids of workers: the one round robin looks at first, and the one the ring served last."""

    kind: Literal["routing_of"] = "routing_of"
    slug: str
    at_ns: int
    places: tuple[PlaceView, ...]
    turn: str | None
    last: str | None
    takes: str | None
    """The worker that a request would go to now; None when it would wait."""
    queued: int
    queue_limit: int
    queued_bytes: int = Field(ge=0)
    waits_ms: tuple[int, ...]
    """How long the first WAITS_MAX have waited, first come first."""
    closed: str | None = None
    """Why nothing is admitted."""
    latencies: tuple[Bucket, ...] = ()
    """From arrival to last byte, of replies of the last 60 s; buckets without any are left out."""
    waits: tuple[Bucket, ...] = ()
    """What of that was waiting for a worker."""
