"""What `auto` learns from its observations, and how: service times, cold starts, and how its rules would have fared."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from orchestrator.contract.base import SECOND_NS
from orchestrator.core.scaling.portfolio import (
    COLD_GUESS_S,
    SERVICE_GUESS_S,
    first_guess,
    played_shape,
    prior_costs,
    reckoned_load,
    rules_for,
    thinning,
)
from orchestrator.core.scaling.shadow import COMPANY, Shadow, Times, born, play
from orchestrator.core.scaling.view import Memory, Observation

RING: Final = 64
"""Service times remembered, and cold starts."""
SERVICE_FADE: Final = 0.995
"""Of the mean service time, per answer."""
COLD_STARTS_MEANT: Final = 10
"""The learned cold start is a mean over about this many."""
HALF_LIFE: Final = 1_000
"""Requests after which a score counts half,"""
HALF_LIFE_S: Final = 7_200.0
"""but not sooner than after this time: a busy minute does not push out what was learned this morning."""
RELUCTANCE: Final = 0.03
"""Another rule is followed when it is cheaper by more than this share: near ties would flap."""
PLAYED_AT_ONCE: Final = 16
"""Requests in one go at the most; fewer at the beginning, when each of them matters."""
PLAYED_PER_CALL: Final = 192
"""Requests that one call plays at the most, each rule's counted: bounds the time of one decision."""
PLAYED_PER_S: Final = 6.0
"""Requests played on average, about as many as four calls a second can play: at a higher rate the shadows look away in
between and their clock stands still."""
PLAYED_IN_A_ROW: Final = 2_000.0
"""Requests after which they do, at a rate that high."""
RECENT: Final = 128
"""Arrivals remembered for the shadows' queues; in a longer one the oldest count as if they were the last of these."""


class WaitPrice(NamedTuple):
    """What waiting costs, in autoscaled worker-seconds."""

    per_s: float
    by_tail: bool = False
    """False: every second that a request waits costs the same. True: the more, the longer it has waited; twice as much
    on average over a wait of one cold start. p95 is a matter of the long waits, and a plain sum does not see them."""

    def cost(self, waited_s: float, squared_s2: float, cold_s: float) -> float:
        """Of waits with this sum and this sum of squares, where cold starts take `cold_s`."""
        return self.per_s * (waited_s + (squared_s2 / max(cold_s, 1e-3) if self.by_tail else 0.0))


@dataclass(frozen=True, slots=True)
class Learned(Memory):
    """Plain numbers, tuples of them, and shadows. Instants in seconds since `began_ns`; those of shadows less what the
    shadows skipped."""

    began_ns: int | None = None
    shape: tuple[int, int, int] = (0, 0, 0)
    """Baseline, maximum and slots that the shadows were made for; others make new shadows."""
    services_s: tuple[float, ...] = ()
    """The last service times, a ring: the n-th is at n % RING."""
    answers: int = 0
    service_sum_s: float = 0.0
    service_weight: float = 0.0
    cold_s: float = COLD_GUESS_S
    colds_s: tuple[float, ...] = ()
    """The last cold starts, a ring like that of the service times."""
    cold_starts: int = 0
    arrived: int = 0
    pending_s: tuple[float, ...] = ()
    """Arrivals not played yet,"""
    recent_s: tuple[float, ...] = ()
    """and the last ones that were."""
    played: int = 0
    last_s: float = 0.0
    """The last arrival played."""
    turn: int = 0
    """Rules that have played the next portion already."""
    budget: float = PLAYED_IN_A_ROW
    """Requests that may be played now."""
    budgeted_s: float = 0.0
    away_s: float | None = None
    """Since when the shadows look away."""
    skipped_s: float = 0.0
    """How long they did so far."""
    shadows: tuple[Shadow, ...] = ()
    scores: tuple[tuple[float, float, float], ...] = ()
    """By rule: autoscaled worker-seconds, seconds waited and squares of waits, fading."""
    leader: int = 0
    """Index of the rule that is followed."""
    price_shift: float = 0.0
    """Logarithm of the learned price of waiting over the first guess (wait_price.py)."""
    waiting: tuple[int, ...] = ()
    """Arrivals of those who waited at the last observation, nanoseconds."""
    queued: int = 0
    """How many that were; `waiting` lists the oldest."""

    @property
    def service_s(self) -> float:
        """Mean service time lately."""
        return self.service_sum_s / self.service_weight if self.service_weight else SERVICE_GUESS_S

    @property
    def latest_s(self) -> tuple[float, ...]:
        """The last arrivals, as many as a burst takes."""
        return (*self.recent_s[-COMPANY:], *self.pending_s[-COMPANY:])[-COMPANY:]

    @property
    def load(self) -> float:
        """Requests in service on average so far, if none had to wait: by the gaps between arrivals, so one is none."""
        return max(0, self.arrived - 1) * self.service_s / max(self.budgeted_s, self.service_s, 1e-3)


