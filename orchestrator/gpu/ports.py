"""Where GPUs come from: NVML on a GPU host, a declaration on any other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class GpuProcess:
    pid: int
    name: str | None
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One GPU at one instant. None means the hardware or driver does not report it, never zero."""

    uuid: str
    index: int
    type: str
    """Price-book type, such as `L40`."""
    name: str
    """The driver's own name, such as `NVIDIA L40`."""
    simulated: bool
    lost: bool
    sampled_ns: int
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    utilisation_percent: int | None = None
    power_mw: int | None = None
    power_limit_mw: int | None = None
    temperature_c: int | None = None
    processes: tuple[GpuProcess, ...] = ()


class GpuProbe(Protocol):
    """Samples in a thread of its own; a stuck driver never blocks the event loop."""

    def start(self, on_sample: Callable[[tuple[GpuSample, ...]], None]) -> None:
        """Begin. `on_sample` is called in the probe's thread about once a second with all GPUs, lost ones included."""
        ...

    def problem(self) -> str | None:
        """Why there are no samples (driver missing, library missing, mismatch), or None."""
        ...

    def close(self) -> None:
        """Stop the thread and shut NVML down. Idempotent, returns within 2 s."""
        ...
