"""Our own policy: it follows the rule that would have cost least on the endpoint's own traffic.

A portfolio of fixed rules (`portfolio.py`) is played along in shadow, arrival by arrival, with the service times and
cold starts that the endpoint really has (`shadow.py`). Each keeps count of what it would have spent: autoscaled
worker-seconds, and seconds waited, which the price of waiting (`wait_price.py`) turns into worker-seconds. The endpoint
follows the cheapest, with some reluctance to change. Baseline workers cost nothing more, so they do not count. Before
there is data a prior speaks, and evidence outweighs it (`learned.py`).

Why not one clever rule: no fixed setting is good everywhere, each that is best somewhere costs two to thirty times as
much elsewhere (research notes, autoscaling.md 3.3), while the best of a few in hindsight is hard to beat.
"""

from __future__ import annotations

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.endpoint import Auto
from orchestrator.core.scaling.learned import Learned, learned
from orchestrator.core.scaling.portfolio import rules_for
from orchestrator.core.scaling.shadow import in_burst
from orchestrator.core.scaling.view import Decision, Memory, Number, Observation, Reason
from orchestrator.core.scaling.wait_price import price_of, repriced

LEARNING_UNTIL = 20
"""Requests played before the reason says that the choice rests on own traffic."""

NEED = "{level} waiting or running, a worker for every {fill:g}"
OF_SLOTS = " x {slots} slots"
SPARE = ", {spare} to spare"
SUM = " → {desired}"
KEEP = "; the next idle worker goes after {keep_s:.3g} s "
GONE = "; idle workers go at once "
LONELY = "; idle workers go at once, requests come too seldom to keep them "
CANCEL = "; workers still starting beyond that are called off "
FOLLOW = "(cheapest of {rules} rules over {played} requests; a second of waiting counts as {price:.2g} s of a worker)"
LEARNING = "(first guess, {played} requests seen; a second of waiting counts as {price:.2g} s of a worker)"


def by_value(policy: Auto, memory: Memory, seen: Observation) -> Decision:
    """desired = ceil((queued + running) / (fill x slots)), and some to spare while that is not 0; surplus workers are
    kept for a time, under most rules less for each further one. Where a worker takes one request, a start that nobody
    needs is called off while no worker is idle, and nothing is kept unless requests come in a burst, under many rules.
    Fill, spare workers and times are those of the rule that leads."""
    held = memory if isinstance(memory, Learned) else Learned()
    held = repriced(policy, held, seen)
    price = price_of(policy, held, seen.slots)
    held = learned(held, seen, price)
    rules = rules_for(seen.slots)
    rule = rules[held.leader]
    level = seen.queued + seen.running
    desired = int(-(-level // (rule.fill * seen.slots))) + rule.spare if level else 0
    keeps = in_burst(held.latest_s, rule.burst_s(held.service_s))
    keep_s = rule.kept_s(seen.live - seen.baseline) if keeps else 0.0
    numbers: dict[str, Number] = {
        "level": level, "fill": rule.fill, "slots": seen.slots, "desired": desired, "keep_s": keep_s,
        "rules": len(rules), "played": held.played, "price": price.per_s,
    }  # fmt: skip
    if rule.spare:
        numbers["spare"] = rule.spare
    # None idle, else it would go as well: keep_ns 0 lets idle workers go at once, too.
    cancels = rule.cancels and seen.ready <= seen.running and bool(seen.starting) and seen.live > desired
    need = NEED + (OF_SLOTS if seen.slots > 1 else "") + (SPARE if rule.spare else "") + SUM
    how = need + (CANCEL if cancels else KEEP if keep_s else GONE if keeps else LONELY)
    known = held.played >= LEARNING_UNTIL
    why = Reason("follow", how + FOLLOW, numbers) if known else Reason("learning", how + LEARNING, numbers)
    # Otherwise not 0: that would cancel workers in their cold start whenever the queue is short for a moment.
    return Decision(desired, why, held, keep_ns=0 if cancels else max(1, int(keep_s * SECOND_NS)))
