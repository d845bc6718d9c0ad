"""The data plane as it should be, derived from endpoints and workers; sent only when it differs from the last one."""

from __future__ import annotations

from orchestrator.core.effects import ApplyRoute, DropRoute, RingMember, RouteView
from orchestrator.core.endpoint import Endpoint, closed_reason
from orchestrator.core.lane import Closed
from orchestrator.core.state import Draft
from orchestrator.core.tiers import by_need
from orchestrator.core.worker import Worker

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
    """One endpoint's route: open or closed, its ring and its reserve.

    As many ready workers as the last decision wants are the ring, those that are needed most (`by_need`); the others
    are the reserve. Starting ones are not counted for it: until they are ready, warm ones do their work.
    """
    workers = draft.workers_of(endpoint.slug)
    closed = STOPPING if draft.state.stopping == "drain" else closed_reason(endpoint)
    spec = endpoint.spec
    ready = [w for w in workers if w.routable and w.host is not None]
    wanted = len(ready) if endpoint.decision is None else max(endpoint.decision.desired, spec.baseline)
    order = by_need(draft, ready)
    # In ordinal order, whatever the order of need: a change of tier must not change whose turn it is.
    ring = sorted(order[:wanted], key=lambda w: (w.ordinal, w.serial))
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
        ring=tuple(_member(draft, endpoint, w) for w in ring),
        present=frozenset(w.id for w in workers),
        reserve=tuple(_member(draft, endpoint, w) for w in order[wanted:]),
    )


def _member(draft: Draft, endpoint: Endpoint, worker: Worker) -> RingMember:
    assert worker.host is not None
    assert worker.port is not None
    since_ns = worker.idle_since_ns or worker.ready_ns or draft.now_ns
    return RingMember(worker.id, worker.label, worker.host, worker.port, endpoint.concurrency, since_ns)
