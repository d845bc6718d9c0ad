"""The whole visible state of the orchestrator at one instant: views for readers, never internals."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Literal, NamedTuple

from orchestrator.contract.base import Received
from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.contract.lab import LabView


class WorkerState(StrEnum):
    """Life of one worker; core/worker.py holds the table of its transitions."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class EndpointState(StrEnum):
    """Life of one endpoint; core/endpoint.py says how each is reached and left."""

    STARTING = "starting"  # enabled, fewer ready workers than the baseline
    SERVING = "serving"  # enabled, baseline met (with baseline 0: able to start on demand)
    BACKOFF = "backoff"  # enabled, start attempts are failing, the next one is scheduled
    FAILED = "failed"  # gave up; `problem` says why, enable tries again
    DRAINING = "draining"  # disabled or deleted or suspended, workers still finishing
    DISABLED = "disabled"
    SUSPENDED = "suspended"  # stopped because credit fell below the floor


class Tier(StrEnum):
    """At any second min(running, baseline) workers bill at BASELINE, the rest at AUTOSCALE."""

    BASELINE = "baseline"
    AUTOSCALE = "autoscale"


class EngineKind(StrEnum):
    DOCKER = "docker"
    PROCESS = "process"
    VIRTUAL = "virtual"


class EngineView(Received):
    kind: EngineKind
    ok: bool
    detail: str
    """Version and address when ok, else what is wrong and what to do about it."""


class GpuProcessView(Received):
    pid: int
    name: str | None = None
    memory_bytes: int | None = None
    worker_id: str | None = None
    """The worker that holds it; None marks a foreign process."""


class GpuView(Received):
    """One GPU. A measurement the hardware or driver does not support is None, never 0."""

    uuid: str
    index: int
    type: str
    name: str
    simulated: bool
    state: Literal["ok", "lost", "stale"] = "ok"
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    utilisation_percent: int | None = None
    power_mw: int | None = None
    power_limit_mw: int | None = None
    temperature_c: int | None = None
    processes: tuple[GpuProcessView, ...] = ()
    worker_id: str | None = None
    endpoint: str | None = None


class ColdStartView(Received):
    """Phases of a start, each counted from the intent (the row written before the engine was asked)."""

    created_ms: int | None = None
    started_ms: int | None = None
    memory_ms: int | None = None
    """First memory on the GPU, where NVML tells it; to a second."""
    healthy_ms: int | None = None
    first_byte_ms: int | None = None


class WorkerView(Received):
    id: str
    label: str
    """Short name within the endpoint, such as `w2`."""
    endpoint: str
    state: WorkerState
    tier: Tier | None
    gpu_uuid: str | None
    engine_ref: str | None
    """Container id or process id, as the engine names it."""
    address: str | None
    running: int
    """Requests in flight."""
    served: int
    intent_ns: int
    ready_ns: int | None
    idle_since_ns: int | None
    cold_start: ColdStartView
    cost_u: int
    """Since its start, over all its intervals, as far as this orchestrator has seen them."""
    generation: int = 1
    """Of the endpoint's specification; an update that restarts workers raises it."""
    reason: str | None = None
    """Why it is draining, stopping or failed."""
    surge: bool = False


class TrafficView(Received):
    """Requests of one endpoint. Rates and percentiles cover the last 60 s; series hold one value a second, oldest
    first, and their last bucket is the last complete second."""

    rpm: int = 0
    p50_ms: int | None = None
    p95_ms: int | None = None
    p99_ms: int | None = None
    queue_p95_ms: int | None = None
    served_total: int = 0
    failed_total: int = 0
    queued: int = 0
    running: int = 0
    oldest_wait_ms: int = 0
    requests_series: tuple[int, ...] = ()
    failures_series: tuple[int, ...] = ()
    p95_series_ms: tuple[int, ...] = ()
    queued_series: tuple[int, ...] = ()


class LaneSample(NamedTuple):
    """Workers of an endpoint by state at one second."""

    starting: int = 0
    idle: int = 0
    busy: int = 0
    draining: int = 0
    autoscaled: int = 0
    """Of all of these, whatever they do."""

    @property
    def workers(self) -> int:
        return self.starting + self.idle + self.busy + self.draining


