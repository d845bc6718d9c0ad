"""How many workers a given traffic needs: by the mean, as the RPM rule has it, and by what waiting it leaves.

By the mean: a worker does 60 / latency requests a minute, b = ceil(expected / that), m = ceil(peak / that); 20 to 100
requests a minute of 6 s each give 2-10. A worker that is busy all the time leaves an endless queue, so the mean alone
says how many are needed to survive and not to serve well.

By the wait: Poisson arrivals, service times of mean s and coefficient of variation cv (M/G/c). The wait is that of
M/M/c times (1 + cv²) / 2, and of those who wait exponential (Allen and Cunneen): exact for cv 1, else approximate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log, sqrt
from typing import Final

from orchestrator.core.pricing import Price

WORKERS_MAX: Final = 1_000
"""No host has more: a plan that needs more is refused."""


class PlanError(ValueError):
    """The numbers do not make a plan; the message names the field and the limit."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Traffic to plan for. Rates are requests per minute, spans seconds."""

    rpm: float
    peak_rpm: float
    latency_s: float
    cv: float = 1.0
    """Standard deviation of the service time over its mean."""
    slots: int = 1
    """Requests a worker takes at a time."""

    def __post_init__(self) -> None:
        for name, value, most in (
            ("rpm", self.rpm, 1e6), ("peak", self.peak_rpm, 1e6), ("latency", self.latency_s, 86_400.0),
        ):  # fmt: skip
            if not 0.0 < value <= most:
                raise PlanError(f"{name}: {value:g} is not above 0 and at most {most:g}")
        if self.peak_rpm < self.rpm:
            raise PlanError(f"peak: {self.peak_rpm:g} is below rpm, {self.rpm:g}: the peak is the most, not the least")
        if not 0.0 <= self.cv <= 20.0:
            raise PlanError(f"cv: {self.cv:g} is not from 0 to 20")
        if not 1 <= self.slots <= 1_024:
            raise PlanError(f"slots: {self.slots} is not from 1 to 1024")
        if self.workers_by_mean(self.peak_rpm) > WORKERS_MAX:
            raise PlanError(
                f"peak: {self.peak_rpm:g} of {self.latency_s:g} s each need more than {WORKERS_MAX} workers"
            )

    @property
    def worker_rpm(self) -> float:
        """Requests a minute that one busy worker does."""
        return 60.0 / self.latency_s * self.slots

    def load(self, rpm: float) -> float:
        """Requests in service on average (erlang), if none had to wait."""
        return rpm * self.latency_s / 60.0

    def workers_by_mean(self, rpm: float) -> int:
        """ceil(rpm / RPM per worker), at least one; a rounding error does not cost a worker."""
        return max(1, ceil(self.load(rpm) / self.slots - 1e-9))

    def workers_by_wait(self, rpm: float, wait_p95_s: float) -> int:
        """The fewest workers whose p95 wait is at most `wait_p95_s` seconds."""
        workers = self.workers_by_mean(rpm)
        while (wait := self.wait_at(rpm, workers)) is None or wait.p95_s > wait_p95_s:
            workers += 1
        return workers

    def wait_at(self, rpm: float, workers: int) -> Wait | None:
        """The wait before service with so many workers; None when the queue never ends."""
        return wait_of(self.load(rpm), workers * self.slots, self.latency_s, self.cv)


@dataclass(frozen=True, slots=True)
class Wait:
    """Waiting before service, seconds."""

    busy: float
    """Share of the time that a slot works."""
    probability: float
    """Share of requests that wait at all."""
    mean_s: float
    p50_s: float
    p95_s: float
    p99_s: float


def wait_of(load: float, servers: int, service_s: float, cv: float) -> Wait | None:
    """M/G/c of `load` erlang on `servers` slots; None when there is no steady state."""
    if load >= servers:
        return None
    busy = load / servers
    probability = erlang_c(load, servers)
    # Of those who wait, the mean; for cv 1 it is that of M/M/c.
    waiting_s = service_s * (1.0 + cv * cv) / 2.0 / (servers - load)

    def percentile(share: float) -> float:
        return waiting_s * log(probability / (1.0 - share)) if probability > 1.0 - share else 0.0

    return Wait(busy, probability, probability * waiting_s, percentile(0.50), percentile(0.95), percentile(0.99))


def erlang_c(load: float, servers: int) -> float:
    """The share of Poisson arrivals that find all of `servers` busy and wait, for load < servers."""
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = load * blocked / (n + load * blocked)
    busy = load / servers
    return blocked / (1.0 - busy * (1.0 - blocked))


def measured(service_s: Sequence[float]) -> tuple[float, float]:
    """Mean and coefficient of variation of measured service times. Raises PlanError without any."""
    if not service_s:
        raise PlanError("slug: no request of it has been measured yet; give --latency instead")
    mean = sum(service_s) / len(service_s)
    spread = sqrt(sum((s - mean) ** 2 for s in service_s) / len(service_s))
    return mean, spread / mean


@dataclass(frozen=True, slots=True)
class Cost:
    """Micro-dollars per hour."""

    baseline_uh: int
    """What always runs."""
    worst_uh: int
    """b x baseline + (m - b) x autoscale: never exceeded (features.md R25)."""


def cost_of(baseline: int, maximum: int, price: Price) -> Cost:
    """What a `baseline`-`maximum` endpoint costs at least and at most."""
    always = baseline * price.baseline_uh
    return Cost(always, always + (maximum - baseline) * price.autoscale_uh)
