"""After a restart and at every re-list: bring the books and the engine back into agreement.

The ledger says what should exist, the engine what does. Running workers are adopted with the state they had, without a
second admission (kubernetes#124345); ended ones are closed at their evidence when it can be trusted, else at the last
heartbeat; intents without a worker are void; workers without an intent are stopped (reliability.md O1-O3, B1-B5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.secrets import lost_secrets
from orchestrator.contract.snapshot import KeyView, ProblemView, WorkerState
from orchestrator.core import absence, charging, lifecycle
from orchestrator.core.billing import Interval
from orchestrator.core.effects import GrantKey, RemoveWorker, StopWorker, WatchHealth
from orchestrator.core.endpoint import Endpoint, Spend
from orchestrator.core.events import Booted, Relisted, WorkerLaunched
from orchestrator.core.scaling import Memory
from orchestrator.core.state import Account, Answer, Draft
from orchestrator.core.worker import Worker
from orchestrator.core.workload import Exit, ExitCause, GpuGrant, Observed
from orchestrator.core.writes import (
    AccountOpened,
    CreditAdded,
    Saved,
    SavedInterval,
    SavedWatch,
    SavedWorker,
    WorkerStarted,
)

DEFAULT_ACCOUNT = "local"
WELCOME_CREDIT_U = 100_000_000
CREATION_GRACE_NS = 30 * SECOND_NS
"""A worker whose start is under way may be missing from a list that was asked for before."""


def earliest_ns(saved: Saved) -> int:
    """What is charged now has been charged up to here: a clock that was set back must not go below it (B6)."""
    intents = [row.intent.at_ns for row in saved.workers]
    known = [max(i.opened.start_ns, i.last_seen_ns, i.posted_to_ns) for i in saved.intervals]
    return max([0, *intents, *known])


def boot(draft: Draft, event: Booted) -> None:
    """Build the state from the ledger and the engine. The first boot opens the account `local` with credit."""
    saved = event.saved
    draft.now_ns = max(draft.now_ns, earliest_ns(saved))
    draft.assign(
        booted_ns=draft.now_ns,
        engine=event.engine,
        in_doubt=True,  # until everybody's fate is known: no tier changes before (charging.retier)
        gpus=event.gpus,
        serial=saved.last_serial,
        events=saved.events,
        event_seq=saved.events[-1].seq if saved.events else 0,
        posted_ns=draft.now_ns,
        listed_ns=draft.now_ns,
        ticked_ns=draft.now_ns,
        mails={mail.key: mail for mail in saved.mails},
    )
    for name, balance_u in saved.balances_u.items():
        today_u, month_u = saved.account_today_u.get(name, 0), saved.spent_month_u.get(name, 0)
        watch = saved.watches.get(name, SavedWatch())
        draft.accounts[name] = Account(
            name, balance_u, today_u, month_u, mail=watch.mail, mail_problem=watch.mail_problem,
            warnings=watch.warnings, suspensions=watch.suspensions, alerted_uh=watch.alerted_uh,
        )  # fmt: skip
    if not draft.accounts:
        draft.accounts[DEFAULT_ACCOUNT] = Account(DEFAULT_ACCOUNT, WELCOME_CREDIT_U)
        draft.write(
            AccountOpened(DEFAULT_ACCOUNT, draft.now_ns),
            CreditAdded(DEFAULT_ACCOUNT, WELCOME_CREDIT_U, "welcome", "welcome credit", draft.now_ns),
        )
        draft.note("info", "account local opened with a welcome credit of $100.00")
    _restore_keys(draft, saved)
    for command in saved.commands:
        draft.answers[command.command_id] = Answer(command.digest, command.outcome)
    _restore_endpoints(draft, saved, event.memories)
    _restore_workers(draft, saved, event.observed)
    draft.assign(in_doubt=event.observed is None)
    for slug in draft.endpoints:
        charging.settle_surge(draft, slug)
        charging.retier(draft, slug)
    charging.resume_watch(draft)


def relist(draft: Draft, event: Relisted) -> None:
    """The engine's whole list: adopt what was missed, end what is gone, stop what is nobody's. After a silence of the
    engine, what it cost is settled first: nobody could scale down meanwhile."""
    absent = draft.state.in_doubt
    draft.assign(in_doubt=True, listed_ns=draft.now_ns)  # until all of the list has been read
    seen = {o.worker_id: o for o in event.observed}
    for worker_id in list(draft.workers):
        worker = draft.workers[worker_id]  # looked up anew: the end of another one may have changed its tier
        observed = seen.get(worker_id)
        if observed is None:
            _missing(draft, worker, event.asked_ns)
            continue
        if observed.exit is not None:
            _ended(draft, worker, observed, absent=absent)
            continue
        if absent and worker.engine_ref is not None:
            _adopt(draft, worker, observed)
        elif worker.engine_ref is None and observed.started_ns is not None:
            lifecycle.launched(draft, WorkerLaunched(worker.id, observed))
            if absent:
                absence.settle(draft, worker.id, draft.now_ns, ended=False)
        elif worker.port != observed.port or worker.host != observed.host:
            # Ports may change when an engine restarts a container (moby#31926): never keep an old address.
            draft.workers[worker.id] = replace(worker, host=observed.host, port=observed.port)
        worker = draft.workers[worker_id]
        if worker.state is WorkerState.STOPPING:
            draft.do(StopWorker(worker.id, float(worker.stop_grace_s)))
    for observed in event.observed:
        if observed.worker_id not in draft.workers:
            _remove_stranger(draft, observed)
    draft.assign(in_doubt=False)
    for slug in draft.endpoints:
        charging.retier(draft, slug)


def _missing(draft: Draft, worker: Worker, asked_ns: int) -> None:
    if worker.engine_ref is not None:
        gone = Exit(ExitCause.VANISHED, None, None, "the engine no longer knows it (removed by hand?)")
        if worker.started_ns is None or worker.started_ns < asked_ns:
            lifecycle.exited(draft, worker.id, gone)
    elif worker.outcome_unknown or draft.now_ns - worker.intent_ns > CREATION_GRACE_NS + _patience_ns(worker):
        lifecycle.void(draft, worker, "the engine never created it")


def _patience_ns(worker: Worker) -> int:
    return worker.startup_deadline_ns - worker.intent_ns


def _remove_stranger(draft: Draft, observed: Observed) -> None:
    """Ours by label, but not in the books: an ended one is forgotten, a running one is stopped first."""
    if observed.exit is None:
        draft.note("warning", f"{observed.worker_id} runs without a record; it is stopped", endpoint=observed.endpoint)
        draft.do(StopWorker(observed.worker_id, 5.0))
    draft.do(RemoveWorker(observed.worker_id))


def _restore_keys(draft: Draft, saved: Saved) -> None:
    for key in saved.keys:
        draft.keys[key.key_id] = KeyView(
            id=key.key_id,
            account=key.account,
            name=key.name,
            created_ns=key.created_ns,
            expires_ns=key.expires_ns,
            revoked_ns=key.revoked_ns,
            last_used_ns=key.last_used_ns,
            endpoints=key.endpoints,
        )
        if key.revoked_ns is None:
            draft.do(GrantKey(key.key_id, key.digest, key.account, key.expires_ns, key.endpoints))


def _restore_endpoints(draft: Draft, saved: Saved, memories: Mapping[str, Memory]) -> None:
    for row in saved.endpoints:
        model = draft.rules.models.get(row.spec.model)
        slug = row.spec.slug
        wanted = row.wanted
        problem = ProblemView(code="earlier", message=row.problem) if row.problem else None
        if model is None:
            # The catalogue lost the model since: the endpoint is kept, visibly failed, never silently dropped.
            model = next(iter(draft.rules.models.values()))
            text = f"model {row.spec.model!r} is no longer in the catalogue"
            wanted, problem = "failed", ProblemView(code="model_missing", message=text)
            draft.note("error", text, endpoint=slug)
        lost = lost_secrets(slug, row.spec.env)
        if lost is not None:
            draft.note("error", lost, endpoint=slug)
        draft.endpoints[slug] = Endpoint(
            spec=row.spec,
            model=model,
            generation=row.generation,
            wanted=wanted,
            since_ns=row.at_ns,
            memory=memories.get(slug, Memory()),
            problem=problem,
            spend=Spend(
                total_u=saved.spent_total_u.get(slug, 0),
                today_u=saved.spent_today_u.get(slug, 0),
                absorbed_u=saved.absorbed_total_u.get(slug, 0),
            ),
        )


def _restore_workers(draft: Draft, saved: Saved, observed: tuple[Observed, ...] | None) -> None:
    intervals = {i.opened.worker_id: i for i in saved.intervals}
    seen = {o.worker_id: o for o in observed or ()}
    adopted = 0
    for row in saved.workers:
        worker = _worker_of(draft, row)
        interval = intervals.get(worker.id)
        draft.workers[worker.id] = worker
        if interval is not None:
            _restore_interval(draft, worker, interval)
        if observed is None:
            continue  # the engine does not answer yet: the first re-list decides
        found = seen.get(worker.id)
        if found is None and worker.started_ns is None:
            lifecycle.void(draft, worker, "the orchestrator ended before the engine was asked")
        elif found is None:
            gone = Exit(ExitCause.VANISHED, None, None, "gone while gpudeck was not running")
            lifecycle.exited(draft, worker.id, gone, absent=True)
        elif found.exit is not None:
            _ended(draft, worker, found, absent=True)
        else:
            adopted += 1
            _adopt(draft, draft.workers[worker.id], found)
    for stranger in (o for o in seen.values() if o.worker_id not in draft.workers):
        if not any(row.intent.worker_id == stranger.worker_id for row in saved.workers):
            _remove_stranger(draft, stranger)
    if adopted:
        draft.note("good", f"{adopted} running workers adopted")


def _restore_interval(draft: Draft, worker: Worker, saved: SavedInterval) -> None:
    """An open interval as it was. Prices that were changed without a date count from now on."""
    opened = saved.opened
    idle_since_ns = saved.last_seen_ns if saved.idle_since_ns is None else saved.idle_since_ns
    draft.intervals[opened.interval_id] = Interval(
        opened, saved.posted_u, saved.posted_to_ns, saved.last_seen_ns, idle_since_ns
    )
    number = int(opened.interval_id.rsplit(".", 1)[1])
    worker = replace(worker, interval_id=opened.interval_id, intervals=number, surge=False, idle_since_ns=idle_since_ns)
    draft.workers[worker.id] = worker


def _worker_of(draft: Draft, row: SavedWorker) -> Worker:
    intent = row.intent
    endpoint = draft.endpoints.get(intent.endpoint)
    gpu = next((g for g in draft.state.gpus if g.uuid == intent.gpu_uuid), None)
    deadline_s = endpoint.spec.startup_deadline_s if endpoint is not None else 0
    return Worker(
        id=intent.worker_id,
        serial=intent.serial,
        ordinal=intent.ordinal,
        endpoint=intent.endpoint,
        account=intent.account,
        generation=intent.generation,
        gpu=GpuGrant(
            uuid=intent.gpu_uuid,
            index=gpu.index if gpu is not None else -1,
            type=intent.gpu_type,
            simulated=gpu.simulated if gpu is not None else False,
        ),
        intent_ns=intent.at_ns,
        startup_deadline_ns=draft.now_ns + deadline_s * SECOND_NS,
        stop_grace_s=endpoint.model.stop_grace_s if endpoint is not None else 10,
        surge=intent.surge,
        state=WorkerState.READY if row.ready_ns is not None else WorkerState.STARTING,
        engine_ref=row.engine_ref,
        started_ns=row.started_ns,
        ready_ns=row.ready_ns,
        spent_u=row.spent_u,
        outcome_unknown=row.engine_ref is None,  # nobody of this life asked for it: the first list settles it
    )


def _adopt(draft: Draft, worker: Worker, found: Observed) -> None:
    """Keep serving with it: a ready worker stays ready until a probe says otherwise (KEP-4781)."""
    if worker.started_ns is None:
        if found.started_ns is None:
            draft.do(StopWorker(worker.id, 0.0))  # created but never started: the books decide anew
            return
        lifecycle.launched(draft, WorkerLaunched(worker.id, found))
        absence.settle(draft, worker.id, draft.now_ns, ended=False)
        return
    _resume(draft, worker.id, found.started_ns)
    worker = draft.workers[worker.id]
    worker = replace(worker, engine_ref=found.engine_ref, host=found.host, port=found.port, created_ns=found.created_ns)
    draft.workers[worker.id] = worker
    if worker.endpoint not in draft.endpoints and worker.state is not WorkerState.STOPPING:
        lifecycle.stop(draft, worker, "its endpoint was deleted")
        return
    if worker.state is not WorkerState.STOPPING:
        path = draft.endpoints[worker.endpoint].model.health_path
        draft.do(WatchHealth(worker.id, path, ready=worker.state is not WorkerState.STARTING))


def _resume(draft: Draft, worker_id: str, started_ns: int | None) -> None:
    """Somebody can act again: settle what the absence cost, and follow prices that were changed without a date."""
    worker = draft.workers[worker_id]
    if absence.restarted(draft, worker, started_ns):
        absence.begin_anew(draft, worker_id)
        return
    absence.settle(draft, worker_id, draft.now_ns, ended=False)
    worker = draft.workers[worker_id]
    if worker.interval_id is None:
        return
    opened = draft.intervals[worker.interval_id].opened
    book = draft.rules.prices.book_at(opened.start_ns)
    price = book.price(opened.gpu_type)
    if price is not None and (opened.price_book, opened.rate_uh) != (book.name, price.rate_uh(opened.tier)):
        charging.split(draft, worker, draft.now_ns, "price_change", absorbed=worker.ready_ns is None)


def _ended(draft: Draft, worker: Worker, found: Observed, *, absent: bool) -> None:
    """It ended. One whose start was never recorded is charged from its own start first, so that what the platform bears
    of it is shown."""
    assert found.exit is not None
    if absent and worker.started_ns is None and found.started_ns is not None:
        worker = replace(
            worker, engine_ref=found.engine_ref, started_ns=absence.start_of(draft, worker, found.started_ns)
        )
        draft.workers[worker.id] = worker
        draft.write(WorkerStarted(worker.id, found.engine_ref, worker.started_ns or 0))
        charging.begin_charging(draft, worker)
    lifecycle.exited(draft, worker.id, found.exit, absent=absent)
