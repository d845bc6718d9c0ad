"""Scaling policies as people read and type them: each has one number that matters, and a name for it."""

from __future__ import annotations

from typing import Final

from orchestrator.contract.endpoint import Auto, Concurrency, QueueDelay, RequestCount, ScalingPolicy

CHOICES: Final = (
    ("queue_delay", "queue delay"), ("request_count", "requests"), ("concurrency", "busy share"), ("auto", "auto"),
)  # fmt: skip
"""(kind, label) in the order of the form."""

HINTS: Final = {
    "queue_delay": "s waiting: one more", "request_count": "per worker", "concurrency": "% of slots in use",
    "auto": "s, the p95 wait to aim at",
}  # fmt: skip
"""What the number beside the choice means."""


def number(policy: ScalingPolicy) -> str:
    """The policy's number as the form takes it."""
    match policy:
        case QueueDelay():
            return f"{policy.seconds:g}"
        case Concurrency():
            return f"{policy.target * 100:g}"
        case Auto():
            return f"{policy.wait_p95_s:g}"
        case _:
            return str(policy.value)


def words(policy: ScalingPolicy) -> str:
    """In a few words, for a list."""
    match policy:
        case QueueDelay():
            return f"queue delay {policy.seconds:g} s"
        case Concurrency():
            return f"{policy.target * 100:g}% of slots in use"
        case Auto():
            priced = f", {policy.wait_price:g} worker-s a second" if policy.wait_price is not None else ""
            return f"auto, p95 wait {policy.wait_p95_s:g} s{priced}"
        case RequestCount():
            return f"{policy.value} requests a worker"
