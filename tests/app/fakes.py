"""A scripted orchestrator client and rich example states: what the TUI's tests and pictures are made from."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from typing import Any

from orchestrator.contract.base import DOLLAR_U, SECOND_NS
from orchestrator.contract.command import Accepted, Command, Outcome
from orchestrator.contract.endpoint import EndpointSpec, RequestCount
from orchestrator.contract.query import AskLogs, AskQuote, LogLines, Logs, Query, Quote, Unanswered
from orchestrator.contract.snapshot import (
    AccountView,
    CapacityView,
    ColdStartView,
    CostView,
    DecisionView,
    EndpointState,
    EndpointView,
    EngineKind,
    EngineView,
    EventView,
    GpuProcessView,
    GpuView,
    KeyView,
    LaneSample,
    LanesView,
    ModelView,
    PriceView,
    ProblemView,
    RunwayView,
    Snapshot,
    Tier,
    TrafficView,
    WorkerState,
    WorkerView,
)

NOW_NS = 1_790_000_000 * SECOND_NS
GIB = 2**30
GATEWAY = "http://127.0.0.1:8600"
L40_BASE_UH, L40_AUTO_UH = 2_670_000, 15_264_000
H100_BASE_UH, H100_AUTO_UH = 9_000_000, 44_640_000


class FakeClient:
    """An `OrchestratorClient` whose feed is pushed by the test. `sent` and `asked` record what came in.

    `push(snapshot)` delivers a frame, `break_feed(reason)` raises ConnectionError in the feed (it can be reopened),
    `outcome` and `answer` decide what commands and questions get.
    """

    def __init__(self, *snapshots: Snapshot) -> None:
        self._frames: asyncio.Queue[Snapshot | ConnectionError] = asyncio.Queue()
        for snapshot in snapshots:
            self._frames.put_nowait(snapshot)
        self.sent: list[Command] = []
        self.asked: list[Query] = []
        self.opened = 0
        self.per_second = 0.0
        self.outcome: Callable[[Command], Outcome] = lambda command: Accepted(id=command.id, message="done")
        self.answer: Callable[[Query], Any] = example_answer
        self.unreachable: str | None = None

    @property
    def waiting(self) -> int:
        """Frames that nobody has taken yet."""
        return self._frames.qsize()

    def push(self, snapshot: Snapshot) -> None:
        self._frames.put_nowait(snapshot)

    def break_feed(self, reason: str) -> None:
        self._frames.put_nowait(ConnectionError(reason))

    async def snapshots(self, per_second: float = 4.0) -> AsyncIterator[Snapshot]:
        self.opened += 1
        self.per_second = per_second
        while True:
            frame = await self._frames.get()
            if isinstance(frame, ConnectionError):
                raise frame
            yield frame

    async def send(self, command: Command) -> Outcome:
        if self.unreachable is not None:
            raise ConnectionError(self.unreachable)
        self.sent.append(command)
        return self.outcome(command)

    async def ask(self, query: Query) -> Any:
        if self.unreachable is not None:
            raise ConnectionError(self.unreachable)
        self.asked.append(query)
        return self.answer(query)


def example_answer(query: Query) -> Any:
    """Quotes and logs as the orchestrator would give them for `rich()`."""
    if isinstance(query, AskQuote):
        base, auto = query.spec.baseline * L40_BASE_UH, (query.spec.maximum - query.spec.baseline) * L40_AUTO_UH
        return Quote(
            baseline_per_hour_u=base, autoscale_per_hour_each_u=L40_AUTO_UH, worst_case_per_hour_u=base + auto,
            gate_u=max(10 * DOLLAR_U, 24 * base), warning_at_u=10 * base, balance_u=142_370_000, gpus_total=4,
            gpus_free=1,
        )  # fmt: skip
    if isinstance(query, AskLogs):
        labels = ["w1", "w2"] if query.worker is None else [query.worker]
        return Logs(workers=tuple(LogLines(worker_id=label, label=label, lines=_log_of(label)) for label in labels))
    return Unanswered(code="not_found", message="nobody knows")


def _log_of(label: str) -> tuple[str, ...]:
    return (
        "loading model sketch (opencv 5.0.0)",
        "[bold]warm-up[/bold] 3 of 3 \x1b[31mdone\x1b[0m",
        "listening on 127.0.0.1:41873",
        *(f"POST /predict 200 {88 + n * 7 % 40} ms 512x512 pencil" for n in range(12)),
        "WARNING slow client: 2.1 s to read the reply",
    )


def worker(
    label: str,
    endpoint: str = "sketch",
    *,
    state: WorkerState = WorkerState.READY,
    tier: Tier | None = Tier.BASELINE,
    running: int = 0,
    gpu: int | None = 0,
    age_s: int = 600,
    **more: Any,
) -> WorkerView:
    """One worker. `gpu` is an index of the example's GPUs."""
    ready = state is not WorkerState.STARTING
    fields: dict[str, Any] = {
        "id": f"{endpoint}-{label}",
        "label": label,
        "endpoint": endpoint,
        "state": state,
        "tier": tier,
        "gpu_uuid": None if gpu is None else f"GPU-{gpu:08d}",
        "engine_ref": f"{40_000 + (gpu or 0) * 13}",
        "address": f"127.0.0.1:{41_870 + (gpu or 0)}" if ready else None,
        "running": running,
        "served": age_s * 2 // 3 if ready else 0,
        "intent_ns": NOW_NS - age_s * SECOND_NS,
        "ready_ns": NOW_NS - (age_s - 3) * SECOND_NS if ready else None,
        "idle_since_ns": NOW_NS - 4 * SECOND_NS if ready else None,
        "cold_start": ColdStartView(created_ms=120, started_ms=410, healthy_ms=2_950, first_byte_ms=3_180)
        if ready
        else ColdStartView(created_ms=140, started_ms=455),
        "cost_u": (L40_BASE_UH if tier is Tier.BASELINE else L40_AUTO_UH if tier else 0) * age_s // 3_600,
    }
    return WorkerView(**{**fields, **more})


