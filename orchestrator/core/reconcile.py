"""From what is wanted and what is there to the fewest starts and stops. Runs on ticks only: they carry fresh traffic.

For each endpoint, in this order:

1. Not wanted (disabled, deleted, suspended, failed, or the orchestrator stops): wind down.
2. Starting past its deadline, draining with nothing left or past its grace, to be recycled: drain or stop.
3. Ask the policy; clamp to [baseline, maximum].
4. More live workers than the maximum: drain the surplus (an update lowered it).
5. Autoscaled, idle for long enough, and not wanted: stop (core/idling.py).
6. Of an older generation: drained as newer ones become ready; never the other way round.
7. Fewer than wanted: ask for a GPU. Baselines of all endpoints first, then one each in turn, fewest first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.snapshot import LaneSample, Tier, WorkerState
from orchestrator.core import charging, deciding, lifecycle
from orchestrator.core.endpoint import SETTLED_NS, Endpoint
from orchestrator.core.events import LaneSeen, SlotSeen
from orchestrator.core.idling import shed
from orchestrator.core.placement import free_gpus, grant
from orchestrator.core.rolling import roll, yield_one
from orchestrator.core.state import Draft
from orchestrator.core.worker import Worker

QUIET = LaneSeen(queued=0, running=0, slots={})
LANES_KEPT = 120
PREEMPTION_GRACE_S = 30.0


@dataclass(slots=True)
class Want:
    """Starts one endpoint asks for in this tick."""

    slug: str
    baseline: int
    """How many of them complete the baseline."""
    autoscaled: int
    held: int
    """Workers it has: the fewest go first."""


def reconcile(draft: Draft, lanes: Mapping[str, LaneSeen]) -> None:
    """One pass over all endpoints; see the module's list."""
    if draft.state.stopping == "leave":
        return  # the workers are the next orchestrator's: a drain begun now would take them from those who still wait
    wants = []
    refusals: deciding.Refusals = {}
    for slug in list(draft.endpoints):
        want = _tend(draft, slug, lanes.get(slug, QUIET), refusals)
        if want is not None:
            wants.append(want)
    _place(draft, wants, refusals)
    deciding.settle_refusals(draft, refusals)
    for slug, endpoint in list(draft.endpoints.items()):
        _sample_lanes(draft, endpoint, lanes.get(slug, QUIET))


def earliest_wake_ns(endpoints: Iterable[Endpoint]) -> int | None:
    """When the next tick is due at the latest; None when any time will do."""
    return min((e.wake_ns for e in endpoints if e.wake_ns is not None), default=None)


def _tend(draft: Draft, slug: str, lane: LaneSeen, refusals: deciding.Refusals) -> Want | None:
    endpoint = draft.endpoints[slug]
    _note_first_bytes(draft, slug, lane)
    charging.retier(draft, slug)  # an update may have moved the baseline
    if not endpoint.enabled or draft.state.stopping is not None:
        _wind_down(draft, endpoint)
        _finish_drains(draft, slug, lane)
        return None
    _expire_starts(draft, slug)
    _replace_recycled(draft, endpoint, lane)
    verdict = deciding.ask(draft, draft.endpoints[slug], lane, refusals)
    _shrink_to_maximum(draft, endpoint)
    due_ns = shed(draft, endpoint, lane, verdict.desired, verdict.keep_ns)
    roll(draft, endpoint, verdict.desired)
    _finish_drains(draft, slug, lane)
    _settle(draft, slug)
    if due_ns is not None:
        wake_ns = draft.endpoints[slug].wake_ns
        due_ns = due_ns if wake_ns is None else min(due_ns, wake_ns)
        draft.endpoints[slug] = replace(draft.endpoints[slug], wake_ns=due_ns)
    return _want(draft, draft.endpoints[slug], verdict.desired, refusals)


def _note_first_bytes(draft: Draft, slug: str, lane: LaneSeen) -> None:
    for worker in draft.workers_of(slug):
        slot = lane.slots.get(worker.id)
        if slot is not None and slot.first_byte_ns is not None and worker.first_byte_ns is None:
            draft.workers[worker.id] = replace(worker, first_byte_ns=slot.first_byte_ns)


