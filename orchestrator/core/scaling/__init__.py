"""Scaling policies as pure functions. The live orchestrator and the simulator call the same ones."""

from __future__ import annotations

from orchestrator.contract.endpoint import QueueDelay, ScalingPolicy
from orchestrator.core.scaling.queue_delay import by_queue_delay
from orchestrator.core.scaling.request_count import by_request_count
from orchestrator.core.scaling.view import Decision, Memory, Observation, Reason

__all__ = ["Decision", "Memory", "Observation", "Reason", "decide"]


def decide(policy: ScalingPolicy, memory: Memory, seen: Observation) -> Decision:
    """Workers wanted now. `desired` below the present count only permits removal; idle timeouts perform it."""
    if isinstance(policy, QueueDelay):
        return by_queue_delay(policy, memory, seen)
    return by_request_count(policy, memory, seen)
