"""Scaling policies as pure functions: what a policy may know (`Observation`), what it says (`Decision`).

The live orchestrator and the simulator call the same functions. A policy reads no clock and keeps no state of its own:
its memory is the plain value it returned last time. The executor (core/reconcile.py), not the policy, clamps to
[baseline, maximum], chooses victims, enforces the idle timeout and places workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.endpoint import QueueDelay, RequestCount, ScalingPolicy


class Observation(NamedTuple):
    """One endpoint as its policy sees it. Starting workers are capacity (features.md A4, ray#61731)."""

    now_ns: int
    baseline: int
    maximum: int
    slots: int
    """Requests one worker takes at a time."""
    ready: int
    starting: int
    queued: int
    running: int
    oldest_wait_ns: int
    """How long the first waiter has waited; 0 without one."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a policy remembers between calls."""

    added_ns: int | None = None


class Decision(NamedTuple):
    """Workers wanted (before clamping), the reason with its numbers, and when to ask again at the latest."""

    desired: int
    why: str
    memory: Memory
    wake_ns: int | None = None


def decide(policy: ScalingPolicy, memory: Memory, seen: Observation) -> Decision:
    """Workers wanted now. `desired` below the present count only permits removal; idle timeouts perform it."""
    if isinstance(policy, QueueDelay):
        return _queue_delay(policy, memory, seen)
    return _request_count(policy, memory, seen)


def _needed(seen: Observation) -> int:
    """Workers that the requests in flight occupy at least."""
    return -(-seen.running // seen.slots)


def _queue_delay(policy: QueueDelay, memory: Memory, seen: Observation) -> Decision:
    """Numbered as tried:

    1. Nobody waits: want what is occupied.
    2. Somebody waits and there is no capacity at all: the first worker, at once.
    3. The oldest wait exceeds the delay, and the last addition is a delay ago: one more than there is.
    4. Otherwise hold, and ask again when the delay will be over.
    """
    live = seen.ready + seen.starting
    if seen.queued == 0:
        return Decision(_needed(seen), f"nobody waits, {seen.running} running", Memory(memory.added_ns))
    if live == 0:
        return Decision(1, f"{seen.queued} waiting and no worker: the first one at once", Memory(seen.now_ns))
    delay_ns = int(policy.seconds * SECOND_NS)
    wait = f"oldest of {seen.queued} waits {seen.oldest_wait_ns / SECOND_NS:.1f} s"
    since_added_ns = seen.now_ns - memory.added_ns if memory.added_ns is not None else delay_ns
    if seen.oldest_wait_ns >= delay_ns and since_added_ns >= delay_ns:
        return Decision(live + 1, f"{wait}, limit {policy.seconds:g} s: one more than {live}", Memory(seen.now_ns))
    wake_ns = seen.now_ns + max(delay_ns - seen.oldest_wait_ns, delay_ns - since_added_ns, 0)
    return Decision(live, f"{wait}, limit {policy.seconds:g} s: hold at {live}", memory, wake_ns)


def _request_count(policy: RequestCount, memory: Memory, seen: Observation) -> Decision:
    total = seen.queued + seen.running
    desired = -(-total // policy.value)
    why = f"({seen.queued} queued + {seen.running} running) / {policy.value} = {total / policy.value:.2f} → {desired}"
    return Decision(desired, why, memory)