class LanesView(Received):
    """Workers of an endpoint by state over time, for the lane chart: a sample a second, oldest first.

    One series a state: there are thousands of samples in a snapshot, and what is new in a series is a number.
    """

    starting: tuple[int, ...] = ()
    idle: tuple[int, ...] = ()
    busy: tuple[int, ...] = ()
    draining: tuple[int, ...] = ()
    autoscaled: tuple[int, ...] = ()

    @classmethod
    def of(cls, samples: Iterable[LaneSample]) -> LanesView:
        """The series of `samples`."""
        series = zip(*samples, strict=True)
        return cls(**dict(zip(LaneSample._fields, series, strict=False)))

    @property
    def samples(self) -> tuple[LaneSample, ...]:
        """Second by second."""
        return tuple(map(LaneSample, self.starting, self.idle, self.busy, self.draining, self.autoscaled))

    @property
    def peak(self) -> int:
        """Most workers at one second."""
        return max(map(sum, zip(self.starting, self.idle, self.busy, self.draining, strict=True)), default=0)


class CostView(Received):
    per_hour_u: int = 0
    """Sum of the rates of the workers billed now."""
    today_u: int = 0
    total_u: int = 0
    worst_case_per_hour_u: int = 0
    absorbed_u: int = 0
    """Time the platform did not charge: failed starts, its own absence."""


class DecisionView(Received):
    at_ns: int
    desired: int
    why: str


class ProblemView(Received):
    code: str
    message: str
    log: tuple[str, ...] = ()
    retry_at_ns: int | None = None


class EndpointView(Received):
    spec: EndpointSpec
    state: EndpointState
    generation: int
    concurrency: int
    url: str
    workers: tuple[WorkerView, ...]
    traffic: TrafficView
    cost: CostView
    lanes: LanesView = LanesView()
    decision: DecisionView | None = None
    problem: ProblemView | None = None


class RunwayView(Received):
    """Hours of credit above the $10 floor at three burns; None when that burn is zero."""

    baseline_h: float | None = None
    current_h: float | None = None
    worst_case_h: float | None = None


class AccountView(Received):
    name: str
    balance_u: int
    """Live: posted balance less what has accrued since the last posting."""
    per_hour_u: int
    today_u: int
    month_u: int
    warning_at_u: int
    """Balance at which the 10 h warning fires, at the current burn."""
    floor_u: int
    warned: bool
    suspended: bool
    runway: RunwayView
    mail: str | None = None
    """Where its warnings go; None means the operator's address, if mail is configured at all."""
    mail_problem: str | None = None
    """Why the newest mail about it has not been delivered (yet)."""


class KeyView(Received):
    id: str
    account: str
    name: str
    created_ns: int
    expires_ns: int | None = None
    revoked_ns: int | None = None
    last_used_ns: int | None = None
    endpoints: tuple[str, ...] = ()
    """The only endpoints it may call; empty means all that its account may."""

    def state_at(self, now_ns: int) -> Literal["active", "expired", "revoked"]:
        """What it is worth at `now_ns`."""
        if self.revoked_ns is not None:
            return "revoked"
        return "expired" if self.expires_ns is not None and self.expires_ns <= now_ns else "active"


class ModelView(Received):
    name: str
    title: str
    summary: str
    kind: Literal["image", "text", "echo", "service"]
    concurrency: int
    engines: tuple[EngineKind, ...]
    memory_bytes: int | None = None
    docs: str = ""


class PriceView(Received):
    gpu_type: str
    baseline_uh: int
    autoscale_uh: int


class CapacityView(Received):
    """GPUs of one type: how many exist, are promised to baselines, and are held by workers now."""

    gpu_type: str
    total: int
    reserved: int
    in_use: int


class EventView(Received):
    seq: int
    at_ns: int
    level: Literal["info", "good", "warning", "error"]
    text: str
    endpoint: str | None = None
    worker: str | None = None


class Snapshot(Received):
    """Whole at any time; what a feed sends of it is in contract/feed.py."""

    seq: int
    taken_at_ns: int
    started_at_ns: int
    instance: str
    pid: int
    version: str
    home: str
    gateway_url: str
    engine: EngineView
    simulated_gpus: bool
    price_book: str
    gpus: tuple[GpuView, ...]
    capacity: tuple[CapacityView, ...]
    endpoints: tuple[EndpointView, ...]
    accounts: tuple[AccountView, ...]
    keys: tuple[KeyView, ...]
    """In order of creation. Of those that are over only the newest (core/keys.py)."""
    models: tuple[ModelView, ...]
    prices: tuple[PriceView, ...]
    events: tuple[EventView, ...]
    """Newest last."""
    balance_series_u: tuple[int, ...] = ()
    """Balance of the first account, one value every five seconds, oldest first."""
    ledger_ok: bool = True
    ledger_problem: str | None = None
    stopping: bool = False
    faults: bool = False
    """Faults may be done to workers on purpose."""
    lab: LabView | None = None
    """Nothing of this is real: a simulated deck, and how fast its clock runs."""
