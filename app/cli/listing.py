"""What `status`, `ps`, `endpoint ls`, `endpoint show`, `models` and `gpus` print."""

from __future__ import annotations

from collections.abc import Sequence

from app.cli.lifecycle import engine_text, gpus_text
from app.cli.options import Settings
from app.cli.output import Column, print_blank, print_fields, print_json, print_table, say
from app.cli.session import Session, find_endpoint, talk
from app.format import (
    NOTHING,
    age,
    count,
    latency,
    memory,
    memory_pair,
    money,
    percent,
    power,
    rate_per_hour,
    runway,
    seconds,
    temperature,
)
from orchestrator.contract.endpoint import notation
from orchestrator.contract.snapshot import EndpointView, EngineKind, ModelView, Snapshot, WorkerState, WorkerView

ENDPOINT_COLUMNS = (
    Column("ENDPOINT"),
    Column("STATE", state=True),
    Column("SETUP", right=True),
    Column("MODEL"),
    Column("GPU"),
    Column("READY", right=True),
    Column("QUEUED", right=True),
    Column("RPM", right=True),
    Column("P95", right=True),
    Column("$/H", right=True),
    Column("TODAY", right=True),
)
WORKER_COLUMNS = (
    Column("ENDPOINT"),
    Column("WORKER"),
    Column("STATE", state=True),
    Column("TIER"),
    Column("GPU"),
    Column("RUNNING", right=True),
    Column("SERVED", right=True),
    Column("COLD START", right=True),
    Column("AGE", right=True),
    Column("COST", right=True),
    Column("REF"),
)


def show_status(settings: Settings) -> None:
    state = talk(Session.snapshot)
    if settings.json:
        print_json(state)
        return
    print_fields(_overview(state))
    print_blank()
    _print_endpoints(state)


def show_endpoints(settings: Settings) -> None:
    state = talk(Session.snapshot)
    if settings.json:
        print_json(list(state.endpoints))
    else:
        _print_endpoints(state)


def show_endpoint(settings: Settings, slug: str) -> None:
    view, state = talk(lambda session: session.endpoint(slug))
    if settings.json:
        print_json(view)
        return
    print_fields(_details(view, state))
    if view.workers:
        print_blank()
        print_table(WORKER_COLUMNS, [worker_row(worker, state) for worker in view.workers])


def show_workers(settings: Settings, slug: str | None) -> None:
    state = talk(Session.snapshot)
    views = state.endpoints if slug is None else (find_endpoint(state, slug),)
    workers = [worker for view in views for worker in view.workers]
    if settings.json:
        print_json(workers)
    elif not workers:
        say("no workers")
    else:
        print_table(WORKER_COLUMNS, [worker_row(worker, state) for worker in workers])


def show_models(settings: Settings) -> None:
    state = talk(Session.snapshot)
    if settings.json:
        print_json(list(state.models))
        return
    columns = (
        Column("MODEL"), Column("KIND"), Column("CONCURRENCY", right=True), Column("MEMORY", right=True),
        Column("ENGINES"), Column("SUMMARY"),
    )  # fmt: skip
    rows = [
        (
            m.name,
            m.kind,
            str(m.concurrency),
            memory(m.memory_bytes),
            _engines(m),
            m.summary,
        )
        for m in state.models
    ]
    print_table(columns, rows)


def _engines(model: ModelView) -> str:
    """Where it runs; the virtual engine exists for tests and is nobody's choice."""
    return ", ".join(engine.value for engine in model.engines if engine is not EngineKind.VIRTUAL)


def show_gpus(settings: Settings) -> None:
    state = talk(Session.snapshot)
    if settings.json:
        print_json({"gpus": list(state.gpus), "capacity": list(state.capacity), "prices": list(state.prices)})
        return
    if not state.gpus:
        say("no GPUs: `gpudeck doctor` says why; --gpus of `gpudeck up` declares simulated ones")
    columns = (
        Column("GPU", right=True), Column("TYPE"), Column("NAME"), Column("STATE", state=True),
        Column("LOAD", right=True), Column("MEMORY", right=True), Column("POWER", right=True),
        Column("TEMP", right=True), Column("USED BY"),
    )  # fmt: skip
    labels = {worker.id: f"{worker.endpoint}/{worker.label}" for view in state.endpoints for worker in view.workers}
    rows = [
        (
            str(gpu.index),
            gpu.type,
            f"{gpu.name} (SIMULATED)" if gpu.simulated else gpu.name,
            gpu.state,
            percent(gpu.utilisation_percent),
            memory_pair(gpu.memory_used_bytes, gpu.memory_total_bytes),
            power(gpu.power_mw, gpu.power_limit_mw),
            temperature(gpu.temperature_c),
            labels.get(gpu.worker_id or "", NOTHING),
        )
        for gpu in state.gpus
    ]
    print_table(columns, rows)
    for each in state.capacity:
        say(f"{each.gpu_type}: {each.total} in all, {each.reserved} reserved for baselines, {each.in_use} in use")


