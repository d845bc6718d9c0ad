"""As many workers as there are requests, by a ratio (RunPod's REQUEST_COUNT)."""

from __future__ import annotations

from orchestrator.contract.endpoint import RequestCount
from orchestrator.core.scaling.view import Decision, Memory, Observation, Reason

SENTENCE = "({queued} queued + {running} running) / {value} = {ratio:.2f} → {desired}"


def by_request_count(policy: RequestCount, memory: Memory, seen: Observation) -> Decision:
    """desired = ceil((queued + running) / value)."""
    total = seen.queued + seen.running
    desired = -(-total // policy.value)
    numbers = {
        "queued": seen.queued, "running": seen.running, "value": policy.value, "ratio": total / policy.value,
        "desired": desired,
    }  # fmt: skip
    return Decision(desired, Reason("ratio", SENTENCE, numbers), memory)