def learned(held: Learned, seen: Observation, wait_price: WaitPrice) -> Learned:
    """`held` and what `seen` adds. The same observation without events changes nothing, however often it comes."""
    shape = (seen.baseline, seen.maximum, seen.slots)
    # Shadows of another version's rules are as strange as those of another shape.
    reborn = held.began_ns is None or held.shape != shape or len(held.shadows) != len(rules_for(seen.slots))
    if not reborn and not (seen.arrivals or seen.served or seen.cold_starts):
        return held
    if held.began_ns is None:
        held = replace(held, began_ns=seen.now_ns)
    if reborn:
        held = _reborn(held, seen, shape)
    if seen.served or seen.cold_starts:
        held = _measured(held, seen)
    if seen.arrivals:
        held = _arrivals(held, seen)
    before = held.played
    held = _played(held)
    if reborn or seen.cold_starts or held.played != before:
        held = replace(held, leader=_leader(held, wait_price, None if reborn else held.leader))
    return held


def _reborn(held: Learned, seen: Observation, shape: tuple[int, int, int]) -> Learned:
    """Shadows for another baseline, maximum or number of slots. What was measured stays."""
    assert held.began_ns is not None
    now_s = (seen.now_ns - held.began_ns) / SECOND_NS - held.skipped_s
    rules = rules_for(seen.slots)
    shadow = born(played_shape(*shape), now_s)
    return replace(
        held,
        shape=shape,
        pending_s=(),
        recent_s=(),
        last_s=now_s,
        turn=0,
        shadows=(shadow,) * len(rules),
        scores=((0.0, 0.0, 0.0),) * len(rules),
    )


def _measured(held: Learned, seen: Observation) -> Learned:
    """Service times and cold starts."""
    ring, answers = list(held.services_s), held.answers
    total_s, weight = held.service_sum_s, held.service_weight
    for served_ns in seen.served:
        service_s = served_ns / SECOND_NS
        ring[answers % RING : answers % RING + 1] = [service_s]
        answers += 1
        total_s, weight = total_s * SERVICE_FADE + service_s, weight * SERVICE_FADE + 1
    colds, cold_s, cold_starts = list(held.colds_s), held.cold_s, held.cold_starts
    for cold_ns in seen.cold_starts:
        colds[cold_starts % RING : cold_starts % RING + 1] = [cold_ns / SECOND_NS]
        cold_starts += 1
        cold_s += (cold_ns / SECOND_NS - cold_s) / min(cold_starts, COLD_STARTS_MEANT)
    return replace(
        held, services_s=tuple(ring), answers=answers, service_sum_s=total_s, service_weight=weight, cold_s=cold_s,
        colds_s=tuple(colds), cold_starts=cold_starts,
    )  # fmt: skip


