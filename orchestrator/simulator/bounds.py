"""What no policy can beat, with all arrivals, service times and cold starts known beforehand.

- `zero_wait_ns`: the cheapest schedule in which nobody waits: offline ski rental per level of demand. Exact for workers
  of one slot without a baseline, below the optimum otherwise; it may use more workers than the maximum.
- `cost_bound`: below J = autoscaled worker-seconds + wait_price x waits of every schedule that serves first come first
  served. The larger of two bounds, each valid by itself; both relax the maximum and treat a worker of c slots as c
  workers at a c-th of the price (all below is in that unit, in seconds, with the wait price times c).

`_chains` is a dual solution of covering requests by sessions. A session is one worker's requests in order of arrival;
it costs its cold start, its time until the last answer, and the waits. Every request j gets a price s_j + k_j such that
no session's prices exceed its cost; then J is at least their sum. k_j is as large as the sessions that end in j allow:
the least over them of cold start + idle time + priced waits - the k already given away. An autoscaled session may shift
its first requests to shorten a gap, so a second of gap costs min(1, wait price). A baseline slot costs nothing: what
the best of its sessions collects is subtracted.

`_overload` prices time: with N requests in service if nobody waited, and B baseline slots, each second with N > B costs
N - B worker-seconds or as much waiting. Above that a cold start is due once per session, spread over its highest peaks.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from math import inf
from typing import Final

from orchestrator.contract.base import SECOND_NS
from orchestrator.simulator.setup import MINUTE_NS, ColdStarts, Setup
from orchestrator.simulator.traces import Trace

STATES_MAX: Final = 32
"""Sessions followed at a time; beyond, the closest two are merged, which lowers a bound but keeps it valid."""


def lead_ns(cold: ColdStarts, ready_ns: int) -> int:
    """The shortest time before `ready_ns` at which a worker that is to be ready then can be started."""
    minute = ready_ns // MINUTE_NS
    while True:
        start_ns = min((minute + 1) * MINUTE_NS - 1, ready_ns - cold.duration_ns(minute * MINUTE_NS))
        if start_ns >= minute * MINUTE_NS:
            return ready_ns - start_ns
        minute -= 1


def least_lead_ns(cold: ColdStarts, from_ns: int, to_ns: int) -> int:
    """The shortest lead of all instants of an interval: at its beginning, or where a minute's first start is ready."""
    least_ns = lead_ns(cold, from_ns)
    longest_ns = round(cold.longest_s * SECOND_NS)
    for minute in range((from_ns - longest_ns) // MINUTE_NS, to_ns // MINUTE_NS + 1):
        duration_ns = cold.duration_ns(minute * MINUTE_NS)
        if duration_ns < least_ns and from_ns <= minute * MINUTE_NS + duration_ns <= to_ns:
            least_ns = duration_ns
    return least_ns


def zero_wait_ns(trace: Trace, setup: Setup, cold: ColdStarts) -> int:
    """Autoscaled worker-time of the cheapest schedule without any wait. See the module's words."""
    total_ns, free_ns = 0, dict[int, int]()
    level, since_ns = 0, 0
    for at_ns, running in _running(trace):
        total_ns += max(0, level - setup.baseline) * (at_ns - since_ns)
        demand = -(-running // setup.slots)
        for risen in range(max(level, setup.baseline) + 1, demand + 1):
            start_ns = lead_ns(cold, at_ns)
            total_ns += min(start_ns, at_ns - free_ns.get(risen, at_ns - start_ns))
        for fallen in range(demand + 1, level + 1):
            free_ns[fallen] = at_ns
        level, since_ns = demand, at_ns
    return total_ns


def cost_bound(trace: Trace, setup: Setup, cold: ColdStarts, wait_price: float) -> float:
    """A lower bound, in worker-seconds, on J of every schedule under these cold starts. See the module's words."""
    price = wait_price * setup.slots
    slots = setup.baseline * setup.slots
    # Paying less for a peak leaves more for later ones: any of these prices gives a bound.
    found = max(_overload(trace, slots, cold, min(price, most)) for most in (1.0, 1.5, 2.5, 5.0, inf))
    if slots <= 1:
        prices = _chains(trace, cold, price)
        found = max(found, sum(prices) - (_best_session(trace, prices, price) if slots else 0.0))
    return max(0.0, found) / setup.slots


def _running(trace: Trace) -> Iterator[tuple[int, int]]:
    """(instant, requests in service from then on) if nobody waits; answers before arrivals of the same instant."""
    ends: list[int] = []
    for arrival_ns, service_ns in zip(trace.arrival_ns, trace.service_ns, strict=True):
        while ends and ends[0] <= arrival_ns:
            at_ns = heappop(ends)
            yield at_ns, len(ends)
        heappush(ends, arrival_ns + service_ns)
        yield arrival_ns, len(ends)
    while ends:
        at_ns = heappop(ends)
        yield at_ns, len(ends)


def _chains(trace: Trace, cold: ColdStarts, price: float) -> list[float]:
    """A price in seconds for every request, such that no session's prices exceed what it costs."""
    idle = min(1.0, price)
    dear = cold.longest_s
    sessions: list[tuple[float, float]] = []
    """(when its worker is free, its cost less its prices), of those that may still go on; ascending in both senses."""
    prices = []
    for arrival_ns, service_ns in zip(trace.arrival_ns, trace.service_ns, strict=True):
        at_s, service_s = arrival_ns / SECOND_NS, service_ns / SECOND_NS
        # No optimum lets a request wait longer than what a worker of its own would cost.
        patience_s = (lead_ns(cold, arrival_ns) / SECOND_NS + service_s) / price
        fresh = least_lead_ns(cold, arrival_ns, arrival_ns + round(patience_s * SECOND_NS)) / SECOND_NS
        rested = [(slack - idle * free_s, free_s, slack) for free_s, slack in sessions if free_s <= at_s]
        kept = [session for session in sessions if session[0] > at_s]
        added = [
            (free_s + service_s, slack + price * (free_s - at_s))
            for free_s, slack in kept
            if free_s - at_s <= patience_s and slack + price * (free_s - at_s) < dear
        ]
        if rested:
            _, free_s, slack = min(rested)  # of the idle ones only the cheapest to go on with matters, now and later
            kept.append((free_s, slack))
            fresh = min(fresh, slack + idle * (at_s - free_s))
        given = min(fresh, min((slack for _, slack in added), default=inf))
        prices.append(service_s + given)
        added.append((at_s + service_s, fresh))
        sessions = _fewer(kept + [(free_s, slack - given) for free_s, slack in added], idle, dear)
    return prices


def _fewer(sessions: list[tuple[float, float]], idle: float, dear: float) -> list[tuple[float, float]]:
    """Without those that another one can stand for: being free earlier, it may idle until then."""
    sessions.sort()
    kept: list[tuple[float, float]] = []
    for free_s, slack in sessions:
        if slack < dear and (not kept or slack < kept[-1][1] + idle * (free_s - kept[-1][0])):
            kept.append((free_s, slack))
    while len(kept) > STATES_MAX:
        i = min(range(1, len(kept)), key=lambda i: kept[i][0] - kept[i - 1][0])
        free_s, slack = kept[i - 1]
        kept[i - 1 : i + 1] = [(free_s, min(slack, kept[i][1] - idle * (kept[i][0] - free_s)))]
    return kept


def _best_session(trace: Trace, prices: list[float], price: float) -> float:
    """At least what a slot that is always there can collect of the prices, less its waits."""
    sessions: list[tuple[float, float]] = [(0.0, 0.0)]
    """(when it is free, what it has collected), ascending in both."""
    for arrival_ns, service_ns, worth in zip(trace.arrival_ns, trace.service_ns, prices, strict=True):
        at_s, service_s = arrival_ns / SECOND_NS, service_ns / SECOND_NS
        rested = 0
        while rested + 1 < len(sessions) and sessions[rested + 1][0] <= at_s:
            rested += 1  # free by now: the one that has collected most stands for all before it
        del sessions[:rested]
        grown = [
            (max(free_s, at_s) + service_s, collected + worth - price * max(0.0, free_s - at_s))
            for free_s, collected in sessions
        ]
        merged: list[tuple[float, float]] = []
        for free_s, collected in sorted(sessions + grown):
            if not merged or collected > merged[-1][1]:
                merged.append((free_s, collected))
        while len(merged) > 2 * STATES_MAX:
            i = min(range(1, len(merged)), key=lambda i: merged[i][0] - merged[i - 1][0])
            merged[i - 1 : i + 1] = [(merged[i - 1][0], merged[i][1])]
        sessions = merged
    return sessions[-1][1]


def _overload(trace: Trace, slots: int, cold: ColdStarts, price: float) -> float:
    """The bound by time; see the module's words."""
    total = 0.0
    slack, freed_ns = inf, 0
    for peaks in _episodes(trace, slots):
        began_ns, ended_ns = peaks[0][0], peaks[-1][0] + peaks[-1][1]
        total += min(1.0, price) * sum(above * length_ns for _, length_ns, above in peaks) / SECOND_NS
        # A session that began in an earlier episode has idled since; one that begins in this one pays a cold start.
        slack = min(slack + (began_ns - freed_ns) / SECOND_NS, least_lead_ns(cold, began_ns, ended_ns) / SECOND_NS)
        freed_ns = ended_ns
        if price > 1.0:
            for _, length_ns, above in sorted(peaks, key=lambda peak: -peak[2]):
                spent = min(slack, (price - 1.0) * length_ns / SECOND_NS)
                total += spent * above
                slack -= spent
    return total


def _episodes(trace: Trace, slots: int) -> Iterator[list[tuple[int, int, int]]]:
    """Stretches in which more requests are in service than `slots`, nobody waiting: (since, for how long, how many
    more) per level, in order."""
    peaks: list[tuple[int, int, int]] = []
    above, since_ns = 0, 0
    for at_ns, running in _running(trace):
        if above > 0 and at_ns > since_ns:
            peaks.append((since_ns, at_ns - since_ns, above))
        above, since_ns = running - slots, at_ns
        if above <= 0 and peaks:
            yield peaks
            peaks = []
    assert not peaks, "nothing is in service at the end"
