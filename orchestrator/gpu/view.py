"""Samples of a probe as contract views, with the worker that holds each process."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.snapshot import GpuProcessView, GpuView
from orchestrator.gpu.ports import GpuSample

STALE_NS = 5 * SECOND_NS


def view_of(sample: GpuSample, now_ns: int, worker_of: Callable[[int], str | None]) -> GpuView:
    """One sample as shown; older than five seconds it is marked stale."""
    stale = not sample.simulated and now_ns - sample.sampled_ns > STALE_NS
    return GpuView(
        uuid=sample.uuid,
        index=sample.index,
        type=sample.type,
        name=sample.name,
        simulated=sample.simulated,
        state="lost" if sample.lost else "stale" if stale else "ok",
        memory_total_bytes=sample.memory_total_bytes,
        memory_used_bytes=sample.memory_used_bytes,
        utilisation_percent=sample.utilisation_percent,
        power_mw=sample.power_mw,
        power_limit_mw=sample.power_limit_mw,
        temperature_c=sample.temperature_c,
        processes=tuple(
            GpuProcessView(pid=p.pid, name=p.name, memory_bytes=p.memory_bytes, worker_id=worker_of(p.pid))
            for p in sample.processes
        ),
    )
