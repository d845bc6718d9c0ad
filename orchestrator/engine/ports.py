"""What a worker engine can do, and the errors it may raise. Docker, process and virtual implement it.

All times are wall-clock nanoseconds. Every call may be repeated: a start that already happened returns the running
worker, a stop of something gone is a success. An outcome that is not known (a time-out after the request was sent) is
raised as `EngineUnavailable`; the caller re-lists and finds the truth there.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from orchestrator.contract.snapshot import EngineKind, EngineView
from orchestrator.core.workload import Exit, Observed, WorkerSpec


class Fault(StrEnum):
    """Stable code of an engine error; controller/crew.py decides by it whether trying again can help."""

    ENGINE_MISSING = "engine_missing"  # no engine answers
    ENGINE_TOO_OLD = "engine_too_old"
    IMAGE_MISSING = "image_missing"
    PORT_TAKEN = "port_taken"
    NAME_CONFLICT = "name_conflict"  # the name belongs to something that is not ours
    GPU_UNAVAILABLE = "gpu_unavailable"  # the engine cannot hand out GPUs
    MODEL_UNSUPPORTED = "model_unsupported"  # this engine has no way to run the model
    NO_SPACE = "no_space"
    REFUSED = "refused"  # anything else the engine said no to


class EngineError(Exception):
    """The engine refused. `message` is for the user: what is wrong and what to do."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault = fault
        self.message = message


class EngineUnavailable(EngineError):
    """No answer: whether the call took effect is unknown. Never billed, always reconciled by a re-list."""

    def __init__(self, message: str) -> None:
        super().__init__(Fault.ENGINE_MISSING, message)


class Breakable(Protocol):
    """What can be done to a worker from outside, to rehearse its failures. Each raises KeyError for a worker that does
    not run, and EngineError. A caller that knows better may still do it: nothing here asks whether faults are on."""

    async def kill(self, worker_id: str) -> None:
        """SIGKILL, as the kernel or a person would."""
        ...

    async def freeze(self, worker_id: str, *, on: bool) -> None:
        """Stop it where it stands, or let it go on. It keeps its GPU, its port and its connections."""
        ...

    async def squeeze(self, worker_id: str) -> None:
        """Lower its memory limit below what it uses; it is killed for it within seconds."""
        ...


class WorkerEngine(Breakable, Protocol):
    """Starts and stops workers on this host. Safe to call from one event loop; never blocks it."""

    @property
    def kind(self) -> EngineKind: ...

    async def open(self, on_change: Callable[[str, Exit | None], None]) -> None:
        """Begin watching. `on_change(worker_id, exit)` is called in the event loop when a worker of this instance ends
        (exit given) or when anything else happened that is worth a re-list (exit None, worker_id may be "").
        Notifications are a hint: some may be lost or repeated."""
        ...

    async def probe(self) -> EngineView:
        """Is the engine usable now? Never raises; says what is wrong and what to do."""
        ...

    async def start(self, spec: WorkerSpec) -> Observed:
        """Create and start. Raises EngineError. Leaves nothing behind when it fails for good."""
        ...

    async def healthy(self, worker: Observed, path: str, timeout_s: float) -> bool:
        """One health probe: True on any 2xx from http://host:port{path} within the time. Never raises."""
        ...

    async def inspect(self, worker_id: str) -> Observed | None:
        """The truth about one worker; None when nothing of that id exists. Raises EngineUnavailable."""
        ...

    async def list_workers(self) -> list[Observed]:
        """Every worker of this instance, running or ended and not yet removed. Raises EngineUnavailable."""
        ...

    async def stop(self, worker_id: str, grace_s: float) -> Exit | None:
        """Ask it to end, kill it after `grace_s`. Returns the evidence, None when it was already gone."""
        ...

    async def remove(self, worker_id: str) -> None:
        """Forget an ended worker (its evidence has been posted). Idempotent."""
        ...

    async def logs(self, worker_id: str, tail: int) -> list[str]:
        """Newest `tail` lines, oldest first, without control characters. Raises KeyError for an unknown id."""
        ...

    async def close(self) -> None:
        """Stop watching; workers keep running. Idempotent."""
        ...