def _wind_down(draft: Draft, endpoint: Endpoint) -> None:
    grace_s = float(endpoint.spec.execution_timeout_s)
    rule, reason = "disabled", "endpoint disabled"
    if draft.state.stopping is not None:
        grace_s, rule, reason = float(draft.rules.shutdown_grace_s), "stopping", "gpudeck stops"
    elif endpoint.removed:
        rule, reason = "deleted", "endpoint deleted"
    elif endpoint.wanted == "suspended":
        grace_s, rule, reason = float(draft.rules.suspend_grace_s), "credit", "credit fell below $10.00"
    elif endpoint.wanted == "failed":
        rule, reason = "failed", "endpoint failed"
    deciding.give_up(draft, endpoint, rule, reason)
    workers = draft.workers_of(endpoint.slug)
    for worker in workers:
        if worker.state is WorkerState.STARTING:
            lifecycle.stop(draft, worker, reason)
        elif worker.state is WorkerState.READY:
            lifecycle.drain(draft, worker, reason, grace_s)
    if endpoint.removed and not workers:
        del draft.endpoints[endpoint.slug]
        draft.note("info", f"endpoint {endpoint.slug} deleted", endpoint=endpoint.slug)


def _expire_starts(draft: Draft, slug: str) -> None:
    for worker in draft.workers_of(slug):
        if worker.state is WorkerState.STARTING and draft.now_ns >= worker.startup_deadline_ns:
            seconds = (worker.startup_deadline_ns - worker.intent_ns) // SECOND_NS
            message = f"{worker.label} was not healthy within its startup deadline of {seconds} s"
            lifecycle.stop(draft, worker, message, blameless=False)
            lifecycle.crashed(draft, draft.endpoints[slug], worker, "startup_timeout", message, ())


def _replace_recycled(draft: Draft, endpoint: Endpoint, lane: LaneSeen) -> None:
    """A worker that still chews on a timed-out request is drained; the missing one is started like any other."""
    for worker in draft.workers_of(endpoint.slug):
        slot = lane.slots.get(worker.id)
        if worker.state is WorkerState.READY and slot is not None and slot.recycle:
            lifecycle.drain(draft, worker, "a request timed out on it", endpoint.spec.execution_timeout_s)


def _shrink_to_maximum(draft: Draft, endpoint: Endpoint) -> None:
    live = [w for w in draft.workers_of(endpoint.slug) if w.live and not w.surge]
    surplus = len(live) - endpoint.spec.maximum
    for worker in sorted(live, key=lambda w: (w.generation, -w.serial))[: max(0, surplus)]:
        _retire(draft, worker, f"maximum is now {endpoint.spec.maximum}", endpoint.spec.execution_timeout_s)


def _finish_drains(draft: Draft, slug: str, lane: LaneSeen) -> None:
    for worker in draft.workers_of(slug):
        if worker.state is not WorkerState.DRAINING:
            continue
        slot: SlotSeen | None = lane.slots.get(worker.id)
        done = slot is None or slot.in_flight == 0
        late = worker.drain_deadline_ns is not None and draft.now_ns >= worker.drain_deadline_ns
        if done or late:
            lifecycle.stop(draft, worker, worker.reason or "drained")


def _settle(draft: Draft, slug: str) -> None:
    """A worker that stays ready ends a crash loop and clears the problem."""
    endpoint = draft.endpoints[slug]
    if endpoint.problem is None and endpoint.crashes == 0:
        return
    ready = [w for w in draft.workers_of(slug) if w.state is WorkerState.READY]
    if any(w.ready_ns is not None and draft.now_ns - w.ready_ns >= SETTLED_NS for w in ready):
        draft.endpoints[slug] = replace(endpoint, crashes=0, retry_ns=None, problem=None)


def _want(draft: Draft, endpoint: Endpoint, desired: int, refusals: deciding.Refusals) -> Want | None:
    """How many starts are missing, and for what."""
    workers = draft.workers_of(endpoint.slug)
    fresh = sum(1 for w in workers if w.live and w.generation == endpoint.generation)
    missing = desired - fresh
    if missing <= 0:
        return None
    obstacle = deciding.blocked(draft, endpoint)
    if obstacle is not None:
        deciding.refuse(draft, endpoint, obstacle, refusals)
        return None
    # Workers of an older generation complete the baseline until they are replaced: a roll must not outrank the missing
    # baseline of another endpoint, or the two take the same GPU from each other for ever.
    baseline = max(0, min(missing, endpoint.spec.baseline - sum(1 for w in workers if w.live)))
    return Want(endpoint.slug, baseline, missing - baseline, len(workers))


