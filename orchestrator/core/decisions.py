"""Entries of the decision journal: what was decided or refused, by which rule, on what numbers, and what it takes to
decide the same again."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.contract.endpoint import ScalingPolicy
from orchestrator.core.scaling import Decision, Memory, Observation, Reason, decide


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a policy went by."""

    policy: ScalingPolicy
    memory: Memory
    seen: Observation

    def decide(self) -> Decision:
        """The decision, the same whenever it is asked for."""
        return decide(self.policy, self.memory, self.seen)


@dataclass(frozen=True, slots=True)
class Decided:
    """Another number of workers is wanted from now on; or, with an `obstacle`, something that is wanted is not done,
    which is said once until it is done or something else stands in the way."""

    slug: str
    at_ns: int
    before: int | None
    """Workers wanted until now; None for the first decision of this orchestrator's life."""
    desired: int
    """Workers wanted, clamped to [baseline, maximum]."""
    asked: int
    """What the rule asked for, not clamped."""
    live: int
    """Workers that served or started at that instant."""
    why: Reason
    obstacle: str | None = None
    """maximum, no_gpu, gpu_busy, backoff, engine, ledger or credit."""
    inputs: Inputs | None = None
    """None for what the executor decides by itself."""

    def agrees(self) -> bool | None:
        """Whether asking the policy again gives what is written here; None when no policy was asked."""
        if self.inputs is None:
            return None
        again = self.inputs.decide()
        return (again.desired, again.why) == (self.asked, self.why)
