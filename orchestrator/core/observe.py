"""State and traffic into the one frozen `Snapshot` that front ends see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.contract.secrets import lost_secrets, masked
from orchestrator.contract.snapshot import (
    AccountView,
    CapacityView,
    ColdStartView,
    CostView,
    EndpointView,
    EngineKind,
    GpuView,
    LaneSample,
    LanesView,
    ModelView,
    ProblemView,
    Snapshot,
    TrafficView,
    WorkerState,
    WorkerView,
)
from orchestrator.contract.steps import Steps, finished
from orchestrator.core import charging, credit
from orchestrator.core.billing import Interval
from orchestrator.core.catalogue import Model
from orchestrator.core.endpoint import Endpoint, shown_state
from orchestrator.core.events import LaneSeen
from orchestrator.core.placement import total_of
from orchestrator.core.reconcile import QUIET
from orchestrator.core.state import Account, Draft, State
from orchestrator.core.worker import Worker


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a snapshot shows beyond the state: facts of this process and readings of the data plane."""

    seq: int
    pid: int
    version: str
    home: str
    gateway_url: str
    lanes: Mapping[str, LaneSeen]
    traffic: Mapping[str, TrafficView]
    queued_series: Mapping[str, tuple[int, ...]]


def observe(state: State, around: Surroundings, now_ns: int) -> Snapshot:
    """The whole visible state at `now_ns`. Pure: equal arguments give equal snapshots."""
    return finished(observing(state, around, now_ns))


def observing(state: State, around: Surroundings, now_ns: int) -> Steps[Snapshot]:
    """`observe`, with pauses: a step is one endpoint, one account or some GPUs."""
    draft = Draft(state, max(now_ns, state.ticked_ns))
    gpus = yield from _gpus(draft)
    workers, intervals = _by_endpoint(draft)
    endpoints = []
    for each in draft.endpoints.values():
        endpoints.append(_endpoint(draft, each, workers.get(each.slug, []), intervals.get(each.slug, []), around))
        yield
    accounts = []
    for account in draft.accounts.values():
        accounts.append(_account(draft, account))
        yield
    return Snapshot(
        seq=around.seq,
        taken_at_ns=draft.now_ns,
        started_at_ns=state.booted_ns,
        instance=state.rules.instance,
        pid=around.pid,
        version=around.version,
        home=around.home,
        gateway_url=around.gateway_url,
        engine=state.engine,
        simulated_gpus=any(g.simulated for g in state.gpus),
        price_book=draft.book.name,
        gpus=gpus,
        capacity=_capacity(draft),
        endpoints=tuple(endpoints),
        accounts=tuple(accounts),
        keys=tuple(draft.keys.values()),
        models=_models(state),
        prices=draft.book.views(),
        events=state.events,
        balance_series_u=state.balance_series_u,
        ledger_ok=state.ledger_problem is None,
        ledger_problem=state.ledger_problem,
        stopping=state.stopping is not None,
        faults=state.rules.faults,
    )


def live_balances_u(state: State, now_ns: int) -> dict[str, int]:
    """Balance of each account at `now_ns`, accruals included, in micro-dollars."""
    draft = Draft(state, max(now_ns, state.ticked_ns))
    return {name: charging.live_balance_u(draft, name) for name in draft.accounts}


def _by_endpoint(draft: Draft) -> tuple[dict[str, list[Worker]], dict[str, list[Interval]]]:
    """Workers in the order in which an endpoint lists them, and open intervals: one pass over each instead of one for
    every endpoint."""
    workers: dict[str, list[Worker]] = {}
    for worker in sorted(draft.workers.values(), key=lambda w: w.place):
        workers.setdefault(worker.endpoint, []).append(worker)
    intervals: dict[str, list[Interval]] = {}
    for interval in draft.intervals.values():
        intervals.setdefault(interval.opened.endpoint, []).append(interval)
    return workers, intervals


def _gpus(draft: Draft) -> Steps[tuple[GpuView, ...]]:
    holders = {w.gpu.uuid: w for w in draft.workers.values()}
    views = []
    for gpu in draft.state.gpus:
        holder = holders.get(gpu.uuid)
        if holder is not None:
            gpu = gpu.model_copy(update={"worker_id": holder.id, "endpoint": holder.endpoint})  # noqa: PLW2901
        views.append(gpu)
        yield
    return tuple(views)


def _capacity(draft: Draft) -> tuple[CapacityView, ...]:
    types = dict.fromkeys(g.type for g in draft.state.gpus)
    return tuple(
        CapacityView(
            gpu_type=gpu_type,
            total=total_of(draft.state.gpus, gpu_type),
            reserved=sum(
                e.spec.baseline for e in draft.endpoints.values() if e.enabled and e.spec.gpu_type == gpu_type
            ),
            in_use=sum(1 for w in draft.workers.values() if w.gpu.type == gpu_type),
        )
        for gpu_type in types
    )


