"""What the tour does, as data: the endpoint, the pictures, how many of them and when."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from app.loadtest.engine import Shot, steady
from orchestrator.contract.base import DOLLAR_U
from orchestrator.contract.endpoint import EndpointSpec, QueueDelay
from orchestrator.contract.snapshot import CapacityView

OPERATIONS: Final = ("pencil", "smooth", "enhance")
"""Filters of similar cost, so that one measured request predicts the others."""
BURST_MIN: Final = 16
BURST_MAX: Final = 64
BURST_OVER_S: Final = 1.0
ROUNDS_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture to send."""

    name: str
    data: bytes
    content_type: str = "image/jpeg"


@dataclass(frozen=True, slots=True)
class Scenario:
    """The settings of the tour: quick to scale up and down, so that it takes half a minute."""

    slug: str = "sketch"
    model: str = "sketch"
    gpu_type: str = "L40"
    baseline: int = 1
    maximum: int = 2
    queue_delay_s: float = 0.5
    idle_timeout_s: int = 4
    credit_u: int = 100 * DOLLAR_U
    alone_s: float = 8.0
    """Work in one burst: what one worker alone would need for it, several times a cold start."""

    def spec(self) -> EndpointSpec:
        return EndpointSpec(
            slug=self.slug,
            model=self.model,
            gpu_type=self.gpu_type,
            baseline=self.baseline,
            maximum=self.maximum,
            policy=QueueDelay(seconds=self.queue_delay_s),
            idle_timeout_s=self.idle_timeout_s,
        )

    def burst_size(self, latency_ms: float) -> int:
        """Requests of one burst, given how long one takes: BURST_MIN to BURST_MAX."""
        return max(BURST_MIN, min(BURST_MAX, math.ceil(self.alone_s * 1_000 / max(latency_ms, 1.0))))

    def top_up_u(self, balance_u: int) -> int:
        """What is missing to the credit of the tour, in micro-dollars."""
        return max(0, self.credit_u - balance_u)


class Unfit(Exception):
    """This host cannot show the scenario; the message says what it lacks."""


def fit(scenario: Scenario, capacity: Sequence[CapacityView], *, any_type: bool) -> Scenario:
    """The scenario for the GPUs there are: with `any_type`, on the type of which there are most.

    Raises Unfit when not even `maximum` workers find a GPU of one type.
    """
    if any_type and capacity:
        scenario = replace(scenario, gpu_type=max(capacity, key=lambda each: each.total).gpu_type)
    total = next((each.total for each in capacity if each.gpu_type == scenario.gpu_type), 0)
    if total < scenario.maximum:
        there = ", ".join(f"{each.total} × {each.gpu_type}" for each in capacity) or "none"
        raise Unfit(
            f"gpus: the demo needs {scenario.maximum} of one type, here are {there}; `--gpus L40:2` declares some"
        )
    return scenario


def shot(pictures: Sequence[Picture], number: int, at_s: float = 0.0) -> Shot:
    """The request with this number: the pictures take turns, and so do the filters."""
    picture = pictures[number % len(pictures)]
    operation = OPERATIONS[number // len(pictures) % len(OPERATIONS)]
    return Shot(at_s, picture.data, picture.content_type, f"operation={operation}&max_side=640")


def burst(pictures: Sequence[Picture], count: int, first: int = 0) -> list[Shot]:
    """`count` requests spread evenly over BURST_OVER_S seconds."""
    moments = steady(count / BURST_OVER_S, BURST_OVER_S)
    return [shot(pictures, first + index, at_s) for index, at_s in enumerate(moments)]
