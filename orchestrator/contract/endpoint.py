"""What a user asks for: the specification of an endpoint and the changes to one."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final, Literal, Protocol, Self

from pydantic import Field, model_validator

from orchestrator.contract.base import Frozen
from orchestrator.contract.limits import (
    CONCURRENCY,
    EXECUTION_TIMEOUT_S,
    IDLE_TIMEOUT_S,
    QUEUE_LIMIT,
    QUEUE_TIMEOUT_S,
    STARTUP_DEADLINE_S,
    Environment,
    Slug,
)


class Visibility(StrEnum):
    """Who may call: the owner's keys only, or every valid key on this host."""

    PRIVATE = "private"
    PUBLIC = "public"


class Owned(Protocol):
    """Whatever says whose an endpoint is: its specification, or its route in the gateway."""

    @property
    def account(self) -> str: ...

    @property
    def visibility(self) -> Visibility: ...


def may_call(account: str, endpoint: Owned) -> bool:
    """Whether the account may call the endpoint (design.md section 1); the scope of its key is another question."""
    return endpoint.account == account or endpoint.visibility is Visibility.PUBLIC


class QueueDelay(Frozen):
    """Add one worker whenever the oldest waiter has waited longer than `seconds` (RunPod's QUEUE_DELAY), as long as the
    live workers, starting ones included, have fewer slots than there are requests."""

    kind: Literal["queue_delay"] = "queue_delay"
    seconds: float = Field(default=4.0, ge=0.0, le=3_600.0)


class RequestCount(Frozen):
    """Want ceil((queued + running) / value) workers (RunPod's REQUEST_COUNT)."""

    kind: Literal["request_count"] = "request_count"
    value: int = Field(default=4, ge=1, le=10_000)


class Concurrency(Frozen):
    """Want ceil(average requests in the system / (target x slots)) workers (Knative's KPA, its defaults).

    The average is taken over a stable window; when that of the short panic window asks for `panic_threshold` times what
    is ready, the larger of both counts and nothing is taken away until a stable window has passed without panic.
    """

    kind: Literal["concurrency"] = "concurrency"
    target: float = Field(default=0.7, ge=0.01, le=1.0)
    """Share of a worker's slots that are to be in use (container-concurrency-target-percentage)."""
    stable_s: float = Field(default=60.0, ge=6.0, le=3_600.0)
    """Length of the stable window, seconds."""
    panic_s: float = Field(default=6.0, ge=1.0, le=3_600.0)
    """Length of the panic window, seconds."""
    panic_threshold: float = Field(default=2.0, ge=1.1, le=10.0)
    """Panic when the panic window asks for this many times the ready workers."""
    up_rate: float = Field(default=1_000.0, ge=1.1, le=10_000.0)
    """At most this many times the ready workers after one evaluation (every 2 s)."""
    down_rate: float = Field(default=2.0, ge=1.1, le=10_000.0)
    """At least this fraction, 1/x, of the ready workers after one evaluation."""

    @model_validator(mode="after")
    def _panic_within_stable(self) -> Self:
        if self.panic_s > self.stable_s:
            raise ValueError(f"panic_s: {self.panic_s:g} s is more than stable_s, {self.stable_s:g} s")
        return self


class Auto(Frozen):
    """Start a worker when the waiting it saves is worth its price, keep it while needing it soon is likely enough.

    `wait_p95_s` is the only knob: the p95 of the queue wait that the user wants. What a second of waiting is worth, in
    autoscaled worker-seconds, is learned from it; `wait_price` states that value instead.
    """

    kind: Literal["auto"] = "auto"
    wait_p95_s: float = Field(default=10.0, ge=0.1, le=3_600.0)
    wait_price: float | None = Field(default=None, ge=0.001, le=1_000.0)
    """Autoscaled worker-seconds one is ready to pay to save one request one second of waiting."""


ScalingPolicy = Annotated[QueueDelay | RequestCount | Concurrency | Auto, Field(discriminator="kind")]

OWN_TIMING: Final = (Concurrency, Auto)
"""These decide for themselves how long to keep a worker: the endpoint's idle timeout changes nothing."""


POLICIES: Final[Mapping[str, tuple[type[ScalingPolicy], str, type[int] | type[float], str]]] = {
    "queue_delay": (QueueDelay, "seconds", float, "seconds"),
    "request_count": (RequestCount, "value", int, "a whole number"),
    "concurrency": (Concurrency, "target", float, "a share of the slots, such as 0.7"),
    "auto": (Auto, "wait_p95_s", float, "seconds"),
}
"""By kind: the model, the field that matters most, its type, and what its number is."""