def _endpoint(
    draft: Draft, endpoint: Endpoint, workers: list[Worker], intervals: list[Interval], around: Surroundings
) -> EndpointView:
    slug = endpoint.slug
    lane = around.lanes.get(slug, QUIET)
    traffic = around.traffic.get(slug, TrafficView())
    oldest = lane.oldest_arrival_ns
    traffic = traffic.model_copy(
        update={
            "queued": lane.queued,
            "running": lane.running,
            "oldest_wait_ms": (draft.now_ns - oldest) // 1_000_000 if oldest is not None else 0,
            "queued_series": around.queued_series.get(slug, ()),
        }
    )
    problem = endpoint.problem
    lost = lost_secrets(slug, endpoint.spec.env)
    if lost is not None:
        problem = ProblemView(code="secret_lost", message=lost)
    elif problem is None and endpoint.starved:
        problem = ProblemView(code="no_gpu", message=f"wants another worker, no {endpoint.spec.gpu_type} is free")
    return EndpointView(
        spec=_shown(endpoint.spec),
        state=shown_state(endpoint, workers, draft.now_ns),
        generation=endpoint.generation,
        concurrency=endpoint.concurrency,
        url=f"{around.gateway_url}/v1/{slug}",
        workers=tuple(_worker(draft, w, lane) for w in workers),
        traffic=traffic,
        cost=_cost(draft, endpoint, intervals),
        lanes=_lanes(endpoint.lanes),
        decision=endpoint.decision,
        problem=problem,
    )


@lru_cache(maxsize=1_000)
def _lanes(samples: tuple[LaneSample, ...]) -> LanesView:
    """Remembered, for there is a new sample once a second and a look several times."""
    return LanesView.of(samples)


def _shown(spec: EndpointSpec) -> EndpointSpec:
    """The specification without its secrets; the very same when it has none, which a feed need not compare."""
    env = masked(spec.env)
    return spec if env == spec.env else spec.model_copy(update={"env": env})


def _worker(draft: Draft, worker: Worker, lane: LaneSeen) -> WorkerView:
    slot = lane.slots.get(worker.id)
    interval = draft.intervals.get(worker.interval_id) if worker.interval_id is not None else None
    idle = slot is not None and slot.in_flight == 0 and worker.state is WorkerState.READY
    return WorkerView(
        id=worker.id,
        label=worker.label,
        endpoint=worker.endpoint,
        state=worker.state,
        tier=interval.opened.tier if interval is not None else None,
        gpu_uuid=worker.gpu.uuid,
        engine_ref=worker.engine_ref,
        address=f"{worker.host}:{worker.port}" if worker.port is not None else None,
        running=slot.in_flight if slot is not None else 0,
        served=slot.served if slot is not None else 0,
        intent_ns=worker.intent_ns,
        ready_ns=worker.ready_ns,
        idle_since_ns=slot.idle_since_ns if slot is not None and idle else None,
        cold_start=ColdStartView(
            created_ms=_since(worker, worker.created_ns),
            started_ms=_since(worker, worker.started_ns),
            memory_ms=_since(worker, worker.memory_ns),
            healthy_ms=_since(worker, worker.ready_ns),
            first_byte_ms=_since(worker, worker.first_byte_ns),
        ),
        cost_u=worker.spent_u + (interval.due_u(draft.now_ns) if interval is not None else 0),
        generation=worker.generation,
        reason=worker.reason,
        surge=worker.surge,
    )


def _since(worker: Worker, at_ns: int | None) -> int | None:
    return max(0, at_ns - worker.intent_ns) // 1_000_000 if at_ns is not None else None


def _cost(draft: Draft, endpoint: Endpoint, open_: list[Interval]) -> CostView:
    price = draft.book.price(endpoint.spec.gpu_type)
    accrued = sum(i.accrued_u(draft.now_ns) for i in open_)
    return CostView(
        per_hour_u=sum(i.opened.rate_uh for i in open_),
        today_u=endpoint.spend.today_u + accrued,
        total_u=endpoint.spend.total_u + accrued,
        worst_case_per_hour_u=credit.worst_case_uh(endpoint.spec, price) if price is not None else 0,
        absorbed_u=endpoint.spend.absorbed_u,
    )


def _account(draft: Draft, account: Account) -> AccountView:
    balance = charging.live_balance_u(draft, account.name)
    burn = charging.burn_of(draft, account.name)
    accrued = account.balance_u - balance
    return AccountView(
        name=account.name,
        balance_u=balance,
        per_hour_u=burn.current_uh,
        today_u=account.today_u + accrued,
        month_u=account.month_u + accrued,
        warning_at_u=credit.WARNING_HOURS * max(account.burn_uh, burn.baseline_uh),
        floor_u=credit.FLOOR_U,
        warned=account.warned,
        suspended=account.suspended,
        mail=account.mail,
        mail_problem=account.mail_problem,
        runway=credit.runway(balance, burn),
    )


def _models(state: State) -> tuple[ModelView, ...]:
    ordered = sorted(state.rules.models.values(), key=lambda m: (m.order, m.name))
    return tuple(_model(m, virtual=state.engine.kind is EngineKind.VIRTUAL) for m in ordered)


def _model(model: Model, *, virtual: bool) -> ModelView:
    engines = [EngineKind.VIRTUAL] if virtual else []
    if model.process is not None:
        engines.append(EngineKind.PROCESS)
    if model.image is not None:
        engines.append(EngineKind.DOCKER)
    return ModelView(
        name=model.name,
        title=model.title,
        summary=model.summary,
        kind=model.kind,
        concurrency=model.concurrency,
        engines=tuple(engines),
        memory_bytes=model.memory_bytes,
        docs=model.docs,
    )
