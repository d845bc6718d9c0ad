"""The rules that `auto` chooses among, and what it believes about them before it has seen any traffic.

The grid covers what was best with hindsight in nearly every cell of the traces it was made on (a few percent from the
best of 77 settings of other families). Wider meshes did not do better: two neighbours cost nearly the same.
"""

from __future__ import annotations

from functools import cache
from math import log
from typing import Final

from orchestrator.core.scaling.shadow import Rule, Shape

FILLS: Final = (1.0, 1.5, 2.0, 4.0, 8.0)
FILLS_OF_MANY: Final = (0.5, 0.75, 1.0, 1.5, 2.0, 4.0)
"""For workers of several slots: below 1 there is room to spare before anybody waits."""
KEEPS_S: Final = (0.0, 5.0, 15.0, 40.0, 100.0, 300.0, 900.0, 2_700.0)

TAPER: Final = 0.5
"""Each further worker is kept half as long: worth 1% on sparse traffic, up to 11% on bursts over many workers."""
EVEN_KEEPS_S: Final = (100.0, 300.0, 900.0)
"""Times for which all are kept alike, too: for bursts that come back and need them all."""

SLOTS_PLAYED: Final = 8
"""Workers of more slots are played with fewer, and every so many-th request: it bounds the work and the memory."""
SERVICE_GUESS_S: Final = 10.0
"""Before the first answer."""
COLD_GUESS_S: Final = 30.0
"""Before the first cold start is over."""
DOUBT: Final = 1.0
"""Cold starts' worth of evidence that it takes to leave the prior by a factor e."""
DOUBT_OF_MANY: Final = 4.0
"""The same for several slots, where a burst of requests says as much as one request does otherwise."""


def thinning(slots: int) -> int:
    """Of how many requests the shadows see one."""
    return -(-slots // SLOTS_PLAYED)


def played_shape(baseline: int, maximum: int, slots: int) -> Shape:
    """The endpoint as the shadows see it."""
    return Shape(baseline, maximum, -(-slots // thinning(slots)))


@cache
def rules_for(slots: int) -> tuple[Rule, ...]:
    """The portfolio of an endpoint whose workers take `slots` requests."""
    keeps = [*((keep_s, TAPER) for keep_s in KEEPS_S), *((keep_s, 1.0) for keep_s in EVEN_KEEPS_S)]
    return tuple(Rule(fill, *keep) for fill in (FILLS if slots == 1 else FILLS_OF_MANY) for keep in keeps)


def prior_cost(rule: Rule, slots: int, service_s: float, cold_s: float, wait_price: float) -> float:
    """Worker-seconds that `rule` is held to have wasted before it was watched: its distance from a first guess.

    The guess: with one slot, another worker for as many waiters as would have to wait for each other longer than its
    cold start is worth, 1 + 2 x cold start / (wait price x service time); kept for 30% of what a miss costs in waiting,
    which is next to nothing where cold starts are short. With several, `fill` follows a low power of the same ratio,
    and a worker is kept until that has cost as much as the miss of a quarter of its slots (ski rental: at most twice
    the best, whatever comes).
    """
    ratio = cold_s / (wait_price * max(service_s, 1e-3))
    if slots == 1:
        doubt, fill, keep_s = DOUBT, min(8.0, 1 + 2 * ratio), 0.3 * wait_price * cold_s
    else:
        doubt, fill = DOUBT_OF_MANY, min(4.0, max(0.5, 0.75 * ratio**0.15))
        keep_s = min(KEEPS_S[-1], cold_s * (1 + wait_price * slots / 4))
    distance = abs(log((rule.keep_s + 3) / (keep_s + 3))) + abs(log(rule.fill / fill))
    return doubt * cold_s * (1 + wait_price) * distance