def notation(policy: ScalingPolicy) -> str:
    """The policy with the setting that matters most, as `--policy` takes it: `queue_delay:4`."""
    _, field, number, _ = POLICIES[policy.kind]
    value = getattr(policy, field)
    return f"{policy.kind}:{value}" if number is int else f"{policy.kind}:{value:g}"


def policy_of(written: str) -> ScalingPolicy:
    """What `notation` writes; the number may be left out, and `=` does for `:`. Raises ValidationError for a number
    beyond its limits, another ValueError for everything else, whose text says what is wrong."""
    kind, sign, value = written.replace("=", ":", 1).partition(":")
    if kind not in POLICIES:
        raise ValueError(f"there is no policy {kind[:40]!a}; use {', '.join(POLICIES)}")
    model, field, number, meant = POLICIES[kind]
    try:
        given = {field: number(value)} if sign else {}
    except ValueError as error:
        raise ValueError(f"{value[:40]!a} is not {meant}") from error
    return model(**given)


class EndpointSpec(Frozen):
    """One dedicated endpoint, written b-m: `baseline` workers always on, `maximum` workers in all."""

    slug: Slug
    model: str = Field(min_length=1, max_length=64)
    gpu_type: str = Field(min_length=1, max_length=64)
    baseline: int = Field(ge=0)
    maximum: int = Field(ge=1)
    account: str = Field(default="local", min_length=1, max_length=64)
    concurrency: int | None = Field(default=None, ge=CONCURRENCY[0], le=CONCURRENCY[1])
    """Requests one worker takes at a time; None means the model's own figure."""
    policy: ScalingPolicy = QueueDelay()
    idle_timeout_s: int = Field(default=10, ge=IDLE_TIMEOUT_S[0], le=IDLE_TIMEOUT_S[1])
    execution_timeout_s: int = Field(default=600, ge=EXECUTION_TIMEOUT_S[0], le=EXECUTION_TIMEOUT_S[1])
    queue_timeout_s: int = Field(default=600, ge=QUEUE_TIMEOUT_S[0], le=QUEUE_TIMEOUT_S[1])
    startup_deadline_s: int = Field(default=900, ge=STARTUP_DEADLINE_S[0], le=STARTUP_DEADLINE_S[1])
    queue_limit: int = Field(default=1_000, ge=QUEUE_LIMIT[0], le=QUEUE_LIMIT[1])
    visibility: Visibility = Visibility.PRIVATE
    env: Environment = Field(default_factory=dict, repr=False)
    """May hold secrets (`contract.secrets`): snapshots show those masked, and no repr shows any."""

    @model_validator(mode="after")
    def _baseline_within_maximum(self) -> Self:
        if self.baseline > self.maximum:
            raise ValueError(
                f"baseline: {self.baseline} is more than maximum {self.maximum}; maximum counts ALL workers, "
                "baseline included"
            )
        return self

    @property
    def setup(self) -> str:
        """The setup in the field's notation, such as `2-5`."""
        return f"{self.baseline}-{self.maximum}"


ROLLING_FIELDS: Final = ("model", "gpu_type", "env", "concurrency")
"""Fields a running worker cannot take over: changing one starts a new generation. All others apply at once."""


class EndpointChanges(Frozen):
    """The fields of an update; None leaves a field as it is. Slug and account never change."""

    model: str | None = None
    gpu_type: str | None = None
    baseline: int | None = None
    maximum: int | None = None
    concurrency: int | Literal["default"] | None = None
    """`default` goes back to the model's own figure, which is what None means in a specification."""
    policy: ScalingPolicy | None = None
    idle_timeout_s: int | None = None
    execution_timeout_s: int | None = None
    queue_timeout_s: int | None = None
    startup_deadline_s: int | None = None
    queue_limit: int | None = None
    visibility: Visibility | None = None
    env: Environment | None = Field(default=None, repr=False)
    """The whole environment; a secret that is given as `contract.secrets.MASK` keeps the value it has."""

    def apply(self, spec: EndpointSpec) -> EndpointSpec:
        """`spec` with these changes, validated as a whole. Raises pydantic.ValidationError, naming the field."""
        changed = {name: value for name, value in self if value is not None}
        if self.concurrency == "default":
            changed["concurrency"] = None
        return EndpointSpec.model_validate({**dict(spec), **changed})
