"""A deck of any size that is never at rest: frame after frame as a busy orchestrator would send them."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

from orchestrator.contract.base import DOLLAR_U, SECOND_NS
from orchestrator.contract.endpoint import EndpointSpec
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
    GpuView,
    LaneSample,
    LanesView,
    ModelView,
    PriceView,
    RunwayView,
    Snapshot,
    Tier,
    TrafficView,
    WorkerState,
    WorkerView,
)

EPOCH_NS: Final = 1_790_000_000 * SECOND_NS
PER_SECOND: Final = 4
SAMPLES: Final = 120
BASELINE_UH: Final = 2_670_000
EVENTS: Final = 200


def slug(index: int) -> str:
    """Name of the endpoint at `index`."""
    return f"model-{index:02d}"


def frame(number: int, endpoints: int, workers: int) -> Snapshot:
    """Frame `number` of a deck with that many endpoints and workers, a GPU to each worker. Equal numbers, equal
    frames; every endpoint differs from one frame to the next."""
    now_ns = EPOCH_NS + number * SECOND_NS // PER_SECOND
    each = max(workers // max(endpoints, 1), 1)
    return Snapshot(
        seq=number + 1,
        taken_at_ns=now_ns,
        started_at_ns=EPOCH_NS - 8_000 * SECOND_NS,
        instance="bench",
        pid=1,
        version="0",
        home="/nowhere",
        gateway_url="http://127.0.0.1:8484",
        engine=EngineView(kind=EngineKind.PROCESS, ok=True, detail="made up"),
        simulated_gpus=True,
        price_book="2025-seed",
        gpus=tuple(_gpu(i, number, each) for i in range(endpoints * each)),
        capacity=(CapacityView(gpu_type="L40", total=endpoints * each, reserved=endpoints, in_use=endpoints * each),),
        endpoints=tuple(_endpoint(i, number, each, now_ns) for i in range(endpoints)),
        accounts=(_account(number, endpoints * each),),
        keys=(),
        models=(
            ModelView(name="sketch", title="Sketch", summary="", kind="image", concurrency=1,
                      engines=(EngineKind.PROCESS,)),
        ),
        prices=(PriceView(gpu_type="L40", baseline_uh=BASELINE_UH, autoscale_uh=15_264_000),),
        events=tuple(_event(i) for i in range(max(number // PER_SECOND - EVENTS, 0), number // PER_SECOND + 1)),
        balance_series_u=tuple(640 * DOLLAR_U - (number + i) * 50_000 for i in range(SAMPLES)),
    )  # fmt: skip


def _wave(index: int, moment: int, height: int) -> int:
    return round(height * (1 + math.sin(moment / 9 + index)) / 2)


def _gpu(index: int, number: int, each: int) -> GpuView:
    return GpuView(
        uuid=f"GPU-{index:08d}", index=index, type="L40", name="NVIDIA L40", simulated=True,
        memory_total_bytes=45 * 2**30, memory_used_bytes=(20 + index % 20) * 2**30,
        utilisation_percent=_wave(index, number, 100), power_mw=90_000 + _wave(index, number, 200_000),
        power_limit_mw=300_000, temperature_c=40 + _wave(index, number, 30),
        worker_id=f"{slug(index // each)}-w{index % each + 1}", endpoint=slug(index // each),
    )  # fmt: skip


def _worker(index: int, at: int, number: int, each: int, now_ns: int) -> WorkerView:
    busy = (number + index * 7 + at * 3) % 5 < 3
    starting = at == each - 1 and (number // 20 + index) % 4 == 0
    return WorkerView(
        id=f"{slug(index)}-w{at + 1}", label=f"w{at + 1}", endpoint=slug(index),
        state=WorkerState.STARTING if starting else WorkerState.READY,
        tier=Tier.BASELINE if at == 0 else Tier.AUTOSCALE,
        gpu_uuid=f"GPU-{index * each + at:08d}", engine_ref=str(40_000 + index), address="127.0.0.1:40000",
        running=int(busy and not starting), served=number * 3 + at, intent_ns=EPOCH_NS - 600 * SECOND_NS,
        ready_ns=None if starting else EPOCH_NS - 590 * SECOND_NS, idle_since_ns=now_ns, cost_u=number * 185 + at,
        cold_start=ColdStartView(created_ms=120, started_ms=410, healthy_ms=2_950, first_byte_ms=3_180),
    )  # fmt: skip


def _endpoint(index: int, number: int, each: int, now_ns: int) -> EndpointView:
    second = number // PER_SECOND
    moments = range(second - SAMPLES + 1, second + 1)
    return EndpointView(
        spec=EndpointSpec(slug=slug(index), model="sketch", gpu_type="L40", baseline=1, maximum=min(each, 10)),
        state=EndpointState.SERVING, generation=1, concurrency=1, url=f"http://127.0.0.1:8484/v1/{slug(index)}",
        workers=tuple(_worker(index, at, number, each, now_ns) for at in range(each)),
        traffic=TrafficView(
            rpm=60 + _wave(index, number, 200), p50_ms=300 + _wave(index, number, 400),
            p95_ms=800 + _wave(index, number, 900), served_total=number * 3, queued=_wave(index, number, 5),
            running=each, requests_series=tuple(_wave(index, m, 6) for m in moments),
            p95_series_ms=tuple(700 + _wave(index, m, 900) for m in moments),
            queued_series=tuple(_wave(index, m, 5) for m in moments),
        ),
        cost=CostView(per_hour_u=BASELINE_UH * each, today_u=number * 1_850, total_u=number * 1_850,
                      worst_case_per_hour_u=BASELINE_UH * 10),
        lanes=_lanes(index, second, each),
        decision=DecisionView(at_ns=now_ns, desired=each, why="oldest waiter over the queue delay"),
    )  # fmt: skip


@lru_cache(maxsize=200)
def _lanes(index: int, second: int, each: int) -> LanesView:
    """The same object in every frame of that second, as in the orchestrator."""
    busy = [_wave(index, moment, each) for moment in range(second - SAMPLES + 1, second + 1)]
    samples = (LaneSample(idle=each - working, busy=working, autoscaled=each - 1) for working in busy)
    return LanesView.of(samples)


def _account(number: int, workers: int) -> AccountView:
    return AccountView(
        name="local", balance_u=640 * DOLLAR_U - number * 50_000, per_hour_u=BASELINE_UH * workers,
        today_u=number * 50_000, month_u=number * 50_000, warning_at_u=10 * BASELINE_UH, floor_u=10 * DOLLAR_U,
        warned=False, suspended=False, runway=RunwayView(baseline_h=118.4, current_h=17.6, worst_case_h=4.6),
    )  # fmt: skip


@lru_cache(maxsize=EVENTS * 2)
def _event(index: int) -> EventView:
    return EventView(
        seq=index + 1, at_ns=EPOCH_NS + index * SECOND_NS, level="info", text=f"scaled {index % 9} → {index % 9 + 1}",
        endpoint=slug(index % 10),
    )  # fmt: skip