def _overview(state: Snapshot) -> list[tuple[str, str]]:
    lines = [
        ("gateway", state.gateway_url),
        ("engine", engine_text(state)),
        ("gpus", gpus_text(state)),
        ("prices", state.price_book),
        ("running", f"{age(state.started_at_ns, state.taken_at_ns).removesuffix(' ago')} (pid {state.pid})"),
    ]
    for account in state.accounts:
        marks = " SUSPENDED" if account.suspended else " LOW" if account.warned else ""
        left = runway(account.runway.current_h)
        lines.append(
            (account.name, f"{money(account.balance_u)}{marks}, burning {rate_per_hour(account.per_hour_u)} ({left})")
        )
    if not state.ledger_ok:
        lines.append(("ledger", f"PROBLEM: {state.ledger_problem or 'see the log'}"))
    if state.stopping:
        lines.append(("state", "stopping"))
    return lines


def _print_endpoints(state: Snapshot) -> None:
    if not state.endpoints:
        say("no endpoints yet: `gpudeck endpoint create --help`")
        return
    print_table(ENDPOINT_COLUMNS, [_endpoint_row(view) for view in state.endpoints])
    for view in state.endpoints:
        if view.problem is not None:
            say(f"{view.spec.slug}: {view.problem.message}")


def _endpoint_row(view: EndpointView) -> Sequence[str]:
    ready = sum(worker.state is WorkerState.READY for worker in view.workers)
    return (
        view.spec.slug,
        view.state.value,
        view.spec.setup,
        view.spec.model,
        view.spec.gpu_type,
        str(ready),
        count(view.traffic.queued),
        count(view.traffic.rpm),
        latency(view.traffic.p95_ms),
        money(view.cost.per_hour_u),
        money(view.cost.today_u),
    )


def worker_row(worker: WorkerView, state: Snapshot) -> Sequence[str]:
    """The cells of WORKER_COLUMNS."""
    indices = {gpu.uuid: f"{gpu.type} #{gpu.index}" for gpu in state.gpus}
    return (
        worker.endpoint,
        worker.label,
        worker.state.value,
        worker.tier.value if worker.tier else NOTHING,
        indices.get(worker.gpu_uuid or "", NOTHING),
        str(worker.running),
        count(worker.served),
        latency(worker.cold_start.healthy_ms),
        age(worker.intent_ns, state.taken_at_ns).removesuffix(" ago"),
        money(worker.cost_u),
        (worker.engine_ref or NOTHING)[:12],
    )


def _details(view: EndpointView, state: Snapshot) -> list[tuple[str, str]]:
    spec = view.spec
    lines = [
        ("endpoint", spec.slug),
        ("state", view.state.value),
        ("url", view.url),
        ("setup", f"{spec.setup} (baseline-maximum workers)"),
        ("model", spec.model),
        ("gpu", spec.gpu_type),
        ("account", f"{spec.account} ({spec.visibility.value})"),
        ("policy", notation(spec.policy)),
        ("concurrency", f"{view.concurrency} per worker"),
        ("timeouts", f"idle {seconds(spec.idle_timeout_s)}, execution {seconds(spec.execution_timeout_s)}, "
                     f"queue {seconds(spec.queue_timeout_s)}"),
        ("traffic", f"{view.traffic.rpm} rpm, p50 {latency(view.traffic.p50_ms)}, p95 {latency(view.traffic.p95_ms)}, "
                    f"{view.traffic.queued} queued, {view.traffic.running} running"),
        ("requests", f"{view.traffic.served_total:,} served, {view.traffic.failed_total:,} failed"),
        ("cost", f"{rate_per_hour(view.cost.per_hour_u)} now, {money(view.cost.today_u)} today, "
                 f"{money(view.cost.total_u)} in all, at most {rate_per_hour(view.cost.worst_case_per_hour_u)}"),
    ]  # fmt: skip
    if spec.env:
        lines.append(("env", " ".join(sorted(spec.env))))
    if view.decision is not None:
        when = age(view.decision.at_ns, state.taken_at_ns)
        lines.append(("scaling", f"wants {view.decision.desired}: {view.decision.why} ({when})"))
    if view.problem is not None:
        lines.append(("problem", view.problem.message))
        lines.extend(("", line) for line in view.problem.log)
    return lines