def gpu(index: int, kind: str = "L40", **more: Any) -> GpuView:
    """One GPU without load; `more` overrides any field."""
    total = {"L40": 45, "H100": 80}.get(kind, 24) * GIB
    fields: dict[str, Any] = {
        "uuid": f"GPU-{index:08d}",
        "index": index,
        "type": kind,
        "name": f"NVIDIA {kind}",
        "simulated": False,
        "memory_total_bytes": total,
        "memory_used_bytes": 512 * 2**20,
        "utilisation_percent": 0,
        "power_mw": 36_000,
        "power_limit_mw": {"L40": 300_000, "H100": 700_000}.get(kind, 450_000),
        "temperature_c": 34,
    }
    return GpuView(**{**fields, **more})


def _wave(length: int, base: float, swing: float, period: float, rise: float = 0.0) -> tuple[int, ...]:
    """A deterministic series with some texture."""
    return tuple(
        max(0, round(base + rise * i + swing * math.sin(i / period) + swing * 0.4 * math.sin(i * 1.7)))
        for i in range(length)
    )


def _sketch_lanes() -> LanesView:
    samples = []
    for i in range(120):
        if i < 30:
            samples.append(LaneSample(busy=1 if i % 3 else 0, idle=1 if i % 3 else 2))
        elif i < 38:
            samples.append(LaneSample(busy=2, starting=1, autoscaled=1))
        elif i < 52:
            samples.append(LaneSample(busy=3 if i % 4 else 2, idle=0 if i % 4 else 1, autoscaled=1))
        elif i < 60:
            samples.append(LaneSample(busy=3, starting=2, autoscaled=3))
        elif i < 92:
            samples.append(LaneSample(busy=5 if i % 5 else 4, idle=0 if i % 5 else 1, autoscaled=3))
        elif i < 97:
            samples.append(LaneSample(busy=4, draining=1, autoscaled=3))
        elif i < 112:
            samples.append(LaneSample(busy=3, idle=0, autoscaled=1))
        else:
            samples.append(LaneSample(busy=3, starting=1, autoscaled=2))
    return LanesView.of(samples)


