"""Applies routes to the routing table, and reads the traffic back for a tick."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.controller.feed import LaneFeed, seen
from orchestrator.core.effects import GrantKey, RingMember, RouteView
from orchestrator.core.events import LaneSeen
from orchestrator.core.lane import Closed, Lane, Slot
from orchestrator.core.routing import KeyGrant, Route, RoutingTable
from orchestrator.core.traffic import Meter

QUEUE_BYTES_MAX = 256 * 1024 * 1024
GONE = Closed(404, "endpoint_deleted", "the endpoint has been deleted")


class Routes:
    """The only writer of the routing table. All calls happen in the event loop, between awaits."""

    def __init__(self, table: RoutingTable, nudge: Callable[[], None]) -> None:
        self._table = table
        self._nudge = nudge
        self._digests: dict[str, bytes] = {}
        self._feeds: dict[str, LaneFeed] = {}

    def apply(self, view: RouteView) -> None:
        """Make the route of one endpoint look like `view`. Slots of workers that stay keep their counters."""
        route = self._table.routes.get(view.slug)
        if route is None:
            lane = Lane(view.slug, queue_limit=view.queue_limit, queue_bytes_limit=QUEUE_BYTES_MAX, nudge=self._nudge)
            route = Route(
                slug=view.slug,
                account=view.account,
                visibility=view.visibility,
                lane=lane,
                meter=Meter(),
                predict_path=view.predict_path,
                execution_timeout_s=view.execution_timeout_s,
                queue_timeout_s=view.queue_timeout_s,
                cancels=view.cancels,
            )
            self._table.routes[view.slug] = route
        route.account, route.visibility, route.predict_path = view.account, view.visibility, view.predict_path
        route.execution_timeout_s, route.queue_timeout_s = view.execution_timeout_s, view.queue_timeout_s
        route.cancels = view.cancels
        lane = route.lane
        lane.queue_limit = view.queue_limit
        lane.set_ring([_slot(lane, member) for member in view.ring], [_slot(lane, member) for member in view.reserve])
        for worker_id in [w for w in lane.slots if w not in view.present]:
            lane.forget(worker_id)
        if view.closed is None:
            lane.open()
        else:
            lane.close(view.closed, evict=view.evict)

    def drop(self, slug: str) -> None:
        """Forget the endpoint's route; late waiters are refused."""
        route = self._table.routes.pop(slug, None)
        if route is not None:
            route.lane.close(GONE, evict=True)

    def trust(self, slug: str, worker_id: str) -> None:
        route = self._table.routes.get(slug)
        if route is not None:
            route.lane.trust(worker_id)

    def grant(self, effect: GrantKey) -> None:
        self._digests[effect.key_id] = effect.digest
        self._table.keys[effect.digest] = KeyGrant(
            effect.key_id, effect.account, effect.expires_ns, endpoints=frozenset(effect.endpoints)
        )

    def withdraw(self, key_id: str) -> None:
        digest = self._digests.pop(key_id, None)
        if digest is not None:
            self._table.keys.pop(digest, None)

    def lanes_seen(self) -> dict[str, LaneSeen]:
        """The traffic at this instant, for a snapshot: what happened since the last tick is left for the next one."""
        return {slug: seen(route.lane) for slug, route in self._table.routes.items()}

    def take_lanes(self, now_ns: int) -> dict[str, LaneSeen]:
        """The traffic at this instant and since the last call, for a tick in the same turn of the loop."""
        routes = self._table.routes
        for slug in [s for s, feed in self._feeds.items() if s not in routes or feed.meter is not routes[s].meter]:
            del self._feeds[slug]
        for slug, route in routes.items():
            if slug not in self._feeds:
                self._feeds[slug] = LaneFeed(route.meter)
        return {s: self._feeds[s].read(now_ns, route.lane, self._table.in_flight) for s, route in routes.items()}

    def suspects(self) -> set[str]:
        """Workers the gateway could not reach."""
        return {
            slot.worker_id
            for route in self._table.routes.values()
            for slot in route.lane.slots.values()
            if slot.suspect and slot.in_ring
        }

    def take_keys_used(self) -> tuple[tuple[str, int], ...]:
        """Keys used since the last call, with the instant of their last use."""
        used = []
        for grant in self._table.keys.values():
            if grant.used_ns is not None:
                used.append((grant.key_id, grant.used_ns))
                grant.used_ns = None
        return tuple(used)


def _slot(lane: Lane, member: RingMember) -> Slot:
    """The member's slot: the one it has, with the address and concurrency of now, or a new one."""
    slot = lane.slots.get(member.worker_id)
    if slot is None:
        return Slot(member.worker_id, member.label, member.host, member.port, member.concurrency, member.idle_since_ns)
    slot.host, slot.port, slot.concurrency = member.host, member.port, member.concurrency
    return slot
