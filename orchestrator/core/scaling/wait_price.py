"""What a second of waiting is worth, learned from the p95 wait that the user wants.

The first guess is 10 s over that wait: a p95 of 10 s is worth one autoscaled worker-second for every second that a
request waits, one of 2 s five, one of 50 s a fifth. Then every request that went to a worker moves it: up by 95 parts
if it waited longer than wanted, down by 5 if not, which balances where one in twenty waits longer. A factor of three
either way is the limit: a wish that no money fulfils, such as a p95 below the cold start of a request a day, does not
keep workers for ever.

Workers of one slot: a wish for the p95 also means that long waits weigh more than their length (`WaitPrice.by_tail`);
under a price that is told, every second costs the same.
"""

from __future__ import annotations

from dataclasses import replace
from math import exp, log
from typing import Final

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.endpoint import Auto
from orchestrator.core.scaling.learned import Learned, WaitPrice
from orchestrator.core.scaling.view import Observation

WAIT_OF_ONE_S: Final = 10.0
"""The p95 wait that is worth a price of 1."""
PRICES: Final = (0.05, 20.0)
"""Limits of the first guess."""
SHARE: Final = 0.05
"""Of requests that may wait longer: what p95 means."""
STEP: Final = 0.05
"""Logarithmic step for a request that waited too long."""
SHIFT_MAX: Final = log(3.0)
"""With much more, a wish a little shorter costs far more where cold starts decide the p95."""


def price_of(policy: Auto, held: Learned, slots: int) -> WaitPrice:
    """Of an endpoint whose workers take `slots` requests."""
    if policy.wait_price is not None:
        return WaitPrice(policy.wait_price)
    low, high = PRICES
    return WaitPrice(min(max(WAIT_OF_ONE_S / policy.wait_p95_s, low), high) * exp(held.price_shift), slots == 1)


def repriced(policy: Auto, held: Learned, seen: Observation) -> Learned:
    """Move the price by those who went to a worker since the last observation; remember who waits now."""
    if policy.wait_price is not None:
        return held
    gone = max(0, held.queued + seen.arrived - seen.queued)
    # First come, first served: those who left are the oldest. Of the very many only the listed ones are judged.
    known = (*held.waiting, *seen.arrivals)[:gone]
    limit_ns = int(policy.wait_p95_s * SECOND_NS)
    late = sum(1 for arrival_ns in known if seen.now_ns - arrival_ns > limit_ns)
    shift = held.price_shift + STEP * (late * (1 - SHARE) - (len(known) - late) * SHARE)
    shift = min(max(shift, -SHIFT_MAX), SHIFT_MAX)
    if shift == held.price_shift and seen.queue == held.waiting and seen.queued == held.queued:
        return held
    return replace(held, price_shift=shift, waiting=seen.queue, queued=seen.queued)
