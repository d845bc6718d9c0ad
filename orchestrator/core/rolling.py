"""Updates that restart workers: new before old, and never the other way round."""

from __future__ import annotations

from orchestrator.contract.snapshot import WorkerState
from orchestrator.core import lifecycle
from orchestrator.core.endpoint import Endpoint
from orchestrator.core.state import Draft
from orchestrator.core.worker import Worker


def roll(draft: Draft, endpoint: Endpoint, desired: int) -> None:
    """An old worker leaves only when the ready new ones make up for it."""
    live = [w for w in draft.workers_of(endpoint.slug) if w.live]
    stale = [w for w in live if w.generation < endpoint.generation]
    if not stale:
        return
    for worker in stale:
        if worker.state is WorkerState.STARTING:
            lifecycle.stop(draft, worker, "superseded by an update")
    ready_old = [w for w in stale if w.state is WorkerState.READY]
    ready_new = [w for w in live if w.generation == endpoint.generation and w.state is WorkerState.READY]
    wanted = max(desired, 1 if any(w.state is WorkerState.STARTING for w in live) else 0)
    spare = len(ready_new) + len(ready_old) - wanted
    for worker in sorted(ready_old, key=lambda w: w.serial)[: max(0, spare)]:
        lifecycle.drain(draft, worker, "replaced by an update", endpoint.spec.execution_timeout_s)


def yield_one(draft: Draft, endpoint: Endpoint, workers: list[Worker]) -> None:
    """No GPU for a surge: one old worker makes room for its successor, waiting requests are held meanwhile."""
    leaving = any(w.state in (WorkerState.DRAINING, WorkerState.STOPPING) for w in workers)
    starting = any(w.state is WorkerState.STARTING for w in workers)
    old = [w for w in workers if w.generation < endpoint.generation and w.state is WorkerState.READY]
    if old and not leaving and not starting:
        lifecycle.drain(draft, old[0], "makes room for its successor", endpoint.spec.execution_timeout_s)
