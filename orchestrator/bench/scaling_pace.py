"""How long the measurement takes: by a short trial beforehand, and by what is done already while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from orchestrator.bench.scaling_cells import Task, spent_s
from orchestrator.bench.scaling_field import OWN, learns
from orchestrator.bench.scaling_traces import Scenario
from orchestrator.clock import Now
from orchestrator.contract.base import SECOND_NS
from orchestrator.simulator.contenders import Contender
from orchestrator.simulator.families import FIXED
from orchestrator.simulator.light import ColdStarts
from orchestrator.simulator.traces import Trace

TRIED_REQUESTS: Final = 1_000
"""Of each scenario that is tried,"""
TRIED_SCENARIOS: Final = 5
"""and so many of those: enough for an estimate in a few seconds."""
PLAIN_TRIED: Final = 7
"""Of the fixed settings every so many-th is tried: families differ in how often they look."""
STEPS: Final = 20
"""Lines about progress, from beginning to end."""


class Pace(NamedTuple):
    """Processor seconds that one simulation spends on one request."""

    learning_s: float
    """Of `auto`, which plays its rules along,"""
    plain_s: float
    """and of everybody else."""

    def work_s(self, tasks: Iterable[Task]) -> float:
        """Processor seconds that these will take."""
        return sum(
            cell.requests * (self.learning_s if learns(name) else self.plain_s)
            for cell, names in tasks
            for name in names
        )


def tried(scenarios: Sequence[Scenario]) -> Pace:
    """The pace of this machine on the beginnings of some of the traces. Raises RequestsStarved."""
    some = scenarios[:: -(-len(scenarios) // TRIED_SCENARIOS)]
    return Pace(_per_request_s(some, OWN[:1]), _per_request_s(some, FIXED[::PLAIN_TRIED]))


def _per_request_s(scenarios: Sequence[Scenario], contenders: Sequence[Contender]) -> float:
    requests, began_s = 0, spent_s()
    for scenario in scenarios:
        whole = scenario.trace
        trace = Trace(whole.name, whole.arrival_ns[:TRIED_REQUESTS], whole.service_ns[:TRIED_REQUESTS])
        for contender in contenders:
            contender.run(trace, scenario.setup, ColdStarts())
            requests += len(trace)
    return max((spent_s() - began_s) / max(1, requests), 1e-6)  # a few requests are over between two ticks


class Progress:
    """Says how much is done and how long the rest will take."""

    def __init__(self, pace: Pace, work_s: float, now: Now, say: Callable[[str], None]) -> None:
        """`work_s` is the processor time of all that is expected."""
        self._pace = pace
        self._work_s = work_s
        self._done_s = 0.0
        self._told = 0
        self._now = now
        self._began_ns = now()
        self._say = say

    def began(self, tasks: Sequence[Task]) -> None:
        """These are to be done now. More than expected is more to do."""
        self._work_s = max(self._work_s, self._done_s + self._pace.work_s(tasks))

    def finished(self, task: Task) -> None:
        """That one is done."""
        self._done_s += self._pace.work_s([task])
        share = self._done_s / self._work_s
        if int(share * STEPS) > self._told:
            self._told = int(share * STEPS)
            left_s = (self._now() - self._began_ns) / SECOND_NS * (1 / share - 1)
            self._say(f"{share:4.0%} done" + (f", {span(left_s)} left" if left_s >= 1 else ""))


def span(seconds: float) -> str:
    """A length of time in the units that matter: `40 s`, `12 min`, `2 h 5 min`."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
