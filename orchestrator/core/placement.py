"""Which GPU a worker gets, and whether the baselines fit on this host at all."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from orchestrator.contract.snapshot import GpuView
from orchestrator.core.workload import GpuGrant


def free_gpus(gpus: Iterable[GpuView], gpu_type: str, held: Collection[str]) -> list[GpuView]:
    """GPUs of the type that work, that no worker of ours holds and no stranger occupies, by index.

    A foreign process on a GPU makes it unavailable (gpustack#6044: placing beside it fails with out-of-memory later).
    """
    return [
        gpu
        for gpu in sorted(gpus, key=lambda g: g.index)
        if gpu.type == gpu_type and gpu.state == "ok" and gpu.uuid not in held and not occupied_by_stranger(gpu)
    ]


def occupied_by_stranger(gpu: GpuView) -> bool:
    """True when a process that is no worker of ours holds memory on the GPU."""
    return any(p.worker_id is None and (p.memory_bytes or 0) > 0 for p in gpu.processes)


def grant(gpu: GpuView) -> GpuGrant:
    return GpuGrant(uuid=gpu.uuid, index=gpu.index, type=gpu.type, simulated=gpu.simulated)


def total_of(gpus: Iterable[GpuView], gpu_type: str) -> int:
    """Working GPUs of the type."""
    return sum(1 for gpu in gpus if gpu.type == gpu_type and gpu.state != "lost")
