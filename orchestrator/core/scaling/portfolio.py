"""The rules that `auto` chooses among, and what it believes about them before it has seen any traffic.

The grid covers what was best with hindsight in nearly every cell of the traces it was made on (a few percent from the
best of 77 settings of other families). Wider meshes did not do better: two neighbours cost nearly the same.
"""

from __future__ import annotations

from functools import cache
from math import log, sqrt
from typing import Final, NamedTuple

from orchestrator.core.scaling.shadow import Rule, Shape

FILLS: Final = (1.0, 1.5, 2.0, 3.0, 4.0, 8.0)
FILLS_OF_MANY: Final = (0.5, 0.75, 1.0, 1.5, 2.0, 4.0)
"""For workers of several slots: below 1 there is room to spare before anybody waits."""
KEEPS_S: Final = (0.0, 5.0, 10.0, 20.0, 40.0, 80.0, 150.0, 300.0, 600.0, 1_200.0, 2_700.0)
KEEPS_OF_MANY_S: Final = (0.0, 5.0, 15.0, 40.0, 100.0, 300.0, 900.0, 2_700.0)

SPARES: Final = ((1.0, 1), (1.5, 1))
"""For one slot: fills with a worker to spare while there is a request, for waiting that is very dear."""
SPARE_KEEPS_S: Final = (0.0, 20.0, 80.0, 300.0)
SPARES_OF_MANY: Final = ((1.0, 1), (2.0, 1), (1.0, 2), (2.0, 2), (1.0, 3))
"""For several slots: fills with so many workers to spare while there is a request. Chance grows with the root of the
load, so room by fill alone is too little for a few requests or too much for many."""
SPARE_KEEPS_OF_MANY_S: Final = (15.0, 100.0, 300.0, 900.0)

BURST_KEEPS_S: Final = (10.0, 20.0, 40.0, 80.0, 150.0)
"""For one slot: times for which workers are kept in bursts only. Longer ones outlast the pauses between bursts."""
BURST_FILLS: Final = (1.0, 1.5, 2.0)
PATIENT_FILLS: Final = (1.0, 1.25, 1.5)
PATIENT_KEEPS_S: Final = (5.0, 10.0, 20.0, 40.0)
"""The same for those that call off no start. Beside a baseline, whose workers are soon free again, nearly every start
would be called off, and only far longer times make up for that. Not longer: under a steady load they would seem the
cheapest and miss the p95 that is wished for."""

TAPER: Final = 0.5
"""Each further worker is kept half as long: worth 1% on sparse traffic, up to 11% on bursts over many workers."""
EVEN_KEEPS_S: Final = (100.0, 300.0, 900.0)
"""Times for which all are kept alike, too: for bursts that come back and need them all."""

SPARE_DISTANCE: Final = 0.7
"""A worker more or less to spare is as far as a factor of two in fill or time."""

SLOTS_PLAYED: Final = 8
"""Workers of more slots are played with fewer, and every so many-th request: it bounds the work and the memory."""
SERVICE_GUESS_S: Final = 10.0
"""Before the first answer."""
COLD_GUESS_S: Final = 30.0
"""Before the first cold start is over."""
DOUBT: Final = 1.0
"""Cold starts' worth of evidence that it takes to leave the prior by a factor e."""
DOUBT_OF_MANY: Final = 12.0
"""The same for several slots, where a burst is one event of many requests, and a few bursts are no law yet."""

EXPECTED: Final = 10.0
"""Cold starts' worth of traffic that it takes until the measured load counts as much as what the owner reckons with."""


class Guess(NamedTuple):
    """A rule between those of the portfolio."""

    fill: float
    keep_s: float
    spare: float


