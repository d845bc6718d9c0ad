"""Faults on purpose: whom one hits, and when it is refused. What it leads to is decided where real faults are."""

from __future__ import annotations

from orchestrator.contract.command import Accepted, Outcome, RefusalCode, Refused
from orchestrator.contract.faults import DROP_NVML_S, SLOW_START_S, FaultKind, InjectFault
from orchestrator.contract.snapshot import WorkerState
from orchestrator.core.effects import BreakWorker, DropGpus
from orchestrator.core.endpoint import Endpoint
from orchestrator.core.events import FaultFailed
from orchestrator.core.state import Draft
from orchestrator.core.worker import Worker

WHAT = {
    FaultKind.KILL: "is killed",
    FaultKind.HANG: "is made to hang",
    FaultKind.SLOW_START: f"is killed, and its successor starts {SLOW_START_S:g} s late",
    FaultKind.FAIL_HEALTH: "fails its health probes from now on",
    FaultKind.FILL_MEMORY: "runs out of memory",
}


def inject(draft: Draft, command: InjectFault, endpoint: Endpoint) -> Outcome:
    """Ask for the fault to be done, after the command is on disk."""
    if not draft.rules.faults:
        text = (
            "faults: switched off here; put `faults = true` into the settings file or GPUDECK_FAULTS=true into the "
            "environment and restart, or try them in a lab (`gpudeck demo --lab`)"
        )
        return Refused(id=command.id, code=RefusalCode.STATE, message=text, field="faults")
    if command.fault is FaultKind.DROP_NVML:
        text = f"fault {command.fault}: no GPU is read for {DROP_NVML_S:g} s"
        draft.note("warning", text, endpoint=endpoint.slug)
        draft.do(DropGpus(DROP_NVML_S))
        return Accepted(id=command.id, message=text)
    worker = _victim(draft, command)
    if worker is None:
        which = "no worker that is ready" if command.worker is None else f"no worker {command.worker!r} that is ready"
        ready = ", ".join(w.label for w in draft.workers_of(endpoint.slug) if w.state is WorkerState.READY) or "none"
        text = f"worker: endpoint {endpoint.slug} has {which} (ready: {ready})"
        return Refused(id=command.id, code=RefusalCode.NOT_FOUND, message=text, field="worker")
    text = f"fault {command.fault}: {worker.label} {WHAT[command.fault]}"
    draft.note("warning", text, endpoint=endpoint.slug, worker=worker.id)
    draft.do(BreakWorker(worker.id, endpoint.slug, command.fault))
    return Accepted(id=command.id, message=text)


def failed(draft: Draft, event: FaultFailed) -> None:
    """The engine could not do it: said, since a fault without an effect looks like a recovery without one."""
    worker = draft.workers.get(event.worker_id)
    name = worker.label if worker is not None else event.worker_id
    text = f"fault {event.fault}: not done to {name}: {event.message}"
    draft.note("error", text, endpoint=worker.endpoint if worker is not None else None, worker=event.worker_id)


def _victim(draft: Draft, command: InjectFault) -> Worker | None:
    ready = [w for w in draft.workers_of(command.slug) if w.state is WorkerState.READY]
    return next((w for w in ready if command.worker in (None, w.id, w.label)), None)