def _thumbs_lanes() -> LanesView:
    samples = []
    for i in range(120):
        if 20 <= i < 26:
            samples.append(LaneSample(starting=1, autoscaled=1))
        elif 26 <= i < 58:
            samples.append(LaneSample(busy=1 if i % 4 else 0, idle=0 if i % 4 else 1, autoscaled=1))
        elif 58 <= i < 68:
            samples.append(LaneSample(idle=1, autoscaled=1))
        elif 68 <= i < 70:
            samples.append(LaneSample(draining=1, autoscaled=1))
        else:
            samples.append(LaneSample())
    return LanesView.of(samples)


def sketch() -> EndpointView:
    """2-5 under load: three busy, one starting, a short queue."""
    workers = (
        worker("w1", running=1, gpu=0, age_s=8_040, served=5_312, cost_u=5_962_000),
        worker("w2", running=1, gpu=1, age_s=8_040, served=5_297, cost_u=5_962_000),
        worker("w5", running=1, gpu=2, age_s=82, served=61, tier=Tier.AUTOSCALE, cost_u=347_000),
        worker("w7", state=WorkerState.STARTING, gpu=3, age_s=8, tier=Tier.AUTOSCALE, cost_u=33_920),
    )
    requests = (*_wave(40, 1.0, 1, 6), *_wave(40, 2.4, 1, 5, 0.05), *_wave(40, 2.6, 1.2, 4))
    return EndpointView(
        spec=EndpointSpec(slug="sketch", model="sketch", gpu_type="L40", baseline=2, maximum=5),
        state=EndpointState.SERVING, generation=3, concurrency=1, url=f"{GATEWAY}/v1/sketch", workers=workers,
        traffic=TrafficView(
            rpm=163, p50_ms=842, p95_ms=1_930, p99_ms=2_410, queue_p95_ms=1_120, served_total=10_670, failed_total=2,
            queued=4, running=3, oldest_wait_ms=1_240, requests_series=requests,
            failures_series=(*(0,) * 78, 1, *(0,) * 22, 1, *(0,) * 18),
            p95_series_ms=(*_wave(40, 640, 120, 5), *_wave(40, 900, 260, 6, 18), *_wave(40, 1_500, 330, 5)),
            queued_series=(
                *(0,) * 28, *_wave(12, 2, 2, 3), *(0,) * 10, *_wave(14, 4, 3, 3), *(0,) * 40, *_wave(16, 3, 2, 3)
            ),
        ),
        cost=CostView(per_hour_u=35_868_000, today_u=61_842_000, total_u=212_410_000, worst_case_per_hour_u=51_132_000),
        lanes=_sketch_lanes(),
        decision=DecisionView(
            at_ns=NOW_NS - 8 * SECOND_NS, desired=4, why="oldest waiter 4.1 s is over the 4 s queue delay"
        ),
    )  # fmt: skip


def thumbs() -> EndpointView:
    """0-5, idle since its traffic stopped: costs nothing."""
    return EndpointView(
        spec=EndpointSpec(
            slug="thumbs", model="sketch", gpu_type="L40", baseline=0, maximum=5, policy=RequestCount(value=4)
        ),
        state=EndpointState.SERVING, generation=1, concurrency=1, url=f"{GATEWAY}/v1/thumbs", workers=(),
        traffic=TrafficView(
            served_total=214, requests_series=(*(0,) * 24, *_wave(34, 1.2, 1, 4), *(0,) * 62),
            p95_series_ms=(*(0,) * 24, *_wave(34, 420, 120, 4), *(0,) * 62),
            queued_series=(*(0,) * 20, 1, 1, 2, 2, 1, *(0,) * 95),
        ),
        cost=CostView(per_hour_u=0, today_u=203_520, total_u=1_384_000, worst_case_per_hour_u=76_320_000),
        lanes=_thumbs_lanes(),
        decision=DecisionView(at_ns=NOW_NS - 52 * SECOND_NS, desired=0, why="idle for 10 s, nothing queued"),
    )  # fmt: skip