def thinning(slots: int) -> int:
    """Of how many requests the shadows see one."""
    return -(-slots // SLOTS_PLAYED)


def played_shape(baseline: int, maximum: int, slots: int) -> Shape:
    """The endpoint as the shadows see it."""
    return Shape(baseline, maximum, -(-slots // thinning(slots)))


@cache
def rules_for(slots: int) -> tuple[Rule, ...]:
    """The portfolio of an endpoint whose workers take `slots` requests.

    With one slot, whoever keeps workers for less and less time also calls off starts that nobody needs any more. Who
    keeps all alike does not: under a steady load each is needed soon, and p95 doubles when they are called off.
    Nor do half of those that keep workers in bursts only: there the next request is near.
    """
    if slots == 1:
        tapering = (Rule(fill, keep_s, TAPER, 0, True) for fill in FILLS for keep_s in KEEPS_S)
        even = (Rule(fill, keep_s) for fill in FILLS for keep_s in EVEN_KEEPS_S)
        sparing = (Rule(fill, keep_s, TAPER, spare) for fill, spare in SPARES for keep_s in SPARE_KEEPS_S)
        patient = (Rule(fill, keep_s, TAPER, 0, False, True) for fill in PATIENT_FILLS for keep_s in PATIENT_KEEPS_S)
        brief = (Rule(fill, keep_s, TAPER, 0, True, True) for fill in BURST_FILLS for keep_s in BURST_KEEPS_S)
        return (*tapering, *even, *sparing, *patient, *brief)
    plain = (Rule(fill, *keep) for fill in FILLS_OF_MANY for keep in _keeps(KEEPS_OF_MANY_S))
    spares = (Rule(fill, *keep, spare) for fill, spare in SPARES_OF_MANY for keep in _keeps(SPARE_KEEPS_OF_MANY_S))
    return (*plain, *spares)


def _keeps(times_s: tuple[float, ...]) -> list[tuple[float, float]]:
    """With what is left of them for each further worker."""
    return [*((keep_s, TAPER) for keep_s in times_s), *((keep_s, 1.0) for keep_s in EVEN_KEEPS_S)]


def prior_costs(guess: Guess, slots: int, cold_s: float, wait_price: float) -> list[float]:
    """Worker-seconds that each rule is held to have wasted before it was watched: its distance from the first guess."""
    rules = rules_for(slots)
    by_keep = {keep_s: abs(log((keep_s + 3) / (guess.keep_s + 3))) for keep_s in {rule.keep_s for rule in rules}}
    by_fill = {fill: abs(log(fill / guess.fill)) for fill in {rule.fill for rule in rules}}
    doubt = (DOUBT if slots == 1 else DOUBT_OF_MANY) * cold_s * (1 + wait_price)
    return [
        doubt * (by_keep[rule.keep_s] + by_fill[rule.fill] + SPARE_DISTANCE * abs(rule.spare - guess.spare))
        for rule in rules
    ]


def reckoned_load(shape: tuple[int, int, int], load: float, seen_s: float, cold_s: float) -> float:
    """Requests in service to reckon with, where `load` was their average over `seen_s` seconds.

    Traffic begins with nobody in service, and a worker that is asked for when the baseline (of `shape`: baseline,
    maximum, slots) is full is late by its whole start. So at first the owner's word counts: what is between the
    capacity of the baseline and that of the maximum, by the geometric mean; without a baseline nothing, since there may
    be no traffic for days. It weighs as much as `EXPECTED` cold starts of traffic, and what is measured counts at once
    where it is more.
    """
    baseline, maximum, slots = shape
    expected, trust_s = slots * sqrt(baseline * maximum), EXPECTED * cold_s
    return max(load, (expected * trust_s + load * seen_s) / max(trust_s + seen_s, 1e-3))


def first_guess(slots: int, service_s: float, load: float, cold_s: float, wait_price: float) -> Guess:
    """What is good before a rule has been watched. `load` is requests in service, measured or reckoned with.

    With one slot: another worker for as many waiters as would have to wait for each other longer than its cold start is
    worth, 1 + 2 x cold start / (wait price x service time); kept for 30% of what a miss costs in waiting, which is next
    to nothing where cold starts are short.

    With several a worker serves many requests in the time of its start, so a rise of the load that finds none ready
    costs more than a worker that stands by: the more so, the dearer waiting and the longer the start. Hence room to
    spare by the root of the load, as chance grows (square-root staffing), up to three workers of it, on top of a fill
    that lets some wait where waiting is cheap. A worker is kept until that has cost as much as the miss of a quarter of
    its slots (ski rental: at most twice the best, whatever comes).
    """
    if slots == 1:
        ratio = cold_s / (wait_price * max(service_s, 1e-3))
        return Guess(min(8.0, 1 + 2 * ratio), 0.3 * wait_price * cold_s, 0.0)
    at_stake = wait_price * cold_s
    return Guess(
        fill=min(2.5, max(1.0, 1.5 * wait_price**-0.25)),
        keep_s=min(KEEPS_OF_MANY_S[-1], cold_s + at_stake * slots / 4),
        spare=min(3.0, min(4.0, max(0.0, 0.7 * log(max(at_stake, 1e-3) / 6))) * sqrt(load) / slots),
    )
