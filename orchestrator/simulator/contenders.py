"""A way to scale under a name, whoever it is from: what the light simulator runs and tables show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from orchestrator.contract.endpoint import ScalingPolicy
from orchestrator.simulator.light import ColdStarts, Follow, Outcome, Ring, Setup, following, simulate
from orchestrator.simulator.traces import Trace


@dataclass(frozen=True, slots=True)
class Contender:
    """A policy with its settings. The same name means the same behaviour: results are cached by it."""

    name: str
    make: Callable[[Setup], Follow]
    """From how the endpoint is run to a policy on its first day."""
    idle_timeout_s: float = 0.0
    """Counts where the policy leaves it to the endpoint."""
    ring: Ring = "reserve"
    every_change: bool = False
    """It averages over time, so it has to see every change."""
    source: str = ""
    """Where its rules and defaults are from."""

    def run(self, trace: Trace, setup: Setup, cold: ColdStarts) -> Outcome:
        """What it comes to on that traffic. Raises RequestsStarved."""
        own = replace(setup, idle_timeout_s=self.idle_timeout_s)
        return simulate(trace, own, self.make(own), cold, ring=self.ring, every_change=self.every_change)


def contender(name: str, policy: ScalingPolicy, *, idle_timeout_s: float = 10.0, ring: Ring = "reserve") -> Contender:
    """One of the endpoint's own policies."""
    return Contender(name, lambda setup: following(policy), idle_timeout_s, ring)
