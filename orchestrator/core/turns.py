"""One route as a person wants to see it: places, turns, waiters, and how long replies took."""

from __future__ import annotations

from typing import Literal

from orchestrator.contract.routing import WAITS_MAX, Bucket, PlaceView, Routing
from orchestrator.core.history import Histogram, bounds_us
from orchestrator.core.lane import Slot
from orchestrator.core.routing import Route


def routing_of(route: Route, now_ns: int, *, latencies: bool) -> Routing:
    """The route at `now_ns`. Changes nothing."""
    lane = route.lane
    ring, reserve, turn = lane.standing()
    places = [_place(slot, "ring") for slot in ring] + [_place(slot, "reserve") for slot in reserve]
    standing = {place.worker_id for place in places}
    places += [_place(slot, "out") for slot in lane.slots.values() if slot.worker_id not in standing]
    in_turn = places[turn : len(ring)] + places[:turn] + places[len(ring) :]
    free = (place.worker_id for place in in_turn if place.passed_over is None)
    replies, waits = route.meter.histograms(now_ns) if latencies else ({}, {})
    return Routing(
        slug=route.slug,
        at_ns=now_ns,
        places=tuple(places),
        turn=ring[turn].worker_id if ring else None,
        last=lane.last,
        takes=None if lane.queued or lane.closed is not None else next(free, None),
        queued=lane.queued,
        queue_limit=lane.queue_limit,
        queued_bytes=lane.queued_bytes,
        waits_ms=tuple(max(0, now_ns - at_ns) // 1_000_000 for at_ns in lane.arrivals(WAITS_MAX)),
        closed=lane.closed.message if lane.closed is not None else None,
        latencies=_buckets(replies),
        waits=_buckets(waits),
    )


def _place(slot: Slot, place: Literal["ring", "reserve", "out"]) -> PlaceView:
    return PlaceView(
        worker_id=slot.worker_id,
        label=slot.label,
        place=place,
        in_flight=slot.in_flight,
        concurrency=slot.concurrency,
        served=slot.served,
        idle_since_ns=slot.idle_since_ns,
        passed_over=_passed_over(slot, place),
    )


def _passed_over(slot: Slot, place: str) -> Literal["busy", "suspect", "recycle", "draining"] | None:
    """The lane's own rule (Lane._take), with its reason: the gravest first."""
    if place == "out":
        return "draining"
    if slot.recycle:
        return "recycle"
    if slot.suspect:
        return "suspect"
    return "busy" if slot.in_flight >= slot.concurrency else None


def _buckets(histogram: Histogram) -> tuple[Bucket, ...]:
    return tuple(
        Bucket(from_us=bounds_us(each)[0], to_us=bounds_us(each)[1], count=histogram[each])
        for each in sorted(histogram)
    )
