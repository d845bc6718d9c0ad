"""What happens to the orchestrator, as data, in the past tense. `step` turns each into a new state and effects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from orchestrator.contract.command import Command
from orchestrator.contract.faults import FaultKind
from orchestrator.contract.snapshot import EngineView, GpuView
from orchestrator.core.scaling import Memory
from orchestrator.core.workload import Exit, Observed
from orchestrator.core.writes import MailKey, Saved


@dataclass(frozen=True, slots=True)
class Mint:
    """A fresh API key made at the edge (the core has no randomness). The core sees the digest only."""

    key_id: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Booted:
    """The start: what the ledger remembers, what the engine shows (None when it does not answer), the GPUs seen."""

    saved: Saved
    observed: tuple[Observed, ...] | None
    engine: EngineView
    gpus: tuple[GpuView, ...]
    memories: Mapping[str, Memory] = field(default_factory=dict)
    """What policies had learned, by endpoint; without it they begin anew."""


@dataclass(frozen=True, slots=True)
class CommandReceived:
    command: Command
    mint: Mint | None = None


@dataclass(frozen=True, slots=True)
class CommandUndone:
    """The ledger refused the transaction of a command: what the core assumed did not happen."""

    command_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class SlotSeen:
    """Traffic of one worker, read from its lane in the same turn of the loop as the tick that carries it."""

    in_flight: int
    served: int
    idle_since_ns: int
    first_byte_ns: int | None
    suspect: bool
    recycle: bool


@dataclass(frozen=True, slots=True)
class LaneSeen:
    """Traffic of one endpoint at the instant of a tick. Instants are wall-clock nanoseconds, lists hold the oldest
    QUEUE_SEEN_MAX (core/scaling/view.py); `arrived`, `arrivals` and `served` are of the time since the last tick."""

    queued: int
    running: int
    slots: dict[str, SlotSeen]
    queue: tuple[int, ...] = ()
    """Arrivals of those who wait, first come first."""
    running_since: tuple[int, ...] = ()
    """When the requests in flight went to their workers, oldest first."""
    arrived: int = 0
    arrivals: tuple[int, ...] = ()
    served: tuple[int, ...] = ()
    """Nanoseconds from dispatch to last byte of requests that ended well."""

    @property
    def oldest_arrival_ns(self) -> int | None:
        """Arrival of the request that has waited longest; None when nobody waits."""
        return self.queue[0] if self.queue else None


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time passed, or the data plane asked for a decision. The only event that may start or stop a worker on its own
    initiative, because it alone carries a fresh reading of the traffic."""

    lanes: dict[str, LaneSeen]
    keys_used: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class GpusSampled:
    gpus: tuple[GpuView, ...]


@dataclass(frozen=True, slots=True)
class EngineProbed:
    view: EngineView


@dataclass(frozen=True, slots=True)
class Relisted:
    """Everything the engine holds for this instance: the truth that repairs lost notifications."""

    observed: tuple[Observed, ...]
    asked_ns: int
    """When the list was asked for: workers started later may be missing from it."""


@dataclass(frozen=True, slots=True)
class WorkerLaunched:
    """The engine started the worker."""

    worker_id: str
    observed: Observed


@dataclass(frozen=True, slots=True)
class LaunchRefused:
    """The engine would not start the worker. `fatal`: trying again cannot help before somebody changes something."""

    worker_id: str
    code: str
    message: str
    fatal: bool
    engine_down: bool


@dataclass(frozen=True, slots=True)
class LaunchUnknown:
    """The engine did not answer in time: the worker may or may not exist."""

    worker_id: str
    message: str


@dataclass(frozen=True, slots=True)
class WorkerHealthy:
    worker_id: str


@dataclass(frozen=True, slots=True)
class WorkerUnhealthy:
    """A ready worker failed its health probes in a row."""

    worker_id: str
    failures: int


@dataclass(frozen=True, slots=True)
class WorkerExited:
    worker_id: str
    exit: Exit


@dataclass(frozen=True, slots=True)
class StopUnknown:
    """The engine did not confirm a stop: it is asked again after the next re-list."""

    worker_id: str
    message: str


@dataclass(frozen=True, slots=True)
class FaultFailed:
    """A fault that was asked for could not be done to the worker."""

    worker_id: str
    fault: FaultKind
    message: str


@dataclass(frozen=True, slots=True)
class LedgerChecked:
    """The ledger's health after a write: `problem` None means it works (again)."""

    problem: str | None


@dataclass(frozen=True, slots=True)
class MailAttempted:
    """A mail was accepted by the server, refused for good, or is tried again later. `problem` holds no secret."""

    key: MailKey
    state: Literal["queued", "sent", "failed"]
    attempts: int
    problem: str | None


Happening = (
    Booted
    | CommandReceived
    | CommandUndone
    | Ticked
    | GpusSampled
    | EngineProbed
    | Relisted
    | WorkerLaunched
    | LaunchRefused
    | LaunchUnknown
    | WorkerHealthy
    | WorkerUnhealthy
    | WorkerExited
    | StopUnknown
    | FaultFailed
    | LedgerChecked
    | MailAttempted
)