def _place(draft: Draft, wants: list[Want], refusals: deciding.Refusals) -> None:
    """Grant GPUs: all baselines first, then autoscaled ones in fair order."""
    for want in wants:
        for _ in range(want.baseline):
            if not _start_one(draft, want.slug, refusals):
                _make_room(draft, want.slug)
                break
    queue = sorted((w for w in wants if w.autoscaled > 0), key=lambda w: (w.held, w.slug))
    while queue:
        remaining = []
        for want in queue:
            if _start_one(draft, want.slug, refusals):
                want.autoscaled -= 1
                if want.autoscaled > 0:
                    remaining.append(want)
        queue = remaining


def _start_one(draft: Draft, slug: str, refusals: deciding.Refusals) -> bool:
    """Start one worker if the maximum allows it and a GPU is free. Everything not over yet counts (rule R12)."""
    endpoint = draft.endpoints[slug]
    workers = draft.workers_of(slug)
    over = len(workers) >= endpoint.spec.maximum
    rolling = any(w.generation < endpoint.generation for w in workers)
    if over and (not rolling or len(workers) > endpoint.spec.maximum or any(w.surge for w in workers)):
        return False  # a successor waits until what a lowered maximum lets go has gone
    held = {w.gpu.uuid for w in draft.workers.values()}
    free = free_gpus(draft.state.gpus, endpoint.spec.gpu_type, held)
    if not free:
        if rolling:
            yield_one(draft, endpoint, workers)
        elif not endpoint.starved:
            draft.note("warning", f"no {endpoint.spec.gpu_type} is free for another worker", endpoint=slug)
        draft.endpoints[slug] = replace(draft.endpoints[slug], starved=True)
        deciding.refuse(draft, draft.endpoints[slug], deciding.no_gpu(draft, endpoint), refusals)
        return False
    lifecycle.start(draft, endpoint, grant(free[0]), surge=over)
    draft.endpoints[slug] = replace(endpoint, starved=False)
    return True


def _make_room(draft: Draft, slug: str) -> None:
    """A baseline goes before autoscaled workers of other endpoints on the same GPU type: preempt one."""
    endpoint = draft.endpoints[slug]
    if len(draft.workers_of(slug)) >= endpoint.spec.maximum:
        return
    others = [w for w in draft.workers.values() if w.gpu.type == endpoint.spec.gpu_type and w.endpoint != slug]
    if any(w.state in (WorkerState.DRAINING, WorkerState.STOPPING) for w in others):
        return  # one is already on its way out
    victims = [
        w
        for w in others
        if w.live and w.interval_id is not None and draft.intervals[w.interval_id].opened.tier is Tier.AUTOSCALE
    ]
    if victims:
        victim = max(victims, key=lambda w: (w.state is WorkerState.STARTING, w.serial))
        text = f"{victim.label} gives its GPU to the baseline of {slug}"
        draft.note("warning", text, endpoint=victim.endpoint, worker=victim.id)
        _retire(draft, victim, f"preempted for the baseline of {slug}", PREEMPTION_GRACE_S)


def _retire(draft: Draft, worker: Worker, reason: str, grace_s: float) -> None:
    if worker.state is WorkerState.STARTING:
        lifecycle.stop(draft, worker, reason)
    else:
        lifecycle.drain(draft, worker, reason, grace_s)


def _sample_lanes(draft: Draft, endpoint: Endpoint, lane: LaneSeen) -> None:
    """One sample a second of workers by state, for the lane chart."""
    if draft.now_ns // SECOND_NS == endpoint.lanes_ns // SECOND_NS:
        return
    starting = idle = busy = draining = autoscaled = 0
    for worker in draft.workers_of(endpoint.slug):
        slot = lane.slots.get(worker.id)
        if worker.state is WorkerState.STARTING:
            starting += 1
        elif worker.state is WorkerState.READY:
            busy += 1 if slot is not None and slot.in_flight else 0
            idle += 0 if slot is not None and slot.in_flight else 1
        else:
            draining += 1
        if worker.interval_id is not None and draft.intervals[worker.interval_id].opened.tier is Tier.AUTOSCALE:
            autoscaled += 1
    lanes = (*endpoint.lanes, LaneSample(starting, idle, busy, draining, autoscaled))[-LANES_KEPT:]
    draft.endpoints[endpoint.slug] = replace(endpoint, lanes=lanes, lanes_ns=draft.now_ns)
