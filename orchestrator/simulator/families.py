"""Fixed settings of every family of policies: the best of them, chosen per cell with hindsight, is what `auto` is
measured against (research/autoscaling.md 3.2). No user has that hindsight; each is bad somewhere.
"""

from __future__ import annotations

from itertools import product
from typing import Final

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.endpoint import QueueDelay, RequestCount
from orchestrator.core.scaling import Decision, Memory, Observation
from orchestrator.core.scaling.view import Reason
from orchestrator.simulator.contenders import Contender
from orchestrator.simulator.light import Follow, Setup, following
from orchestrator.simulator.rivals import Hpa, Kpa, RayServe

STANDING: Final = Reason("standing", "always", {})
SPARE: Final = Reason("spare", "occupied and {spare} more", {"spare": 1})


def always(workers: int) -> Follow:
    """That many autoscaled workers, whatever comes."""

    def follow(seen: Observation) -> Decision:
        return Decision(seen.baseline + workers, STANDING, Memory())

    return follow


def with_spare(idle_s: float) -> Follow:
    """One worker more than the requests fill, while there are any; none `idle_s` after the last (fal's buffer)."""
    idle_ns = round(idle_s * SECOND_NS)
    busy_ns = 0

    def follow(seen: Observation) -> Decision:
        nonlocal busy_ns
        level = seen.queued + seen.running
        if level:
            busy_ns = seen.now_ns
        elif seen.now_ns - busy_ns >= idle_ns:
            return Decision(0, SPARE, Memory(), keep_ns=0)
        return Decision(-(-level // seen.slots) + 1, SPARE, Memory(), busy_ns + idle_ns if not level else None, idle_ns)

    return follow


def _on_demand(idle_s: float) -> Contender:
    return Contender(f"on demand, idle {idle_s:g} s", lambda setup: following(RequestCount(value=setup.slots)), idle_s)


def _queue_delay(delay_s: float, idle_s: float) -> Contender:
    name = f"queue_delay {delay_s:g} s, idle {idle_s:g} s"
    return Contender(name, lambda setup: following(QueueDelay(seconds=delay_s)), idle_s)


def _request_count(fill: int, idle_s: float) -> Contender:
    def make(setup: Setup) -> Follow:
        return following(RequestCount(value=fill * setup.slots))

    return Contender(f"request_count {fill} x slots, idle {idle_s:g} s", make, idle_s)


def _concurrency(target: float, stable_s: float) -> Contender:
    name = f"concurrency {target:g}, {stable_s:g} s"
    return Contender(name, lambda setup: Kpa(target, stable_s), every_change=True)


def _delayed(fill: float, up_s: float, down_s: float) -> Contender:
    def make(setup: Setup) -> Follow:
        return RayServe(fill * setup.slots, min(up_s, 30.0), up_s, down_s)

    return Contender(f"delayed {fill:g} x slots, up {up_s:g} s, down {down_s:g} s", make, every_change=True)


def _steadied(fill: float, steady_s: float) -> Contender:
    def make(setup: Setup) -> Follow:
        return Hpa(fill * setup.slots, steady_s=steady_s, cooldown_s=steady_s)

    return Contender(f"steadied {fill:g} x slots, {steady_s:g} s", make, every_change=True)


def _spare(idle_s: float) -> Contender:
    return Contender(f"one spare, idle {idle_s:g} s", lambda setup: with_spare(idle_s))


def _always(share: float) -> Contender:
    def make(setup: Setup) -> Follow:
        return always(max(1, round(share * (setup.maximum - setup.baseline))))

    return Contender(f"always {share:.0%} of the autoscaled" if share else "always one", make)


FIXED: Final = (
    *(_on_demand(idle_s) for idle_s in (0, 5, 10, 20, 30, 60, 120, 300, 900)),
    *(_queue_delay(*each) for each in product((1, 4, 15, 60), (5, 30, 120, 300))),
    *(_request_count(*each) for each in product((2, 4, 8), (0, 30, 120, 300))),
    *(_concurrency(*each) for each in product((0.7, 1.0), (30, 60))),
    *(_delayed(fill, *delays) for fill, delays in product((0.5, 1, 2), ((10, 60), (30, 600)))),
    *(_steadied(*each) for each in product((1, 2), (60, 300))),
    *(_spare(idle_s) for idle_s in (10, 60, 300)),
    *(_always(share) for share in (0, 0.5, 1)),
)
"""Eight families. Where a setting is told in slots, it adapts to the endpoint, as a careful user would."""
