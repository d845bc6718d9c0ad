"""Scaling policies as pure functions. The live orchestrator and the simulator call the same ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from orchestrator.contract.endpoint import Auto, Concurrency, QueueDelay, ScalingPolicy
from orchestrator.core.scaling.auto import by_value
from orchestrator.core.scaling.concurrency import by_concurrency
from orchestrator.core.scaling.memory import dump, load
from orchestrator.core.scaling.queue_delay import by_queue_delay
from orchestrator.core.scaling.request_count import by_request_count
from orchestrator.core.scaling.view import Decision, Memory, Observation, Reason

__all__ = ["RULES", "Decision", "Memory", "Observation", "Reason", "decide", "dump", "load"]

RULES: Final[Mapping[str, int]] = {"queue_delay": 2, "request_count": 1, "concurrency": 1, "auto": 5}
"""Versions of what the policies answer, by kind. Raise one when its policy answers the same question differently: old
decisions in journals are then not replayed by rules that they were not made by."""


def decide(policy: ScalingPolicy, memory: Memory, seen: Observation) -> Decision:
    """Workers wanted now. `desired` below the present count only permits removal; idle timeouts perform it.

    A memory of another policy counts as none: the policy begins anew.
    """
    match policy:
        case QueueDelay():
            return by_queue_delay(policy, memory, seen)
        case Concurrency():
            return by_concurrency(policy, memory, seen)
        case Auto():
            return by_value(policy, memory, seen)
        case _:
            return by_request_count(policy, memory, seen)
