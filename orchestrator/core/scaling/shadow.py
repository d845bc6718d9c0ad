"""A shadow: what one fixed rule would have cost on the endpoint's own traffic, played along in virtual time.

The rule: want one worker for every `fill` x slots requests in the system, and `spare` more while there are any; let a
worker go once it has not been needed for `keep_s`, the further ones perhaps sooner, and under some rules at once unless
requests come in a burst. A shadow is a small simulation of that rule: first come first served, cold starts of the
learned lengths, the baseline always there. It keeps three sums, autoscaled worker-seconds, seconds waited and their
squares, from which the price of waiting makes a cost (research notes, autoscaling.md 3.2).

Workers are numbered by level: the n-th is needed while n of them are. Which worker is idle follows from that, as if
requests were packed: the executor's reserve ring comes to the same.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from functools import lru_cache
from math import inf
from typing import Final, NamedTuple

LUCK_S: Final = 60.0
"""Cold starts that begin within the same minute take equally long: one host, one disk. Else a shadow would believe that
it wins by starting two workers for one request."""
NEVER_S: Final = inf
COMPANY: Final = 3
"""Requests that must have come close together for a rule that keeps workers in bursts only."""
KEEPS_APART: Final = 2.0
"""How many times `keep_s` may pass, on average, between an answer and the next request of a burst."""


class Rule(NamedTuple):
    """How a shadow scales."""

    fill: float
    """Requests in the system per slot before there is another worker: 1 lets nobody wait that a worker could serve."""
    keep_s: float
    """Seconds that the first autoscaled worker is kept although it is not needed,"""
    taper: float = 1.0
    """and what of them is left for each further one: the tenth is missed less often than the first."""

    spare: int = 0
    """Workers beyond that while there is any request: room for what comes, which does not grow with the load."""

    cancels: bool = False
    """Whether a start that nobody needs any more is called off while no worker is idle. Else it would be ready only to
    be let go."""
    in_bursts: bool = False
    """Whether a worker that is not needed is kept in a burst only (`burst_s`) and else let go at once. After a lonely
    request the next one seldom comes within a short `keep_s`, so as many find a worker ready for less idle time."""

    def burst_s(self, service_s: float) -> float:
        """Seconds within which the last `COMPANY` requests must have come for workers to be kept, where a request is
        served in `service_s`; infinite for a rule that always keeps them."""
        return (COMPANY - 1) * (service_s + KEEPS_APART * self.keep_s) if self.in_bursts else NEVER_S

    def kept_s(self, autoscaled: int) -> float:
        """Seconds for the last of so many autoscaled workers."""
        return self.keep_s * self.taper ** (autoscaled - 1) if autoscaled > 0 else self.keep_s


class Shape(NamedTuple):
    """What a shadow's endpoint looks like."""

    baseline: int
    maximum: int
    slots: int


class Times(NamedTuple):
    """How long things take, as measured lately, seconds."""

    services_s: Sequence[float]
    """A ring: the n-th request takes the n-th of them,"""
    colds_s: Sequence[float]
    """and starts of the n-th minute the n-th of these."""
    service_s: float = 0.0
    """Mean service time: what is a burst depends on it."""


class Shadow(NamedTuple):
    """The state of one simulation. Instants are seconds of the shadows' own clock."""

    now_s: float
    ready: int
    starting: tuple[float, ...]
    """When each worker in its cold start will be ready, soonest first."""
    running: tuple[float, ...]
    """When each request in service ends, soonest first."""
    queued: int
    dispatched: int
    """Requests that went to a worker so far. The n-th takes the n-th of the service times, in every shadow."""
    needed_s: tuple[float, ...]
    """By level: until when it was last needed. Not valid up to the present need."""
    worked_s: float = 0.0
    """Autoscaled worker-seconds so far, cold starts included."""
    waited_s: float = 0.0
    """Seconds waited so far, all requests together."""
    squared_s2: float = 0.0
    """Sum of the squares of the waits that are over: what long waits weigh more."""


def born(shape: Shape, now_s: float) -> Shadow:
    """The baseline, and no request."""
    return Shadow(now_s, shape.baseline, (), (), 0, 0, (now_s,) * (shape.maximum + 2))


class _Traffic(NamedTuple):
    """What comes during one `play`."""

    arrivals_s: Sequence[float]
    earlier_s: Sequence[float]
    """The arrivals before, at least one."""
    lonely: Sequence[bool]
    """For each of these arrivals, whether there was no burst up to it; none for a rule that does not ask."""


class _Lists(NamedTuple):
    """What a shadow has in tuples, while it plays. The first two have an end that never comes: so the next answer and
    the next start are looked up without asking whether there is one."""

    starting: list[float]
    running: list[float]
    needed_s: list[float]


def play(
    shadow: Shadow, rule: Rule, shape: Shape, arrivals_s: Sequence[float], times: Times, before_s: Sequence[float] = ()
) -> Shadow:
    """The shadow at the last of these arrivals, which are in order.

    `before_s` are the arrivals before, for bursts, and for the squares: a waiter from before them counts as if it came
    with the first.
    """
    traffic = _Traffic(
        arrivals_s, before_s or arrivals_s[:1], _lonely(before_s, arrivals_s, rule.burst_s(times.service_s))
    )
    lists = _Lists([*shadow.starting, NEVER_S], [*sorted(shadow.running), NEVER_S], [*shadow.needed_s])
    now_s, ready, queued, dispatched, *sums = _went_on(shadow, rule, shape, traffic, times, lists)
    starting, running = lists.starting[:-1], lists.running[:-1]
    return Shadow(now_s, ready, tuple(starting), tuple(running), queued, dispatched, tuple(lists.needed_s), *sums)


