"""A shadow: what one fixed rule would have cost on the endpoint's own traffic, played along in virtual time.

The rule: want one worker for every `fill` x slots requests in the system, and `spare` more while there are any; let a
worker go once it has not been needed for `keep_s`, the further ones perhaps sooner. A shadow is a small simulation of
that rule: first come first served, cold starts of the learned lengths, the baseline always there. It keeps three sums,
autoscaled worker-seconds, seconds waited and their squares, from which the price of waiting makes a cost (research
notes, autoscaling.md 3.2).

Workers are numbered by level: the n-th is needed while n of them are. Which worker is idle follows from that, as if
requests were packed: the executor's reserve ring comes to the same.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from functools import lru_cache
from heapq import heappop, heappush
from typing import Final, NamedTuple

LUCK_S: Final = 60.0
"""Cold starts that begin within the same minute take equally long: one host, one disk. Else a shadow would believe that
it wins by starting two workers for one request."""


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
    squared_s2: float = 0.0
    """Sum of the squares of the waits that are over: what long waits weigh more."""


def born(shape: Shape, now_s: float) -> Shadow:
    """The baseline, and no request."""
    return Shadow(now_s, shape.baseline, (), (), 0, 0, (now_s,) * (shape.maximum + 2))


def play(  # noqa: C901 - the hot loop of a decision: a call per event would double its time
    shadow: Shadow, rule: Rule, shape: Shape, arrivals_s: Sequence[float], times: Times, before_s: Sequence[float] = ()
) -> Shadow:
    """The shadow at the last of these arrivals, which are in order.

    `before_s` are the arrivals before, for the squares: a waiter from before them counts as if it came with the first.
    Between two arrivals it goes from event to event: an answer, a worker that is ready, a worker whose time is up.
    """
    now_s, ready, _, _, queued, dispatched, _, worked_s, waited_s, squared_s2 = shadow
    (services_s, colds_s), known_s = times, (*before_s, *arrivals_s)
    starting, running, needed_s = list(shadow.starting), list(shadow.running), list(shadow.needed_s)
    baseline, maximum, slots = shape
    kept_s, wants, occupied = _tables(rule, shape)
    ring, crowd = len(services_s), len(wants)
    busy = occupied[len(running)]
    requests = queued + len(running)
    wanted = wants[requests] if requests < crowd else maximum
    for number, arrival_s in enumerate(arrivals_s, len(before_s)):
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
            level = busy if busy > wanted else wanted
            while running and running[0] <= now_s:
                heappop(running)
            while starting and starting[0] <= now_s:
                del starting[0]
                ready += 1
                needed_s[live] = now_s
            while queued and len(running) < ready * slots:
                squared_s2 += (now_s - known_s[max(0, number - queued)]) ** 2
                heappush(running, now_s + services_s[dispatched % ring])
                queued -= 1
                dispatched += 1
            busy = occupied[len(running)]
            requests = queued + len(running)
            wanted = wants[requests] if requests < crowd else maximum
            while level > busy and level > wanted:
                needed_s[level] = now_s
                level -= 1
            spare = not queued and ready > baseline and ready > busy and live > wanted
            if spare and now_s >= needed_s[live] + kept_s[live]:
                ready -= 1
            if rule.cancels and starting and len(running) >= ready * slots:
                surplus = ready + len(starting) - max(wanted, baseline)
                del starting[len(starting) - max(0, min(surplus, len(starting) - -(-queued // slots))) :]
        worked_s += (live - baseline) * (arrival_s - now_s)
        waited_s += queued * (arrival_s - now_s)
        now_s = arrival_s
        if not queued and len(running) < ready * slots:
            heappush(running, now_s + services_s[dispatched % ring])
            dispatched += 1
            busy = occupied[len(running)]
        else:
            queued += 1
        requests = queued + len(running)
        wanted = wants[requests] if requests < crowd else maximum
        for _ in range(max(wanted, 1 if queued else 0) - live):
            insort(starting, now_s + colds_s[int(now_s // LUCK_S) % len(colds_s)])
    sums = worked_s, waited_s, squared_s2
    return Shadow(now_s, ready, tuple(starting), tuple(running), queued, dispatched, tuple(needed_s), *sums)


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
