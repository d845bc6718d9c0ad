"""What became of a fault, step by step, as far as snapshots tell. Pure: each snapshot makes a new value of the old one.

A fault begins with its own event, whoever asked for it. The instants are the orchestrator's where it names one, else
those of the first snapshot that shows the step (four a second, so 250 ms late at most).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from app.format import plain
from orchestrator.contract.faults import FaultKind
from orchestrator.contract.snapshot import CostView, EndpointView, EventView, Snapshot, TrafficView, WorkerState

PREFIX = "fault "
NOT_DONE = "not done"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a recovery: when it was reached, None while it is awaited, and what there is to say about it."""

    name: str
    at_ns: int | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Recovery:
    """One fault and what followed. `cost` and `traffic` are the endpoint's at the fault; spans count from there."""

    seq: int
    fault: FaultKind
    at_ns: int
    worker_id: str | None
    label: str
    cost: CostView
    traffic: TrafficView
    noticed_ns: int | None = None
    noticed: str = ""
    out_ns: int | None = None
    successor_id: str | None = None
    successor: str = ""
    replaced_ns: int | None = None
    ready_ns: int | None = None
    enough: bool = False
    """No other worker is wanted in its place."""
    failure: str | None = None
    """Why the fault was not done."""
    billed_u: int = 0
    absorbed_u: int = 0
    served: int = 0
    failed: int = 0

    @property
    def over(self) -> bool:
        """Nothing more is awaited."""
        return self.ready_ns is not None or self.failure is not None

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps in order, those that are awaited too."""
        if self.fault is FaultKind.DROP_NVML:
            return (
                Step("injected", self.at_ns),
                Step("noticed", self.noticed_ns, "readings are marked stale, workers go on" if self.noticed_ns else ""),
                Step("readings back", self.ready_ns),
            )
        first = (
            Step("injected", self.at_ns),
            Step("noticed", self.noticed_ns, self.noticed),
            Step("out of the ring", self.out_ns),
        )
        if self.enough:
            return (*first, Step("not replaced", self.ready_ns, "no other worker is wanted now"))
        by = f"by {self.successor}" if self.successor else ""
        return (*first, Step("replaced", self.replaced_ns, by), Step("ready", self.ready_ns))


def follow(before: tuple[Recovery, ...], snapshot: Snapshot, slug: str, since_seq: int) -> tuple[Recovery, ...]:
    """`before`, brought up to `snapshot`, with the faults of endpoint `slug` that are new: events after `since_seq`."""
    endpoint = next((each for each in snapshot.endpoints if each.spec.slug == slug), None)
    if endpoint is None:
        return before
    known = max((each.seq for each in before), default=since_seq)
    news = [
        begun
        for event in snapshot.events
        if event.seq > known and event.endpoint == slug and (begun := _begun(event, endpoint)) is not None
    ]
    return tuple(each if each.over else _seen(each, snapshot, endpoint) for each in (*before, *news))


def _begun(event: EventView, endpoint: EndpointView) -> Recovery | None:
    """The recovery that begins with `event`, if that is a fault's."""
    word, _, rest = event.text.removeprefix(PREFIX).partition(": ")
    if not event.text.startswith(PREFIX) or word not in set(FaultKind) or rest.startswith(NOT_DONE):
        return None
    fault = FaultKind(word)
    label = "" if fault is FaultKind.DROP_NVML else plain(rest.split(" ", 1)[0])
    return Recovery(event.seq, fault, event.at_ns, event.worker, label, endpoint.cost, endpoint.traffic)


def _seen(told: Recovery, snapshot: Snapshot, endpoint: EndpointView) -> Recovery:
    told = replace(
        told,
        billed_u=endpoint.cost.total_u - told.cost.total_u,
        absorbed_u=endpoint.cost.absorbed_u - told.cost.absorbed_u,
        served=endpoint.traffic.served_total - told.traffic.served_total,
        failed=endpoint.traffic.failed_total - told.traffic.failed_total,
    )
    if told.fault is FaultKind.DROP_NVML:
        return _readings(told, snapshot)
    for event in snapshot.events:
        if event.seq > told.seq and event.worker == told.worker_id:
            if event.text.startswith(PREFIX):
                if NOT_DONE in event.text:
                    return replace(told, failure=plain(event.text.partition(f"{NOT_DONE} ")[2]))
            elif told.noticed_ns is None:
                told = replace(told, noticed_ns=event.at_ns, noticed=plain(event.text))
    return _replaced(_left(told, snapshot, endpoint), snapshot, endpoint)


def _readings(told: Recovery, snapshot: Snapshot) -> Recovery:
    stale = any(gpu.state == "stale" for gpu in snapshot.gpus)
    if told.noticed_ns is None:
        return replace(told, noticed_ns=snapshot.taken_at_ns) if stale else told
    return told if stale else replace(told, ready_ns=snapshot.taken_at_ns)


def _left(told: Recovery, snapshot: Snapshot, endpoint: EndpointView) -> Recovery:
    victim = next((worker for worker in endpoint.workers if worker.id == told.worker_id), None)
    if told.out_ns is not None or (victim is not None and victim.state is WorkerState.READY):
        return told
    out_ns = told.noticed_ns if victim is None and told.noticed_ns is not None else snapshot.taken_at_ns
    return replace(told, out_ns=out_ns, noticed_ns=told.noticed_ns or out_ns)


def _replaced(told: Recovery, snapshot: Snapshot, endpoint: EndpointView) -> Recovery:
    if told.out_ns is None:
        return told
    if told.successor_id is None:
        # Not since the fault: a worker that came between is that of another one.
        since_ns = min(told.noticed_ns or told.out_ns, told.out_ns)
        successors = [w for w in endpoint.workers if w.intent_ns >= since_ns and w.id != told.worker_id]
        if not successors:
            wanted = endpoint.decision.desired if endpoint.decision is not None else endpoint.spec.baseline
            ready = sum(worker.state is WorkerState.READY for worker in endpoint.workers)
            enough = ready >= max(wanted, endpoint.spec.baseline) and snapshot.taken_at_ns > told.out_ns
            return replace(told, enough=True, ready_ns=snapshot.taken_at_ns) if enough else told
        first = min(successors, key=lambda worker: worker.intent_ns)
        told = replace(told, successor_id=first.id, successor=first.label, replaced_ns=first.intent_ns)
    found = next((worker for worker in endpoint.workers if worker.id == told.successor_id), None)
    if found is None:  # its start failed: the next one counts
        return replace(told, successor_id=None, successor="", replaced_ns=None)
    return replace(told, ready_ns=found.ready_ns)
