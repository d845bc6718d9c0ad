"""What an engine is asked to run and what it reports back: the vocabulary shared by core, engines and controller."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.core.catalogue import Model

LABEL_PREFIX = "io.gpudeck."


@dataclass(frozen=True, slots=True)
class GpuGrant:
    """The GPU a worker holds. `simulated` ones exist only as a declaration: engines must not pass them to a device."""

    uuid: str
    index: int
    type: str
    simulated: bool


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """One worker to start. `name` is deterministic (instance, slug, serial), so a retried create cannot make a twin."""

    worker_id: str
    name: str
    instance: str
    endpoint: str
    interval_id: str
    generation: int
    model: Model
    gpu: GpuGrant
    env: dict[str, str] = field(default_factory=dict, repr=False)

    def labels(self) -> dict[str, str]:
        """`io.gpudeck.*`: what adoption after a restart goes by."""
        return {
            f"{LABEL_PREFIX}instance": self.instance,
            f"{LABEL_PREFIX}endpoint": self.endpoint,
            f"{LABEL_PREFIX}worker": self.worker_id,
            f"{LABEL_PREFIX}interval": self.interval_id,
            f"{LABEL_PREFIX}generation": str(self.generation),
            f"{LABEL_PREFIX}model": self.model.name,
            f"{LABEL_PREFIX}gpu": self.gpu.uuid,
        }


class ExitCause(StrEnum):
    """Why a worker ended, as far as the engine can tell."""

    CLEAN = "clean"  # code 0
    ERROR = "error"  # another code
    OOM = "oom"  # killed for its memory limit
    SIGNAL = "signal"  # killed by a signal
    VANISHED = "vanished"  # gone without evidence (removed by hand, host crash)


@dataclass(frozen=True, slots=True)
class Exit:
    """Evidence of an end. `at_ns` (wall clock) is None when nobody saw it; `code` is None when it is not known."""

    cause: ExitCause
    code: int | None
    at_ns: int | None
    detail: str
    log: tuple[str, ...] = ()
    """The last lines it wrote, control characters removed, newest last."""


@dataclass(frozen=True, slots=True)
class Observed:
    """A worker as the engine sees it now. `exit` is None while it runs; `started_ns` is None before its start."""

    worker_id: str
    engine_ref: str
    endpoint: str
    interval_id: str
    host: str | None
    port: int | None
    created_ns: int
    started_ns: int | None
    exit: Exit | None
    paused: bool = False
