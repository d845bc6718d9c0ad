"""`step(state, event, now) -> (state, effects)`: the one door into the control plane.

Same state, event and instant in, same state and effects out, in the live orchestrator and in the simulator. One step is
one transaction of the ledger (see `Draft.finish`), and the data plane is re-derived at its end.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.contract.snapshot import GpuView, WorkerState
from orchestrator.core import absence, charging, commands, lifecycle, notice, recovery, rehearsal, route
from orchestrator.core import events as ev
from orchestrator.core.effects import Effect, Leave
from orchestrator.core.reconcile import reconcile
from orchestrator.core.state import Draft, State
from orchestrator.core.writes import Heartbeat


def step(state: State, event: ev.Happening, now_ns: int) -> tuple[State, list[Effect]]:
    """Apply one event. `now_ns` never runs backwards: an earlier one is taken as the last tick's."""
    draft = Draft(state, max(now_ns, state.ticked_ns))
    absence.wake(draft)
    draft.set_apart()
    _dispatch(draft, event)
    route.derive(draft)
    return draft.finish()


def _dispatch(draft: Draft, event: ev.Happening) -> None:  # noqa: C901 - one line a case
    match event:
        case ev.Ticked():
            _tick(draft, event)
        case ev.CommandReceived():
            commands.receive(draft, event)
        case ev.CommandUndone():
            commands.undo(draft, event)
        case ev.WorkerLaunched():
            lifecycle.launched(draft, event)
        case ev.LaunchRefused():
            lifecycle.launch_refused(draft, event)
        case ev.LaunchUnknown():
            lifecycle.launch_unknown(draft, event)
        case ev.WorkerHealthy():
            lifecycle.healthy(draft, event.worker_id)
        case ev.WorkerUnhealthy():
            lifecycle.unhealthy(draft, event)
        case ev.WorkerExited():
            lifecycle.exited(draft, event.worker_id, event.exit, absent=draft.state.in_doubt)
        case ev.StopUnknown():
            lifecycle.stop_unknown(draft, event)
        case ev.FaultFailed():
            rehearsal.failed(draft, event)
        case ev.Relisted():
            recovery.relist(draft, event)
        case ev.Booted():
            recovery.boot(draft, event)
        case ev.GpusSampled():
            _gpus_sampled(draft, event)
        case ev.EngineProbed():
            _engine_probed(draft, event)
        case ev.LedgerChecked():
            _ledger_checked(draft, event)
        case ev.MailAttempted():
            notice.attempted(draft, event)


def _tick(draft: Draft, event: ev.Ticked) -> None:
    elapsed_ns = draft.now_ns - draft.state.ticked_ns
    for key_id, used_ns in event.keys_used:
        if key_id in draft.keys:
            draft.keys[key_id] = draft.keys[key_id].model_copy(update={"last_used_ns": used_ns})
    if event.keys_used and draft.state.ledger_problem is None:
        draft.write(Heartbeat((), draft.now_ns, event.keys_used))
    charging.roll_calendar(draft)
    _announce_prices(draft)
    absence.doubt(draft)
    charging.post_due(draft, event.lanes)
    charging.watch_credit(draft, elapsed_ns)
    reconcile(draft, event.lanes)
    charging.sample_balance(draft)
    draft.assign(ticked_ns=draft.now_ns)
    if draft.state.stopping == "drain" and not draft.workers:
        draft.do(Leave())


def _announce_prices(draft: Draft) -> None:
    """Say once that other prices are in force from now on."""
    before_ns = draft.state.ticked_ns
    for at_ns in draft.rules.prices.switches(before_ns, draft.now_ns + 1) if before_ns else ():
        draft.note("info", f"prices are those of {draft.rules.prices.book_at(at_ns).name} from now on")


def _gpus_sampled(draft: Draft, event: ev.GpusSampled) -> None:
    """A GPU that is lost fails its workers (reliability.md G2); a newly lost one is said once."""
    _note_memory(draft, event.gpus)
    before = {g.uuid: g.state for g in draft.state.gpus}
    draft.assign(gpus=event.gpus)
    for gpu in event.gpus:
        if gpu.state == "lost" and before.get(gpu.uuid) != "lost":
            draft.note("error", f"GPU {gpu.index} ({gpu.type}) is lost")
            for worker in list(draft.workers.values()):
                if worker.gpu.uuid == gpu.uuid and worker.state in (WorkerState.STARTING, WorkerState.READY):
                    lifecycle.stop(draft, worker, "its GPU is lost", blameless=False)
        elif gpu.state == "ok" and before.get(gpu.uuid) == "lost":
            draft.note("good", f"GPU {gpu.index} ({gpu.type}) is back")


def _note_memory(draft: Draft, gpus: tuple[GpuView, ...]) -> None:
    """A worker that starts has put something on its GPU: the long part of a cold start is now loading."""
    for gpu in gpus:
        for process in gpu.processes:
            worker = draft.workers.get(process.worker_id or "")
            starts = worker is not None and worker.state is WorkerState.STARTING and worker.memory_ns is None
            if worker is not None and starts and process.memory_bytes and worker.gpu.uuid == gpu.uuid:
                draft.workers[worker.id] = replace(worker, memory_ns=draft.now_ns)


def _engine_probed(draft: Draft, event: ev.EngineProbed) -> None:
    was_ok = draft.state.engine.ok
    draft.assign(engine=event.view, in_doubt=draft.state.in_doubt or not event.view.ok)
    if was_ok and not event.view.ok:
        draft.note("error", f"engine {event.view.kind}: {event.view.detail}")
    elif not was_ok and event.view.ok:
        draft.note("good", f"engine {event.view.kind}: {event.view.detail}")
        for slug, endpoint in draft.endpoints.items():
            draft.endpoints[slug] = replace(endpoint, retry_ns=None)


def _ledger_checked(draft: Draft, event: ev.LedgerChecked) -> None:
    """While the ledger cannot be written nothing new starts; what serves goes on serving (reliability.md H1, B9)."""
    if event.problem is not None and draft.state.ledger_problem is None:
        draft.assign(ledger_problem=event.problem)
        draft.note("error", f"the ledger cannot be written: {event.problem}; no worker is started meanwhile")
    elif event.problem is None and draft.state.ledger_problem is not None:
        draft.assign(ledger_problem=None)
        draft.note("good", "the ledger can be written again")
