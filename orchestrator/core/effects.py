"""What should be done about it, as data. The controller performs effects in the order they are listed."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.contract.command import Outcome
from orchestrator.contract.endpoint import Visibility
from orchestrator.contract.faults import FaultKind
from orchestrator.core.decisions import Decided
from orchestrator.core.lane import Closed
from orchestrator.core.workload import WorkerSpec
from orchestrator.core.writes import MailQueued, Write


@dataclass(frozen=True, slots=True)
class Persist:
    """One transaction. Every later effect of the same step that leaves this process (an engine call, an answer) waits
    for it: an intent is on disk before the container is created. `command_id` names the command that fails with it."""

    writes: tuple[Write, ...]
    command_id: str | None = None


@dataclass(frozen=True, slots=True)
class AnswerCommand:
    command_id: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class StartWorker:
    spec: WorkerSpec


@dataclass(frozen=True, slots=True)
class StopWorker:
    worker_id: str
    grace_s: float


@dataclass(frozen=True, slots=True)
class RemoveWorker:
    worker_id: str


@dataclass(frozen=True, slots=True)
class BreakWorker:
    """Do a fault to the worker, on purpose (contract/faults.py)."""

    worker_id: str
    endpoint: str
    fault: FaultKind


@dataclass(frozen=True, slots=True)
class DropGpus:
    """Let no reading of a GPU come for `seconds`, on purpose."""

    seconds: float


@dataclass(frozen=True, slots=True)
class WatchHealth:
    """Probe until the worker is gone: quickly until it is ready, slowly afterwards. `ready`: it was ready before (it is
    being adopted), so failures count from the first probe on."""

    worker_id: str
    path: str
    ready: bool = False


@dataclass(frozen=True, slots=True)
class RingMember:
    worker_id: str
    label: str
    host: str
    port: int
    concurrency: int
    idle_since_ns: int
    """For a worker that is new to the lane."""


@dataclass(frozen=True, slots=True)
class RouteView:
    """What the data plane should look like for one endpoint. Compared as a whole; sent only when it changed."""

    slug: str
    account: str
    visibility: Visibility
    predict_path: str
    execution_timeout_s: float
    queue_timeout_s: float
    queue_limit: int
    cancels: bool
    closed: Closed | None
    evict: bool
    ring: tuple[RingMember, ...]
    """Workers that are wanted: round robin runs over them."""
    present: frozenset[str]
    """Workers that may still hold requests: slots of others are forgotten."""
    reserve: tuple[RingMember, ...] = ()
    """Warm workers beyond that, the next to be wanted first: used only when the ring has no room."""


@dataclass(frozen=True, slots=True)
class ApplyRoute:
    view: RouteView


@dataclass(frozen=True, slots=True)
class DropRoute:
    slug: str


@dataclass(frozen=True, slots=True)
class TrustWorker:
    """A suspect worker answered its probe: let it take its turn again."""

    slug: str
    worker_id: str


@dataclass(frozen=True, slots=True)
class GrantKey:
    key_id: str
    digest: bytes
    account: str
    expires_ns: int | None
    endpoints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WithdrawKey:
    key_id: str


@dataclass(frozen=True, slots=True)
class SendMail:
    """Deliver it at least once, to the account's address or, with None, to the operator's. Asked again with another
    address, the newest one counts."""

    mail: MailQueued
    to: str | None


@dataclass(frozen=True, slots=True)
class JournalDecision:
    """Remember it for `gpudeck why`. Not money: it may be lost."""

    entry: Decided


@dataclass(frozen=True, slots=True)
class Leave:
    """The orchestrator may exit now."""


Effect = (
    Persist
    | AnswerCommand
    | StartWorker
    | StopWorker
    | RemoveWorker
    | BreakWorker
    | DropGpus
    | WatchHealth
    | ApplyRoute
    | DropRoute
    | TrustWorker
    | GrantKey
    | WithdrawKey
    | SendMail
    | JournalDecision
    | Leave
)
