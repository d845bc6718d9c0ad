"""Scaling down: which workers go when there are more than the policy wants. Rule R13, and the policy's `keep_ns`.

- Surplus = live workers - max(baseline, desired). Nobody goes while a request waits.
- Idle autoscaled workers go once they have been idle for `keep_ns` (the endpoint's idle timeout when the policy does
  not say), longest idle first. Idle counts from the last byte of the last request; a worker in flight is never idle.
- With `keep_ns` 0, starting workers go too, the youngest first, after the idle ones. Not those whose slots the waiting
  requests will fill.
- While an update rolls, nobody of the new generation goes: a successor is not surplus, else it would be started anew.
"""

from __future__ import annotations

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.snapshot import WorkerState
from orchestrator.core import lifecycle
from orchestrator.core.endpoint import Endpoint
from orchestrator.core.events import LaneSeen
from orchestrator.core.state import Draft
from orchestrator.core.tiers import autoscaled
from orchestrator.core.worker import Worker


def shed(draft: Draft, endpoint: Endpoint, lane: LaneSeen, desired: int, keep_ns: int | None) -> int | None:
    """Let the surplus go that is due. Returns when the next of it is due, None when nothing more of it will be."""
    live = [w for w in draft.workers_of(endpoint.slug) if w.live]
    old = [w for w in live if w.generation < endpoint.generation]
    surplus = len(live) - max(endpoint.spec.baseline, desired)
    if surplus <= 0:
        return None
    next_ns = None
    if not lane.queued:
        timeout_ns = endpoint.spec.idle_timeout_s * SECOND_NS if keep_ns is None else keep_ns
        idle = idle_workers(draft, old or live, lane)[:surplus]
        for since_ns, worker in idle:
            if draft.now_ns - since_ns < timeout_ns:
                next_ns = since_ns + timeout_ns
                break
            lifecycle.drain(draft, worker, f"idle for {(draft.now_ns - since_ns) / SECOND_NS:.0f} s", 0.0)
            surplus -= 1
    if keep_ns == 0 and not old:
        _cancel_starts(draft, endpoint, lane, surplus)
    return next_ns


def idle_workers(draft: Draft, workers: list[Worker], lane: LaneSeen) -> list[tuple[int, Worker]]:
    """Ready autoscaled workers without a request, and since when, longest idle first."""
    idle = []
    for worker in workers:
        slot = lane.slots.get(worker.id)
        if worker.state is WorkerState.READY and slot is not None and not slot.in_flight and autoscaled(draft, worker):
            idle.append((slot.idle_since_ns, worker))
    return sorted(idle, key=lambda entry: (entry[0], -entry[1].ordinal))


def _cancel_starts(draft: Draft, endpoint: Endpoint, lane: LaneSeen, surplus: int) -> None:
    starting = [w for w in draft.workers_of(endpoint.slug) if w.state is WorkerState.STARTING and autoscaled(draft, w)]
    spare = min(surplus, len(starting) - -(-lane.queued // endpoint.concurrency))
    for worker in sorted(starting, key=lambda w: -w.serial)[: max(0, spare)]:
        lifecycle.stop(draft, worker, "its start is not wanted any more")
