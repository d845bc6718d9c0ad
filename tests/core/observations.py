"""Observations for tests of scaling policies: made from a few words or recorded from simulated runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.endpoint import ScalingPolicy
from orchestrator.core.scaling import Decision, Memory, Observation, decide
from orchestrator.simulator.light import ColdStarts, Outcome, Setup, simulate
from orchestrator.simulator.traces import Trace


def seen_at(
    now_s: float, *, setup: str = "0-5", slots: int = 1, waited_s: tuple[float, ...] = (), **more: object
) -> Observation:
    """One instant; `waited_s` are the ages of those who wait, oldest first."""
    baseline, _, maximum = setup.partition("-")
    now_ns = round(now_s * SECOND_NS)
    queue = tuple(now_ns - round(age_s * SECOND_NS) for age_s in waited_s)
    plain = Observation(now_ns, int(baseline), int(maximum), slots, queued=len(queue), queue=queue)
    return plain._replace(**more)


@dataclass
class Recorder:
    """A policy at work that keeps what it was shown and what it said."""

    policy: ScalingPolicy
    memory: Memory = field(default_factory=Memory)
    seen: list[Observation] = field(default_factory=list)
    said: list[Decision] = field(default_factory=list)

    def __call__(self, seen: Observation) -> Decision:
        decision = decide(self.policy, self.memory, seen)
        self.memory = decision.memory
        self.seen.append(seen)
        self.said.append(decision)
        return decision


def recorded(policy: ScalingPolicy, trace: Trace, setup: Setup, cold_s: float = 30.0) -> tuple[Recorder, Outcome]:
    """A run of `trace` with that policy."""
    recorder = Recorder(policy)
    return recorder, simulate(trace, setup, recorder, ColdStarts(cold_s))


def replayed(
    policy: ScalingPolicy, observations: list[Observation], between: Callable[[Memory], Memory] = lambda memory: memory
) -> list[Decision]:
    """What the policy says to the same observations, with `between` done to its memory after each."""
    memory, said = Memory(), []
    for seen in observations:
        decision = decide(policy, memory, seen)
        memory = between(decision.memory)
        said.append(decision)
    return said


def quiet(seen: Observation, now_ns: int | None = None) -> Observation:
    """The same endpoint a moment later, without anything having happened."""
    return seen._replace(
        now_ns=seen.now_ns if now_ns is None else now_ns,
        arrived=0,
        arrivals=(),
        served=(),
        cold_starts=(),
        failed_starts=0,
    )
