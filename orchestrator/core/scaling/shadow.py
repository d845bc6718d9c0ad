"""A shadow: what one fixed rule would have cost on the endpoint's own traffic, played along in virtual time.

The rule: want one worker for every `fill` x slots requests in the system, and `spare` more while there are any; let a
worker go once it has not been needed for `keep_s`, the further ones perhaps sooner. A shadow is a small simulation of
that rule: first come first served, cold starts of the learned length, the baseline always there. It keeps two sums,
autoscaled worker-seconds and seconds waited, from which the price of waiting makes a cost (research notes,
autoscaling.md 3.2).

Workers are numbered by level: the n-th is needed while n of them are. Which worker is idle follows from that, as if
requests were packed: the executor's reserve ring comes to the same.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from functools import lru_cache
from heapq import heappop, heappush
from typing import NamedTuple


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

    def kept_s(self, autoscaled: int) -> float:
        """Seconds for the last of so many autoscaled workers."""
        return self.keep_s * self.taper ** (autoscaled - 1) if autoscaled > 0 else self.keep_s


class Shape(NamedTuple):
    """What a shadow's endpoint looks like."""

    baseline: int
    maximum: int
    slots: int


class Shadow(NamedTuple):
    """The state of one simulation. Instants are seconds of the shadows' own clock."""

    now_s: float
    ready: int
    starting: tuple[float, ...]
    """When each worker in its cold start will be ready, soonest first."""
    running: tuple[float, ...]
    """Heap of the instants at which requests in service end."""
    queued: int
    dispatched: int
    """Requests that went to a worker so far. The n-th takes the n-th of the service times, in every shadow."""
    needed_s: tuple[float, ...]
    """By level: until when it was last needed. Not valid up to the present need."""
    worked_s: float = 0.0
    """Autoscaled worker-seconds so far, cold starts included."""
    waited_s: float = 0.0
    """Seconds waited so far, all requests together."""


def born(shape: Shape, now_s: float) -> Shadow:
    """The baseline, and no request."""
    return Shadow(now_s, shape.baseline, (), (), 0, 0, (now_s,) * (shape.maximum + 2))


def play(  # noqa: C901 - the hot loop of a decision: a call per event would double its time
    shadow: Shadow, rule: Rule, shape: Shape, arrivals_s: Sequence[float], services_s: Sequence[float], cold_s: float
) -> Shadow:
    """The shadow at the last of these arrivals, which are in order.

    `services_s` is a ring of service times as measured lately, `cold_s` the duration of a cold start. Between two
    arrivals it goes from event to event: an answer, a worker that is ready, a worker whose time is up.
    """
    now_s, ready, _, _, queued, dispatched, _, worked_s, waited_s = shadow
    starting, running, needed_s = list(shadow.starting), list(shadow.running), list(shadow.needed_s)
    baseline, maximum, slots = shape
    per_worker, spare_workers, ring = rule.fill * slots, rule.spare, len(services_s)
    kept_s = _kept_s(rule, baseline, maximum)
    busy = -(-len(running) // slots)
    requests = queued + len(running)
    wanted = min(maximum, int(-(-requests // per_worker)) + spare_workers) if requests else 0
    for arrival_s in arrivals_s:
        while True:
            live = ready + len(starting)
            next_s = running[0] if running else arrival_s
            if starting and starting[0] < next_s:
                next_s = starting[0]
            if not queued and ready > baseline and ready > busy and live > wanted:
                next_s = min(next_s, max(now_s, needed_s[live] + kept_s[live]))
            if next_s >= arrival_s:
                break
            worked_s += (live - baseline) * (next_s - now_s)
            waited_s += queued * (next_s - now_s)
            now_s = next_s
            before = max(busy, wanted)
            while running and running[0] <= now_s:
                heappop(running)
            while starting and starting[0] <= now_s:
                del starting[0]
                ready += 1
                needed_s[live] = now_s
            while queued and len(running) < ready * slots:
                heappush(running, now_s + services_s[dispatched % ring])
                queued -= 1
                dispatched += 1
            busy = -(-len(running) // slots)
            requests = queued + len(running)
            wanted = min(maximum, int(-(-requests // per_worker)) + spare_workers) if requests else 0
            for level in range(max(busy, wanted) + 1, before + 1):
                needed_s[level] = now_s
            spare = not queued and ready > max(baseline, busy) and live > wanted
            if spare and now_s >= needed_s[live] + kept_s[live]:
                ready -= 1
        worked_s += (live - baseline) * (arrival_s - now_s)
        waited_s += queued * (arrival_s - now_s)
        now_s = arrival_s
        if not queued and len(running) < ready * slots:
            heappush(running, now_s + services_s[dispatched % ring])
            dispatched += 1
            busy = -(-len(running) // slots)
        else:
            queued += 1
        requests = queued + len(running)
        wanted = min(maximum, int(-(-requests // per_worker)) + spare_workers) if requests else 0
        for _ in range(max(wanted, 1 if queued else 0) - live):
            insort(starting, now_s + cold_s)
    return Shadow(
        now_s, ready, tuple(starting), tuple(running), queued, dispatched, tuple(needed_s), worked_s, waited_s
    )


@lru_cache(maxsize=4_096)
def _kept_s(rule: Rule, baseline: int, maximum: int) -> tuple[float, ...]:
    """By the number of workers: how long the last of them is kept. A play of one request would spend half its time on
    the powers."""
    return tuple(rule.kept_s(live - baseline) for live in range(maximum + 1))