def _arrivals(held: Learned, seen: Observation) -> Learned:
    """New arrivals on the shadows' clock, within their budget."""
    assert held.began_ns is not None
    pending, each = list(held.pending_s), thinning(seen.slots)
    arrived, budget, budgeted_s = held.arrived, held.budget, held.budgeted_s
    away_s, skipped_s = held.away_s, held.skipped_s
    for arrival_ns in seen.arrivals:
        arrived += 1
        if arrived % each:
            continue
        at_s = (arrival_ns - held.began_ns) / SECOND_NS
        budget = min(PLAYED_IN_A_ROW, budget + PLAYED_PER_S * max(0.0, at_s - budgeted_s))
        budgeted_s = at_s
        if away_s is not None:
            if budget < PLAYED_IN_A_ROW / 2:
                continue
            skipped_s += at_s - away_s
            away_s = None
        budget -= 1
        if budget < 1:
            away_s = at_s
        pending.append(at_s - skipped_s)
    return replace(
        held, pending_s=tuple(pending[-int(PLAYED_IN_A_ROW) :]), arrived=arrived, budget=budget, budgeted_s=budgeted_s,
        away_s=away_s, skipped_s=skipped_s,
    )  # fmt: skip


def _played(held: Learned) -> Learned:
    """Every rule's shadow, on with what is pending, in portions that do not depend on who asked when. What does not fit
    into one call, rules or requests, is left for the next."""
    if not held.services_s or len(held.pending_s) < _portion(held.played):
        return held
    shape, rules = played_shape(*held.shape), rules_for(held.shape[2])
    pending, played, last_s, turn = held.pending_s, held.played, held.last_s, held.turn
    shadows, scores, recent = list(held.shadows), list(held.scores), held.recent_s
    # Luck is played for one slot only: with several, a request seldom waits for a start of its own.
    colds_s = held.colds_s if shape.slots == 1 and held.colds_s else (held.cold_s,)
    times = Times(held.services_s, colds_s, held.service_s)
    left = PLAYED_PER_CALL
    while True:
        size = _portion(played)
        end = min(len(rules), turn + left // size)
        if len(pending) < size or end == turn:
            break
        portion = pending[:size]
        fade = _fade(last_s, portion)
        for number in range(turn, end):
            old = shadows[number]
            new = shadows[number] = play(old, rules[number], shape, portion, times, recent)
            worked_s, waited_s, squared_s2 = scores[number]
            scores[number] = (
                worked_s * fade + new.worked_s - old.worked_s,
                waited_s * fade + new.waited_s - old.waited_s,
                squared_s2 * fade + new.squared_s2 - old.squared_s2,
            )
        left -= (end - turn) * size
        turn = end
        if turn == len(rules):
            turn, played, last_s, pending = 0, played + size, portion[-1], pending[size:]
            recent = (*recent, *portion)[-RECENT:]
    return replace(
        held, pending_s=pending, recent_s=recent, played=played, last_s=last_s, turn=turn, shadows=tuple(shadows),
        scores=tuple(scores),
    )  # fmt: skip


def _portion(played: int) -> int:
    """Requests in the next one."""
    return min(PLAYED_AT_ONCE, 1 + played // 32)


def _fade(last_s: float, portion: tuple[float, ...]) -> float:
    """What is left of a score after these arrivals."""
    halvings = 0.0
    for arrival_s in portion:
        halvings += min(1 / HALF_LIFE, max(0.0, arrival_s - last_s) / HALF_LIFE_S)
        last_s = arrival_s
    return float(0.5**halvings)


def _leader(held: Learned, wait_price: WaitPrice, before: int | None) -> int:
    """The rule with the least cost so far, its prior included; `before` unless another is clearly cheaper."""
    slots, cold_s = held.shape[2], held.cold_s
    load = reckoned_load(held.shape, held.load, held.budgeted_s, cold_s)
    guess = first_guess(slots, held.service_s, load, cold_s, wait_price.per_s)
    priors = prior_costs(guess, slots, cold_s, wait_price.per_s)
    costs = [
        worked_s + wait_price.cost(waited_s, squared_s2, cold_s) + prior
        for prior, (worked_s, waited_s, squared_s2) in zip(priors, held.scores, strict=True)
    ]
    best = min(range(len(costs)), key=costs.__getitem__)
    return best if before is None or costs[best] < costs[before] * (1 - RELUCTANCE) else before
