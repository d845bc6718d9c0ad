"""One endpoint in full: workers, figures, cold starts, the scaler's decision, specification, and how to call it."""

from __future__ import annotations

from typing import Final

from app.format import NOTHING, age, clip, count, latency, money, plain, rate_per_hour, seconds
from app.present import table
from app.present.glyphs import endpoint_mark, present_workers, tier_letter, worker_mark
from app.present.lanes import healed, problem
from app.present.policy import words
from app.present.table import Column
from app.present.text import Line, Span, Tone, clip_line, line
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.ended import EndedWorker, EndedWorkers
from orchestrator.contract.snapshot import ColdStartView, EndpointView, GpuView, WorkerState, WorkerView

WORKER_COLUMNS: Final = (
    Column("label", "WORKER", 7),
    Column("state", "STATE", 11),
    Column("tier", "TIER", 11, rank=3),
    Column("gpu", "GPU", 8, rank=2),
    Column("running", "RUN", 4, right=True),
    Column("served", "SERVED", 7, right=True),
    Column("cost", "COST", 9, right=True),
    Column("age", "AGE", 9, rank=4, right=True),
    Column("ref", "PROCESS", 14, rank=8),
    Column("address", "ADDRESS", 17, rank=7),
    Column("reason", "WHY", 22, rank=5, grow=True),
)
_PHASES: Final = {
    "create": Tone.IDLE,
    "start": Tone.INFO,
    "GPU memory": Tone.DRAINING,
    "healthy": Tone.STARTING,
    "first byte": Tone.BUSY,
}
_ALWAYS: Final = ("create", "start", "healthy", "first byte")
_TWO_COLUMNS: Final = 56
_PAIR_MAX: Final = 44
BODIES: Final = {"text": '{"prompt": "Hello"}', "echo": '{"echo": "hello"}', "service": "{}"}
"""A JSON body that each kind of model takes; "image" takes a picture instead."""


def curl(endpoint: EndpointView, kind: str) -> str:
    """A command that calls the endpoint; the key is a variable, so that nobody pastes a secret by accident."""
    json = f"-H 'content-type: application/json' -d '{BODIES.get(kind, '{}')}'"
    body = "-F image=@photo.jpg -o out.png" if kind == "image" else json
    return f'curl -sS {endpoint.url} -H "x-api-key: $GPUDECK_KEY" {body}'


def worker_rows(
    endpoint: EndpointView, gpus: tuple[GpuView, ...], now_ns: int, room: int, ended: EndedWorkers | None = None
) -> list[Line]:
    """The worker table: a head, one row a worker, below them those that are over, and how many more there were."""
    workers = present_workers(endpoint)
    there = {worker.id for worker in workers}
    over = [worker for worker in ended.workers if worker.worker_id not in there] if ended is not None else []
    if not workers and not over:
        return []
    names = {gpu.uuid: f"{gpu.index} {gpu.type}" for gpu in gpus}
    gap = 2 if room >= 80 else 1
    chosen = table.choose(WORKER_COLUMNS, room, gap)
    body = [table.row(_worker_cells(worker, names, now_ns), chosen, gap) for worker in workers]
    body += [table.row(_ended_cells(worker), chosen, gap) for worker in over]
    more = ended.total - len(ended.workers) if ended is not None else 0
    if more > 0:
        body.append(clip_line(line(Span(f"{count(more)} more are over; m opens the ledger", Tone.FAINT)), room))
    return [table.head(chosen, gap), *body]