def llama() -> EndpointView:
    """1-1 that crashed on every start and gave up."""
    return EndpointView(
        spec=EndpointSpec(slug="llama-70b", model="vllm", gpu_type="H100", baseline=1, maximum=1),
        state=EndpointState.FAILED, generation=2, concurrency=64, url=f"{GATEWAY}/v1/llama-70b",
        workers=(
            worker("w3", "llama-70b", state=WorkerState.FAILED, tier=None, gpu=None, age_s=94, served=0, address=None,
                   cold_start=ColdStartView(created_ms=180, started_ms=520), reason="exit code 1 after 41 s"),
        ),
        traffic=TrafficView(requests_series=(0,) * 120, failed_total=3),
        cost=CostView(worst_case_per_hour_u=9_000_000, absorbed_u=312_000),
        lanes=LanesView.of(LaneSample(starting=1 if i < 66 and i % 22 < 14 else 0) for i in range(120)),
        decision=DecisionView(at_ns=NOW_NS - 40 * SECOND_NS, desired=1, why="baseline 1"),
        problem=ProblemView(
            code="crash_loop",
            message="3 starts failed in a row; the last exited with code 1 after 41 s. Fix the cause, then enable it.",
            log=(
                "INFO 11-24 12:00:07 Loading weights: 61.2/131.4 GiB",
                "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 3.50 GiB.",
                "[rank0] GPU 0 has a total capacity of 79.10 GiB of which 1.22 GiB is free.",
                "Engine core initialization failed. See root cause above.",
            ),
        ),
    )  # fmt: skip


def example_gpus(*, simulated: bool = False) -> tuple[GpuView, ...]:
    """Four L40 in four situations and an H100 with somebody else's process on it."""

    def held(index: int, label: str, **more: Any) -> GpuView:
        process = GpuProcessView(
            pid=40_000 + index * 13, name="python3", memory_bytes=8 * GIB, worker_id=f"sketch-{label}"
        )
        return gpu(
            index, worker_id=f"sketch-{label}", endpoint="sketch", processes=(process,), simulated=simulated, **more
        )

    foreign = GpuProcessView(pid=2_217, name="jupyter-lab", memory_bytes=11 * GIB)
    return (
        held(0, "w1", memory_used_bytes=int(38.2 * GIB), utilisation_percent=87, power_mw=212_000, temperature_c=61),
        held(1, "w2", memory_used_bytes=int(38.1 * GIB), utilisation_percent=91, power_mw=221_000, temperature_c=64),
        held(2, "w5", memory_used_bytes=int(37.9 * GIB), utilisation_percent=74, power_mw=188_000, temperature_c=57),
        held(3, "w7", memory_used_bytes=int(12.6 * GIB), utilisation_percent=12, power_mw=96_000, temperature_c=41),
        gpu(4, "H100", memory_used_bytes=11 * GIB, utilisation_percent=3, power_mw=118_000, temperature_c=None,
            processes=(foreign,), simulated=simulated),
    )  # fmt: skip


def example_events() -> tuple[EventView, ...]:
    """A busy quarter of an hour, newest last."""
    told: list[tuple[int, str, str, str | None]] = [
        (8_050, "info", "orchestrator 0.1.0 started with the docker engine", None),
        (8_048, "good", "adopted 2 workers, billing continues", "sketch"),
        (900, "info", "created key ci-pipeline", None),
        (540, "good", "topped up $100.00", None),
        (210, "info", "scaled 2 → 3: oldest waiter over 4 s", "sketch"),
        (140, "warning", "start 1 of 3 failed: exit code 1", "llama-70b"),
        (96, "info", "scaled 0 → 1: 1 request waiting", "thumbs"),
        (94, "warning", "start 2 of 3 failed: exit code 1", "llama-70b"),
        (82, "good", "w5 ready after 3.2 s on GPU 2", "sketch"),
        (52, "info", "scaled 1 → 0: idle for 10 s", "thumbs"),
        (40, "error", "gave up after 3 failed starts", "llama-70b"),
        (28, "info", "w6 drained and stopped", "sketch"),
        (8, "info", "scaled 3 → 4: oldest waiter over 4 s", "sketch"),
    ]
    return tuple(
        EventView(seq=n, at_ns=NOW_NS - age_s * SECOND_NS, level=level, text=text, endpoint=endpoint)  # type: ignore[arg-type]
        for n, (age_s, level, text, endpoint) in enumerate(told, start=1)
    )


