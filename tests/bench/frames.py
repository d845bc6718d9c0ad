"""What a dashboard costs the process that serves: CPU time of a frame of the feed, and of its longest step.

    .venv/bin/python -m tests.bench.frames [ENDPOINTS] [WORKERS]

The state is that of the core in virtual time, the traffic that of meters whose rings are full. Times are the best of
twelve, in milliseconds of CPU; between two steps requests are served (orchestrator/control/server.py).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.feed import encoded, told
from orchestrator.contract.steps import Steps, finished
from orchestrator.core.observe import Surroundings, observe, observing
from orchestrator.core.traffic import RING, Meter
from orchestrator.simulator.deck import NOWHERE
from tests.core.world import World

ROUNDS = 12
PER_SECOND = 4


class Site(World):
    """Not inspected: the invariants of five hundred workers take longer than the frame."""

    def stepped(self, event: object, effects: object) -> None:
        pass


def busy(endpoints: int, workers: int) -> Site:
    """A deck of that size with every worker ready."""
    each = max(workers // endpoints, 1)
    site = Site(f"L40:{endpoints * each}", credit_u=10**15)
    for number in range(endpoints):
        site.create(f"model-{number:02d}", f"{each}-{each}")
    site.until(lambda: sum(site.ready(slug) for slug in site.state.endpoints) == endpoints * each)
    return site


def surroundings(site: Site, seq: int) -> Surroundings:
    """What the controller adds to the state, with a full ring for each endpoint."""
    meter = Meter()
    for number in range(RING):
        at_ns = site.now_ns - 50 * SECOND_NS + number * 10_000_000
        meter.record(at_ns, total_ns=number * 7_919 % 900_000_000, queue_ns=number, failed=number % 50 == 0)
    traffic = dict.fromkeys(site.state.endpoints, meter.view(site.now_ns))
    depths = dict.fromkeys(site.state.endpoints, (1,) * 120)
    return replace(NOWHERE, seq=seq, lanes=site.routes.lanes_seen(), traffic=traffic, queued_series=depths)


def timed(work: Callable[[], Steps[Any]]) -> tuple[float, float]:
    """CPU milliseconds of all steps, and of the longest one."""
    best: list[float] = []
    for _ in range(ROUNDS):
        steps, took = work(), []
        going = True
        while going:
            start = time.process_time_ns()
            going = next(steps, steps) is not steps
            took.append((time.process_time_ns() - start) / 1e6)
        best = [min(pair) for pair in zip(best, took, strict=True)] if best else took
    return sum(best), max(best)


def main(endpoints: int = 50, workers: int = 500) -> None:
    site = busy(endpoints, workers)
    around = surroundings(site, 1)
    before = observe(site.state, around, site.now_ns)
    site.advance(1 / PER_SECOND)
    around = surroundings(site, 2)
    after = observe(site.state, around, site.now_ns)
    whole, changed = finished(told(None, after)), finished(told(before, after))
    sys.stdout.write(f"{endpoints} endpoints, {workers} workers     CPU ms   longest step   bytes\n")
    for name, work, size in (
        ("look at the state", lambda: observing(site.state, around, site.now_ns), ""),
        ("find what changed", lambda: told(before, after), ""),
        ("write what changed", lambda: encoded(changed), f"{len(finished(encoded(changed))):,}"),
        ("write it whole", lambda: encoded(whole), f"{len(finished(encoded(whole))):,}"),
    ):
        total_ms, longest_ms = timed(work)
        sys.stdout.write(f"{name:<26}{total_ms:>9.2f}{longest_ms:>15.2f}   {size}\n")


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
