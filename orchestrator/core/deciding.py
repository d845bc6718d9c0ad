"""Asks an endpoint's policy, clamps its answer, and writes changes and refusals into the decision journal.

What a policy sees of traffic comes from the lane's reading (`LaneSeen`), of workers from the core's own tables.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.snapshot import DecisionView, WorkerState
from orchestrator.core.decisions import Decided, Inputs
from orchestrator.core.effects import JournalDecision
from orchestrator.core.endpoint import Endpoint, News
from orchestrator.core.events import LaneSeen
from orchestrator.core.idling import idle_workers
from orchestrator.core.placement import occupied_by_stranger, total_of
from orchestrator.core.scaling import Observation, Reason, decide
from orchestrator.core.scaling.view import Number
from orchestrator.core.state import Draft

Refusals = dict[str, Decided]
"""What is not done in this tick, by endpoint. Of several obstacles the last one counts: the nearest to the start."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The policy's answer, clamped, and how long idle workers above it are kept (None: for the idle timeout)."""

    desired: int
    keep_ns: int | None


def ask(draft: Draft, endpoint: Endpoint, lane: LaneSeen, refusals: Refusals) -> Verdict:
    """Ask the policy, remember what it said, and journal a change.

    An answer that is not valid keeps what there is: as many as are live, clamped, so nobody is let go or started.
    """
    seen, spec, view = observation(draft, endpoint, lane), endpoint.spec, endpoint.decision
    decision = decide(spec.policy, endpoint.memory, seen)
    asked = decision.desired if decision.valid else seen.live
    desired = min(max(asked, spec.baseline), spec.maximum)
    obstacle = "maximum" if asked > spec.maximum else None
    entry = Decided(
        spec.slug, draft.now_ns, view.desired if view is not None else None, desired, decision.desired, seen.live,
        decision.why, obstacle, Inputs(spec.policy, endpoint.memory, seen),
    )  # fmt: skip
    refused = endpoint.refused
    if obstacle is not None:
        refusals[spec.slug] = entry
    if view is None or view.desired != desired:
        draft.do(JournalDecision(replace(entry, obstacle=None)))
        refused = obstacle or refused  # the change says that it was held: not once more as a refusal
    why = str(decision.why) + ("" if desired == asked else f", held to {spec.setup}")
    if view is None or (view.desired, view.why) != (desired, why):
        view = DecisionView(at_ns=draft.now_ns, desired=desired, why=why)
    draft.endpoints[spec.slug] = replace(
        endpoint, memory=decision.memory, decision=view, refused=refused, news=News(), wake_ns=decision.wake_ns
    )
    return Verdict(desired, decision.keep_ns)


def give_up(draft: Draft, endpoint: Endpoint, rule: str, sentence: str) -> None:
    """Nothing is wanted any more, whatever the traffic: journalled when it begins."""
    view = endpoint.decision
    if view is None or (view.desired, view.why) == (0, sentence):
        return
    live = sum(1 for w in draft.workers_of(endpoint.slug) if w.live)
    obstacle = rule if rule == "credit" else None
    why = Reason(rule, sentence, {})
    if view.desired:
        draft.do(JournalDecision(Decided(endpoint.slug, draft.now_ns, view.desired, 0, 0, live, why, obstacle)))
    view = DecisionView(at_ns=draft.now_ns, desired=0, why=sentence)
    draft.endpoints[endpoint.slug] = replace(endpoint, decision=view, wake_ns=None)


def blocked(draft: Draft, endpoint: Endpoint) -> Reason | None:
    """Why no worker of the endpoint may start now, whatever GPUs there are."""
    if endpoint.retry_ns is not None and draft.now_ns < endpoint.retry_ns:
        pause_s = (endpoint.retry_ns - draft.now_ns) / SECOND_NS
        sentence = "{crashes} starts failed in a row: the next attempt in {pause_s:.0f} s"
        return Reason("backoff", sentence, {"crashes": endpoint.crashes, "pause_s": pause_s})
    if not draft.state.engine.ok:
        return Reason("engine", "the engine does not answer: nothing can be started", {})
    if draft.state.ledger_problem is not None:
        return Reason("ledger", "the ledger cannot be written: nothing may be started", {})
    return None


def no_gpu(draft: Draft, endpoint: Endpoint) -> Reason:
    """Why there is no GPU for another worker of the endpoint."""
    kind = endpoint.spec.gpu_type
    ours = [g for g in draft.state.gpus if g.type == kind]
    numbers: dict[str, Number] = {
        "total": total_of(ours, kind),
        "held": sum(1 for w in draft.workers.values() if w.gpu.type == kind),
        "strangers": sum(1 for g in ours if occupied_by_stranger(g)),
    }
    sentence = f"no {kind} is free: {{total}} there, {{held}} held by workers"
    if numbers["strangers"]:
        return Reason("gpu_busy", sentence + ", {strangers} used by other programs", numbers)
    return Reason("no_gpu", sentence, numbers)


def refuse(draft: Draft, endpoint: Endpoint, why: Reason, refusals: Refusals) -> None:
    """What the endpoint wants is not done in this tick."""
    view = endpoint.decision
    desired = view.desired if view is not None else 0
    live = sum(1 for w in draft.workers_of(endpoint.slug) if w.live)
    refusals[endpoint.slug] = Decided(
        endpoint.slug, draft.now_ns, desired, desired, desired, live, why, obstacle=why.rule
    )


def settle_refusals(draft: Draft, refusals: Refusals) -> None:
    """Journal the obstacles that are new in this tick, forget those that are gone."""
    for slug, endpoint in list(draft.endpoints.items()):
        entry = refusals.get(slug)
        obstacle = entry.obstacle if entry is not None else None
        if obstacle != endpoint.refused:
            draft.endpoints[slug] = replace(endpoint, refused=obstacle)
            if entry is not None:
                draft.do(JournalDecision(entry))


def observation(draft: Draft, endpoint: Endpoint, lane: LaneSeen) -> Observation:
    """The endpoint as its policy sees it."""
    workers = draft.workers_of(endpoint.slug)
    price = draft.book.price(endpoint.spec.gpu_type)
    return Observation(
        now_ns=draft.now_ns,
        baseline=endpoint.spec.baseline,
        maximum=endpoint.spec.maximum,
        slots=endpoint.concurrency,
        idle_timeout_ns=endpoint.spec.idle_timeout_s * SECOND_NS,
        baseline_uh=price.baseline_uh if price is not None else 0,
        autoscale_uh=price.autoscale_uh if price is not None else 0,
        ready=sum(1 for w in workers if w.state is WorkerState.READY),
        starting=tuple(sorted(w.intent_ns for w in workers if w.state is WorkerState.STARTING)),
        idle_since=tuple(since_ns for since_ns, _ in idle_workers(draft, workers, lane)),
        queued=lane.queued,
        queue=lane.queue,
        running=lane.running,
        running_since=lane.running_since,
        arrived=lane.arrived,
        arrivals=lane.arrivals,
        served=lane.served,
        cold_starts=endpoint.news.cold_starts,
        failed_starts=endpoint.news.failed_starts,
    )
