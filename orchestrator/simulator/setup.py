"""What the light simulator is given: how an endpoint is run, and its luck with cold starts; and what it gives."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from math import exp, log
from random import Random
from typing import Final

from orchestrator.contract.base import SECOND_NS
from orchestrator.core.pricing import Price

MINUTE_NS: Final = 60 * SECOND_NS
L40: Final = Price(baseline_uh=2_670_000, autoscale_uh=15_264_000)
"""What a worker costs when nobody says: an L40 in the book `2025-seed`."""


@dataclass(frozen=True, slots=True)
class Setup:
    """How an endpoint is run: `baseline`-`maximum` workers of `slots` requests each, and what they cost."""

    baseline: int
    maximum: int
    slots: int = 1
    idle_timeout_s: float = 10.0
    price: Price = L40

    def __str__(self) -> str:
        return f"{self.baseline}-{self.maximum}" + (f"x{self.slots}" if self.slots > 1 else "")


@dataclass(frozen=True, slots=True)
class ColdStarts:
    """Durations of cold starts, a function of the instant of the start. `sigma` 0 makes them all the median."""

    median_s: float = 30.0
    seed: int = 0
    sigma: float = 0.5
    shortest_s: float = 5.0
    longest_s: float = 500.0
    drawn: dict[int, int] = field(default_factory=dict, repr=False, compare=False)

    def duration_ns(self, start_ns: int) -> int:
        """Of a start at `start_ns`; the same for all starts of one minute."""
        minute = start_ns // MINUTE_NS
        drawn = self.drawn.get(minute)
        if drawn is None:
            luck = Random(f"{self.seed}/{minute}").gauss(0.0, self.sigma)  # noqa: S311 - a simulation's dice
            seconds = min(max(exp(log(self.median_s) + luck), self.shortest_s), self.longest_s)
            drawn = self.drawn[minute] = round(seconds * SECOND_NS)
        return drawn


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to. Requests are numbered as in the trace."""

    waits_ns: list[int]
    """Per request, from arrival to a worker."""
    autoscaled_ns: int
    """Time of all autoscaled workers together, from start to stop."""
    autoscaled_u: int
    baseline_u: int
    """Of the baseline workers, from the first arrival to the last answer."""
    cold_starts: int
    idle_starts: int
    """Of them, workers that never served a request."""
    steps: list[tuple[int, int]]
    """Instants at which the number of live workers (starting ones count) changed, and what it became."""
    ended_ns: int
    """The last answer."""
    asked: int
    """Times the policy was asked."""

    @property
    def waited_s(self) -> float:
        """All waits together."""
        return sum(self.waits_ns) / SECOND_NS

    @property
    def autoscaled_s(self) -> float:
        return self.autoscaled_ns / SECOND_NS

    def wait_s(self, percent: float) -> float:
        """A percentile of the waits, the smallest that at least `percent` of a hundred do not exceed; 0 without one."""
        return self.wait_percentiles_s(percent)[0]

    def wait_percentiles_s(self, *percents: float) -> tuple[float, ...]:
        """Several of them with one sort."""
        ordered = sorted(self.waits_ns)
        count = len(ordered)
        ranks = [min(max(-(-count * percent // 100), 1), count) for percent in percents]
        return tuple(ordered[int(rank) - 1] / SECOND_NS if count else 0.0 for rank in ranks)

    def cost(self, wait_price: float) -> float:
        """J = autoscaled worker-seconds + `wait_price` x sum of waits in seconds (research/autoscaling.md 3.2)."""
        return self.autoscaled_s + wait_price * self.waited_s

    def workers_at(self, at_ns: int) -> int:
        """Live workers at an instant, from the first one on."""
        return self.steps[max(0, bisect_right(self.steps, at_ns, key=lambda step: step[0]) - 1)][1]