def _ended_cells(worker: EndedWorker) -> dict[str, Line]:
    """A worker that is over: how long it was, what it served and cost, and how it ended."""
    # The ledger does not know whether it was told to end: killed and stopped ones differ by the words alone.
    return {
        "label": line(Span(worker.label, Tone.MUTED)),
        "state": line(Span("· over", Tone.FAINT)),
        "tier": line(Span(NOTHING, Tone.FAINT)),
        "gpu": line(Span(plain(worker.gpu_type), Tone.FAINT)),
        "running": line(Span(NOTHING, Tone.FAINT)),
        "served": line(Span(NOTHING if worker.requests is None else count(worker.requests), Tone.MUTED)),
        "cost": line(Span(money(worker.amount_u), Tone.MUTED)),
        "age": line(Span(seconds((worker.ended_ns - worker.started_ns) // SECOND_NS), Tone.FAINT)),
        "ref": line(Span(NOTHING, Tone.FAINT)),
        "address": line(Span(NOTHING, Tone.FAINT)),
        "reason": line(Span(plain(worker.detail or worker.cause), Tone.FAINT)),
    }


def _worker_cells(worker: WorkerView, names: dict[str, str], now_ns: int) -> dict[str, Line]:
    mark = worker_mark(worker)
    tier = worker.tier.value if worker.tier else "unbilled"
    return {
        "label": line(Span(worker.label, Tone.STRONG)),
        "state": line(mark.spans()),
        "tier": line(tier_letter(worker), Span(f" {tier}", Tone.MUTED)),
        "gpu": line(Span(names.get(worker.gpu_uuid or "", NOTHING), Tone.PLAIN)),
        "running": line(Span(count(worker.running), Tone.PLAIN if worker.running else Tone.FAINT)),
        "served": line(count(worker.served)),
        "cost": line(money(worker.cost_u)),
        "age": line(Span(seconds((now_ns - worker.intent_ns) // SECOND_NS), Tone.MUTED)),
        "ref": line(Span(plain(worker.engine_ref or NOTHING)[:12], Tone.MUTED)),
        "address": line(Span(plain(worker.address or NOTHING), Tone.MUTED)),
        "reason": line(Span(_doing(worker, now_ns), Tone.FAILED if worker.state is WorkerState.FAILED else Tone.MUTED)),
    }


def _doing(worker: WorkerView, now_ns: int) -> str:
    if worker.reason:
        return plain(worker.reason)
    if worker.state is WorkerState.READY and not worker.running and worker.idle_since_ns is not None:
        return f"idle for {seconds((now_ns - worker.idle_since_ns) // SECOND_NS)}"
    return "extra, while rolling" if worker.surge else ""


def summary(endpoint: EndpointView, now_ns: int, room: int) -> list[Line]:
    """State, the last decision and why, and the problem with its newest log lines when there is one."""
    mark = endpoint_mark(endpoint)
    lines = [
        line(
            mark.spans(),
            Span(f"   {endpoint.spec.setup}", Tone.STRONG),
            Span(f" on {endpoint.spec.gpu_type} · {endpoint.spec.model}", Tone.MUTED),
            Span(f" · generation {endpoint.generation}", Tone.FAINT),
        )
    ]
    if endpoint.decision is not None:
        decided = endpoint.decision
        lines.append(
            line(
                Span("wants ", Tone.MUTED),
                Span(str(decided.desired), Tone.STRONG),
                Span(f" worker{'s' * (decided.desired != 1)}: {plain(decided.why)}", Tone.PLAIN),
                Span(f" ({age(decided.at_ns, now_ns)})", Tone.FAINT),
            )
        )
    if endpoint.problem is not None:
        lines.extend(problem(endpoint, now_ns, room, limit=4))
        if not healed(endpoint, now_ns):
            lines.extend(
                line(Span("│ ", Tone.FAILED), Span(clip(plain(text), room - 2), Tone.MUTED))
                for text in endpoint.problem.log[-6:]
            )
    return [clip_line(each, room) for each in lines]


def cold_starts(endpoint: EndpointView, room: int) -> list[Line]:
    """The phases of each worker's start as a waterfall on one scale, longest last phase at the right edge."""
    found = [(worker, _ends(worker.cold_start)) for worker in present_workers(endpoint)]
    longest = max((ends[-1][1] for _, ends in found if ends), default=0)
    if not longest:
        return []
    label_room, figure_room = 6, 9
    bar = max(room - label_room - figure_room, 8)
    known = {phase for _, ends in found for phase, _ in ends} | set(_ALWAYS)
    legend = [Span(" " * label_room)]
    for phase, tone in _PHASES.items():
        if phase in known:
            legend.extend((Span("■ ", tone), Span(f"{phase}   ", Tone.MUTED)))
    lines = [clip_line(tuple(legend), room)]
    for worker, ends in found:
        if ends:
            lines.append(
                line(
                    Span(f"{worker.label:<{label_room}}", Tone.STRONG),
                    _waterfall(ends, longest, bar),
                    Span(f"{latency(ends[-1][1]):>{figure_room}}", Tone.PLAIN),
                )
            )
    return lines


def _ends(start: ColdStartView) -> list[tuple[str, int]]:
    """The phases in order, as far as they are known, with their ends in milliseconds from the intent. GPU memory is
    left out where nobody tells it, or not before the worker was healthy; a first byte that took as long again as the
    whole start, since that worker only stood idle until somebody called."""
    values = (start.created_ms, start.started_ms, start.memory_ms, start.healthy_ms, start.first_byte_ms)
    late = start.memory_ms is not None and start.healthy_ms is not None and start.memory_ms >= start.healthy_ms
    ends: list[tuple[str, int]] = []
    for phase, value in zip(_PHASES, values, strict=True):
        if phase not in _ALWAYS and (value is None or late):
            continue
        if value is None or (phase == "first byte" and ends and value > 2 * ends[-1][1]):
            break
        ends.append((phase, max(value, ends[-1][1] if ends else 0)))
    return ends


def _waterfall(ends: list[tuple[str, int]], longest: int, bar: int) -> Line:
    spans: list[Span] = []
    at = 0
    for phase, end in ends:
        until = max(round(end * bar / longest), at + 1)
        until = min(until, bar)
        spans.append(Span("▆" * (until - at), _PHASES[phase]))
        at = until
    spans.append(Span("▁" * (bar - at), Tone.TRACK))
    return line(*spans)


def figures(endpoint: EndpointView, room: int) -> list[Line]:
    """Latency, queue, totals and cost, as name and value pairs in two columns."""
    traffic, cost = endpoint.traffic, endpoint.cost
    oldest = latency(traffic.oldest_wait_ms) if traffic.queued else NOTHING
    pairs = [
        ("rpm", count(traffic.rpm)), ("p50", latency(traffic.p50_ms)),
        ("p95", latency(traffic.p95_ms)), ("p99", latency(traffic.p99_ms)),
        ("queued", count(traffic.queued)), ("queue p95", latency(traffic.queue_p95_ms)),
        ("running", count(traffic.running)), ("oldest wait", oldest),
        ("served", count(traffic.served_total)), ("failed", count(traffic.failed_total)),
        ("now", rate_per_hour(cost.per_hour_u)), ("worst case", rate_per_hour(cost.worst_case_per_hour_u)),
        ("today", money(cost.today_u)), ("total", money(cost.total_u)),
    ]  # fmt: skip
    return _pairs(pairs, room)


def specification(endpoint: EndpointView, room: int) -> list[Line]:
    """What was asked for."""
    spec = endpoint.spec
    pairs = [
        ("policy", words(spec.policy)), ("concurrency", str(endpoint.concurrency)),
        ("idle timeout", seconds(spec.idle_timeout_s)), ("execution", seconds(spec.execution_timeout_s)),
        ("queue timeout", seconds(spec.queue_timeout_s)), ("queue limit", count(spec.queue_limit)),
        ("startup", seconds(spec.startup_deadline_s)), ("visibility", spec.visibility.value),
        ("account", plain(spec.account)), ("environment", f"{len(spec.env)} set" if spec.env else "none"),
    ]  # fmt: skip
    return _pairs(pairs, room)


def _pairs(pairs: list[tuple[str, str]], room: int) -> list[Line]:
    if room < _TWO_COLUMNS:
        return [_pair(name, value, room) for name, value in pairs]
    half = min(room // 2, _PAIR_MAX)
    lines: list[Line] = []
    for left, right in zip(pairs[::2], pairs[1::2], strict=True):
        lines.append(line(_pair(*left, half - 1), "  ", _pair(*right, min(room - half - 1, half - 1))))
    return lines


def _pair(name: str, value: str, room: int) -> Line:
    gap = max(room - len(name) - len(value), 1)
    return line(Span(name, Tone.MUTED), " " * gap, Span(value, Tone.PLAIN))
