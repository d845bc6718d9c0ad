"""The data plane as it should be, derived from endpoints and workers; sent only when it differs from the last one."""

from __future__ import annotations

from orchestrator.core.effects import ApplyRoute, DropRoute, RingMember, RouteView
from orchestrator.core.endpoint import Endpoint, closed_reason
from orchestrator.core.lane import Closed
from orchestrator.core.state import Draft

STOPPING = Closed(503, "stopping", "gpudeck is stopping", retry_after_s=5)


def derive(draft: Draft) -> None:
    """Compare every endpoint's route with the one in force and emit the differences."""
    for slug in [s for s in draft.routes if s not in draft.endpoints]:
        del draft.routes[slug]
        draft.do(DropRoute(slug))
    for slug, endpoint in draft.endpoints.items():
        view = route_of(draft, endpoint)
        if draft.routes.get(slug) != view:
            draft.routes[slug] = view
            draft.do(ApplyRoute(view))


def route_of(draft: Draft, endpoint: Endpoint) -> RouteView:
    """One endpoint's route: open or closed, and the ring of ready workers in ordinal order."""
    workers = draft.workers_of(endpoint.slug)
    closed = STOPPING if draft.state.stopping == "drain" else closed_reason(endpoint)
    spec = endpoint.spec
    ring = tuple(
        RingMember(w.id, w.label, w.host, w.port, endpoint.concurrency, w.idle_since_ns or w.ready_ns or draft.now_ns)
        for w in workers
        if w.routable and w.host is not None and w.port is not None
    )
    return RouteView(
        slug=spec.slug,
        account=spec.account,
        visibility=spec.visibility,
        predict_path=endpoint.model.predict_path,
        execution_timeout_s=float(spec.execution_timeout_s),
        queue_timeout_s=float(spec.queue_timeout_s),
        queue_limit=spec.queue_limit,
        cancels=endpoint.model.cancels,
        closed=closed,
        evict=closed is not None,
        ring=ring,
        present=frozenset(w.id for w in workers),
    )