def account(**more: Any) -> AccountView:
    """Well funded; `more` overrides any field."""
    fields: dict[str, Any] = {
        "name": "local", "balance_u": 642_370_000, "per_hour_u": 35_868_000, "today_u": 62_045_520,
        "month_u": 301_882_000,
        "warning_at_u": 368_680_000, "floor_u": 10 * DOLLAR_U, "warned": False, "suspended": False,
        "runway": RunwayView(baseline_h=118.4, current_h=17.63, worst_case_h=4.63),
    }  # fmt: skip
    return AccountView(**{**fields, **more})


def rich(**more: Any) -> Snapshot:
    """Three endpoints (loaded, idle, failed), five GPUs, money, events; `more` overrides any field."""
    series = tuple(642_370_000 + (120 - i) * 49_816 - (30_000_000 if i < 30 else 0) for i in range(120))
    fields: dict[str, Any] = {
        "seq": 4_211, "taken_at_ns": NOW_NS, "started_at_ns": NOW_NS - 8_050 * SECOND_NS, "instance": "deck",
        "pid": 39_900, "version": "0.1.0", "home": "/home/ada/.local/share/gpudeck", "gateway_url": GATEWAY,
        "engine": EngineView(kind=EngineKind.DOCKER, ok=True, detail="Docker 29.1 at /var/run/docker.sock"),
        "simulated_gpus": False, "price_book": "2025-seed", "gpus": example_gpus(),
        "capacity": (CapacityView(gpu_type="L40", total=4, reserved=2, in_use=4),
                     CapacityView(gpu_type="H100", total=1, reserved=1, in_use=0)),
        "endpoints": (sketch(), thumbs(), llama()), "accounts": (account(),),
        "keys": (KeyView(id="k1", account="local", name="ci-pipeline", created_ns=NOW_NS - 900 * SECOND_NS),),
        "models": (
            ModelView(name="sketch", title="Sketch", summary="Stylise, pencil, detail and edge filters for images",
                      kind="image", concurrency=1, engines=(EngineKind.DOCKER, EngineKind.PROCESS)),
            ModelView(name="echo", title="Echo", summary="Tunable latency, tokens, streaming and faults", kind="echo",
                      concurrency=4, engines=(EngineKind.DOCKER, EngineKind.PROCESS)),
            ModelView(name="vllm", title="vLLM", summary="OpenAI-compatible LLM server", kind="service", concurrency=64,
                      engines=(EngineKind.DOCKER,)),
        ),
        "prices": (PriceView(gpu_type="L40", baseline_uh=L40_BASE_UH, autoscale_uh=L40_AUTO_UH),
                   PriceView(gpu_type="H100", baseline_uh=H100_BASE_UH, autoscale_uh=H100_AUTO_UH)),
        "events": example_events(), "balance_series_u": series,
    }  # fmt: skip
    return Snapshot(**{**fields, **more})


def bare() -> Snapshot:
    """A first start: no endpoint, no event, simulated GPUs, ten dollars."""
    return rich(
        endpoints=(), events=(), gpus=tuple(gpu(i, simulated=True) for i in range(2)), simulated_gpus=True,
        balance_series_u=(),
        accounts=(
            account(balance_u=50 * DOLLAR_U, per_hour_u=0, today_u=0, month_u=0, warning_at_u=0, runway=RunwayView()),
        ),
    )  # fmt: skip