def _went_on(  # noqa: C901 - the hot loop of a decision: a call per event would double its time
    shadow: Shadow, rule: Rule, shape: Shape, traffic: _Traffic, times: Times, lists: _Lists
) -> tuple[float, int, int, int, float, float, float]:
    """What changes but the lists, which change in place. Between two arrivals it goes from event to event: an answer, a
    worker that is ready, a worker whose time is up."""
    now_s, ready, _, _, queued, dispatched, _, worked_s, waited_s, squared_s2 = shadow
    (services_s, colds_s, _), (baseline, maximum, slots) = times, shape
    (arrivals_s, earlier_s, lonely), (starting, running, needed_s) = traffic, lists
    kept_s, wants, occupied = _tables(rule, shape)
    cancels, ring, luck, crowd = rule.cancels, len(services_s), len(colds_s), len(wants)
    live, served = ready + len(starting) - 1, len(running) - 1
    busy, requests = occupied[served], queued + served
    wanted = wants[requests] if requests < crowd else maximum
    for number, arrival_s in enumerate(arrivals_s):
        lets_go = lonely and lonely[number]
        while True:
            leaves_s = NEVER_S
            if not queued and live > wanted and ready > busy and ready > baseline:
                leaves_s = now_s if lets_go else needed_s[live] + kept_s[live]
                if leaves_s < now_s:
                    leaves_s = now_s
            next_s = running[0] if running[0] < starting[0] else starting[0]
            if leaves_s < next_s:
                if leaves_s >= arrival_s:
                    break
                worked_s += (live - baseline) * (leaves_s - now_s)
                now_s, ready, live = leaves_s, ready - 1, live - 1
            else:
                if next_s >= arrival_s:
                    break
                worked_s += (live - baseline) * (next_s - now_s)
                waited_s += queued * (next_s - now_s)
                now_s, level = next_s, busy if busy > wanted else wanted
                while running[0] <= now_s:
                    del running[0]
                    served, requests = served - 1, requests - 1
                while starting[0] <= now_s:
                    del starting[0]
                    ready += 1
                    needed_s[live] = now_s
                while queued and served < ready * slots:
                    nth = number - queued
                    since_s = arrivals_s[nth] if nth >= 0 else earlier_s[max(nth, -len(earlier_s))]
                    squared_s2 += (now_s - since_s) ** 2
                    insort(running, now_s + services_s[dispatched % ring])
                    served, queued, dispatched = served + 1, queued - 1, dispatched + 1
                busy, wanted = occupied[served], wants[requests] if requests < crowd else maximum
                while level > busy and level > wanted:
                    needed_s[level] = now_s
                    level -= 1
            if cancels and live > ready and served >= ready * slots:
                live -= max(0, min(live - max(wanted, baseline), live - ready - -(-queued // slots)))
                del starting[live - ready : -1]
        worked_s += (live - baseline) * (arrival_s - now_s)
        waited_s += queued * (arrival_s - now_s)
        now_s = arrival_s
        if not queued and served < ready * slots:
            insort(running, now_s + services_s[dispatched % ring])
            served, dispatched = served + 1, dispatched + 1
            busy = occupied[served]
        else:
            queued += 1
        requests += 1
        wanted = wants[requests] if requests < crowd else maximum
        while live < wanted:
            insort(starting, now_s + colds_s[int(now_s // LUCK_S) % luck])
            live += 1
    return now_s, ready, queued, dispatched, worked_s, waited_s, squared_s2


def in_burst(arrivals_s: Sequence[float], burst_s: float) -> bool:
    """Whether the last `COMPANY` of these arrivals, which are in order, came within `burst_s`; never of fewer, unless
    that is infinite."""
    return burst_s == NEVER_S or (len(arrivals_s) >= COMPANY and arrivals_s[-1] - arrivals_s[-COMPANY] <= burst_s)


def _lonely(before_s: Sequence[float], arrivals_s: Sequence[float], burst_s: float) -> list[bool]:
    """For each of these arrivals, whether there was no burst up to it; nothing for a rule that does not ask."""
    if burst_s == NEVER_S:
        return []
    known_s = (*before_s[-COMPANY:], *arrivals_s)
    first = len(known_s) - len(arrivals_s)
    return [at < COMPANY or known_s[at - 1] - known_s[at - COMPANY] > burst_s for at in range(first, len(known_s))]


@lru_cache(maxsize=4_096)
def _tables(rule: Rule, shape: Shape) -> tuple[tuple[float, ...], tuple[int, ...], tuple[int, ...]]:
    """What `play` would else work out at every event: by workers, how long the last is kept; by
    requests, how many workers they want (more requests than it lists want all); by requests in service, how many
    workers those occupy."""
    baseline, maximum, slots = shape
    kept_s = tuple(rule.kept_s(live - baseline) for live in range(maximum + 1))
    wants = [0]
    while wants[-1] < maximum:
        wants.append(min(maximum, int(-(-len(wants) // (rule.fill * slots))) + rule.spare))
    return kept_s, tuple(wants), tuple(-(-running // slots) for running in range(maximum * slots + 1))
