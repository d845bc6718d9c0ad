"""What happens to workers: intents, starts, health, drains, stops, ends, and what an unexpected end means."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.snapshot import ProblemView, WorkerState
from orchestrator.core import absence, charging
from orchestrator.core.effects import RemoveWorker, StartWorker, StopWorker, TrustWorker, WatchHealth
from orchestrator.core.endpoint import CRASHES_MAX, SETTLED_NS, Endpoint, News, backoff_s
from orchestrator.core.events import LaunchRefused, LaunchUnknown, StopUnknown, WorkerLaunched, WorkerUnhealthy
from orchestrator.core.state import Draft
from orchestrator.core.worker import Turn, Worker
from orchestrator.core.workload import Exit, GpuGrant, WorkerSpec
from orchestrator.core.writes import EndpointSaved, Evidence, WorkerEnded, WorkerIntended, WorkerReady, WorkerStarted


def start(draft: Draft, endpoint: Endpoint, gpu: GpuGrant, *, surge: bool = False) -> Worker:
    """Record the intent and ask the engine. The deterministic name makes a repeated create harmless."""
    serial = draft.state.serial + 1
    draft.assign(serial=serial)
    taken = {w.ordinal for w in draft.workers_of(endpoint.slug)}
    worker = Worker(
        id=f"{endpoint.slug}-{serial}",
        serial=serial,
        ordinal=next(n for n in range(1, len(taken) + 2) if n not in taken),
        endpoint=endpoint.slug,
        account=endpoint.spec.account,
        generation=endpoint.generation,
        gpu=gpu,
        intent_ns=draft.now_ns,
        startup_deadline_ns=draft.now_ns + endpoint.spec.startup_deadline_s * SECOND_NS,
        stop_grace_s=endpoint.model.stop_grace_s,
        surge=surge,
    )
    draft.workers[worker.id] = worker
    draft.write(
        WorkerIntended(
            worker.id, serial, worker.ordinal, endpoint.slug, worker.account, worker.generation, endpoint.model.name,
            gpu.uuid, gpu.type, surge, draft.now_ns,
        )
    )  # fmt: skip
    spec = WorkerSpec(
        worker_id=worker.id,
        name=f"gpudeck-{draft.rules.instance[:8]}-{worker.id}",
        instance=draft.rules.instance,
        endpoint=endpoint.slug,
        interval_id=f"{worker.id}.1",
        generation=worker.generation,
        model=endpoint.model,
        gpu=gpu,
        env=dict(endpoint.spec.env),
    )
    draft.do(StartWorker(spec))
    return worker


def drain(draft: Draft, worker: Worker, reason: str, grace_s: float) -> None:
    """Take a ready worker out of the ring; it is stopped when its requests are over or the grace is."""
    draining = replace(
        worker.turned(Turn.DRAIN), reason=reason, drain_deadline_ns=draft.now_ns + int(grace_s * SECOND_NS)
    )
    draft.workers[worker.id] = draining


def stop(draft: Draft, worker: Worker, reason: str, *, blameless: bool = True) -> None:
    """Ask the engine to end the worker. Asking twice is harmless."""
    draft.workers[worker.id] = replace(worker.turned(Turn.STOP), reason=worker.reason or reason, blameless=blameless)
    draft.do(StopWorker(worker.id, float(worker.stop_grace_s)))


def launched(draft: Draft, event: WorkerLaunched) -> None:
    """The container or process runs: it is charged from its own start time, and watched."""
    worker = draft.workers.get(event.worker_id)
    seen = event.observed
    if worker is None:
        # Voided meanwhile (a late answer to a start given up): nothing of ours may keep running unbilled.
        draft.do(StopWorker(event.worker_id, 0.0), RemoveWorker(event.worker_id))
        return
    if worker.started_ns is not None:
        return  # told twice
    worker = replace(
        worker,
        engine_ref=seen.engine_ref,
        host=seen.host,
        port=seen.port,
        created_ns=seen.created_ns,
        started_ns=absence.start_of(draft, worker, seen.started_ns),
        outcome_unknown=False,
    )
    assert worker.started_ns is not None
    draft.workers[worker.id] = worker
    draft.write(WorkerStarted(worker.id, seen.engine_ref, worker.started_ns))
    charging.begin_charging(draft, worker)
    charging.retier(draft, worker.endpoint)
    worker = draft.workers[worker.id]
    if worker.state is WorkerState.STOPPING:
        draft.do(StopWorker(worker.id, float(worker.stop_grace_s)))  # the first stop may have found nothing to stop
    elif worker.endpoint not in draft.endpoints:
        stop(draft, worker, "its endpoint was deleted")  # before a crash; nobody else looks after it
    else:
        draft.do(WatchHealth(worker.id, _health_path(draft, worker)))


def launch_refused(draft: Draft, event: LaunchRefused) -> None:
    """The engine said no: the intent is void, nothing is charged."""
    worker = draft.workers.get(event.worker_id)
    if worker is None:
        return
    _forget(draft, worker.turned(Turn.REFUSED), draft.now_ns, "void", event.code, event.message)
    endpoint = draft.endpoints.get(worker.endpoint)
    if endpoint is None or not endpoint.enabled or worker.state is WorkerState.STOPPING:
        return
    if event.engine_down:
        # Not the endpoint's fault: wait for the engine without counting a crash.
        draft.endpoints[endpoint.slug] = replace(
            endpoint,
            problem=ProblemView(code=event.code, message=event.message),
            retry_ns=draft.now_ns + 2 * SECOND_NS,
        )
        return
    crashed(draft, endpoint, worker, event.code, event.message, (), fatal=event.fatal)


def launch_unknown(draft: Draft, event: LaunchUnknown) -> None:
    """No answer: the next re-list says whether the worker exists."""
    worker = draft.workers.get(event.worker_id)
    if worker is not None and worker.engine_ref is None:
        draft.workers[worker.id] = replace(worker, outcome_unknown=True)


def healthy(draft: Draft, worker_id: str) -> None:
    """First health: ready, and in the ring at once, so the oldest waiter is served. Later ones clear suspicion."""
    worker = draft.workers.get(worker_id)
    if worker is None:
        return
    if worker.state is not WorkerState.STARTING:
        draft.do(TrustWorker(worker.endpoint, worker.id))
        return
    ready = replace(worker.turned(Turn.HEALTHY), ready_ns=draft.now_ns)
    draft.workers[worker.id] = ready
    draft.write(WorkerReady(worker.id, draft.now_ns))
    charging.begin_charging(draft, ready)
    charging.retier(draft, worker.endpoint)
    _tell_policy(draft, worker.endpoint, cold_start_ns=draft.now_ns - worker.intent_ns)
    seconds = (draft.now_ns - worker.intent_ns) / SECOND_NS
    draft.note("good", f"{worker.label} ready after {seconds:.1f} s", endpoint=worker.endpoint, worker=worker.id)


def unhealthy(draft: Draft, event: WorkerUnhealthy) -> None:
    """A ready worker that fails its probes is replaced, not merely avoided (it holds a GPU)."""
    worker = draft.workers.get(event.worker_id)
    if worker is None or worker.state not in (WorkerState.READY, WorkerState.DRAINING):
        return
    reason = f"{event.failures} health probes in a row failed"
    draft.note("error", f"{worker.label}: {reason}", endpoint=worker.endpoint, worker=worker.id)
    stop(draft, worker, reason, blameless=False)
    endpoint = draft.endpoints.get(worker.endpoint)
    if endpoint is not None and endpoint.enabled:
        crashed(draft, endpoint, worker, "unhealthy", f"{worker.label}: {reason}", ())


def exited(draft: Draft, worker_id: str, exit_: Exit, *, absent: bool = False) -> None:
    """Evidence of an end: close the interval at it, forget the worker, and judge whether it was expected. `absent`: it
    ended while nobody could act (see absence.settle)."""
    worker = draft.workers.get(worker_id)
    if worker is None:
        draft.do(RemoveWorker(worker_id))
        return
    expected = worker.state in (WorkerState.STOPPING, WorkerState.DRAINING)
    end_ns, source = absence.end_of(draft, worker, exit_)
    if absent:
        absence.settle(draft, worker_id, end_ns, ended=True)
    absorbed = worker.ready_ns is None and not (expected and worker.blameless)
    charging.end_charging(draft, draft.workers[worker_id], end_ns, source, absorbed=absorbed)
    worker = draft.workers[worker_id].turned(Turn.EXITED)
    _forget(draft, worker, end_ns, source, exit_.cause.value, exit_.detail)
    charging.retier(draft, worker.endpoint)
    charging.settle_surge(draft, worker.endpoint)
    endpoint = draft.endpoints.get(worker.endpoint)
    if expected or endpoint is None or not endpoint.enabled:
        why = worker.reason or exit_.detail
        draft.note("info", f"{worker.label} stopped: {why}", endpoint=worker.endpoint, worker=worker.id)
    else:
        message = f"{worker.label} ended by itself: {exit_.detail}"
        crashed(draft, endpoint, worker, exit_.cause.value, message, exit_.log)


def crashed(
    draft: Draft,
    endpoint: Endpoint,
    worker: Worker,
    code: str,
    message: str,
    log: tuple[str, ...],
    *,
    fatal: bool = False,
) -> None:
    """Backoff 1, 2, 4 … 60 s; after CRASHES_MAX in a row, with nothing else ready, the endpoint has failed (D8)."""
    if worker.ready_ns is None:
        _tell_policy(draft, endpoint.slug)
    endpoint = draft.endpoints[endpoint.slug]
    settled = worker.ready_ns is not None and draft.now_ns - worker.ready_ns >= SETTLED_NS
    crashes = 1 if settled else endpoint.crashes + 1
    others = any(w.state is WorkerState.READY for w in draft.workers_of(endpoint.slug) if w.id != worker.id)
    gives_up = (fatal or crashes >= CRASHES_MAX) and not others
    delay_s = 0 if settled else backoff_s(crashes)
    retry_ns = None if gives_up else draft.now_ns + delay_s * SECOND_NS
    problem = ProblemView(code=code, message=message, log=log[-50:], retry_at_ns=retry_ns)
    endpoint = replace(endpoint, crashes=crashes, retry_ns=retry_ns, problem=problem)
    if gives_up:
        endpoint = replace(endpoint, wanted="failed", since_ns=draft.now_ns)
        draft.write(EndpointSaved(endpoint.spec, endpoint.generation, "failed", f"{code}: {message}", draft.now_ns))
        draft.note("error", f"gave up: {message}", endpoint=endpoint.slug, worker=worker.id)
    else:
        when = f"next attempt in {delay_s} s" if delay_s else "replacing it"
        draft.note("warning", f"{message}; {when}", endpoint=endpoint.slug, worker=worker.id)
    draft.endpoints[endpoint.slug] = endpoint


def _tell_policy(draft: Draft, slug: str, cold_start_ns: int | None = None) -> None:
    """A start became ready after `cold_start_ns` or, with None, failed: its policy learns it when it is asked next."""
    endpoint = draft.endpoints.get(slug)
    if endpoint is not None:
        news = endpoint.news
        if cold_start_ns is None:
            news = News(news.cold_starts, news.failed_starts + 1)
        else:
            news = News((*news.cold_starts, cold_start_ns), news.failed_starts)
        draft.endpoints[slug] = replace(endpoint, news=news)


def stop_unknown(draft: Draft, event: StopUnknown) -> None:
    """The engine did not confirm: asked again by the re-list, said once."""
    worker = draft.workers.get(event.worker_id)
    if worker is not None:
        draft.note("warning", f"{worker.label}: {event.message}", endpoint=worker.endpoint, worker=worker.id)


def void(draft: Draft, worker: Worker, detail: str) -> None:
    """An intent that never became a worker: nothing was started, nothing is charged (reliability.md O1)."""
    _forget(draft, worker, draft.now_ns, "void", "void", detail)


def _forget(
    draft: Draft, worker: Worker, end_ns: int, source: Evidence | Literal["void"], cause: str, detail: str
) -> None:
    draft.workers.pop(worker.id, None)
    draft.write(WorkerEnded(worker.id, end_ns, source, cause, detail[:500]))
    draft.do(RemoveWorker(worker.id))


def _health_path(draft: Draft, worker: Worker) -> str:
    endpoint = draft.endpoints.get(worker.endpoint)
    return endpoint.model.health_path if endpoint is not None else "/"
