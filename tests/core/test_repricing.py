"""Another price book over the same time: one floor per interval, cold starts as that book wants them."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contract.base import HOUR_NS, SECOND_NS
from orchestrator.contract.snapshot import Tier
from orchestrator.core.billing import due_u
from orchestrator.core.pricing import Price, PriceBook
from orchestrator.core.repricing import Stretch, reprice

BOOK = PriceBook(name="other", prices={"L40": Price(baseline_uh=2_000_003, autoscale_uh=11_000_007)})
COLD = BOOK.model_copy(update={"cold_start_billed": False})
T0 = 1_760_000_000 * SECOND_NS


def test_rate_times_time() -> None:
    whole = Stretch("L40", Tier.BASELINE, T0, T0, T0 + HOUR_NS)
    assert reprice(whole, BOOK) == 2_000_003
    assert reprice(Stretch("L40", Tier.AUTOSCALE, T0, T0, T0 + HOUR_NS), BOOK) == 11_000_007
    assert reprice(Stretch("H100", Tier.BASELINE, T0, T0, T0 + HOUR_NS), BOOK) is None


@given(st.integers(1, 10**14), st.lists(st.integers(1, 10**14 - 1), max_size=5, unique=True))
def test_parts_add_up(length_ns: int, cuts: list[int]) -> None:
    ends = [T0, *(T0 + cut for cut in sorted(cuts) if cut < length_ns), T0 + length_ns]
    parts = [
        reprice(Stretch("L40", Tier.BASELINE, T0, start, end, T0 - SECOND_NS, T0), BOOK)
        for start, end in pairwise(ends)
    ]
    assert sum(part or 0 for part in parts) == due_u(2_000_003, length_ns + SECOND_NS)


def test_a_book_without_cold_starts_begins_at_readiness() -> None:
    ready_ns = T0 + 30 * SECOND_NS
    first = Stretch("L40", Tier.BASELINE, T0, T0, T0 + HOUR_NS, T0, ready_ns)
    assert reprice(first, COLD) == due_u(2_000_003, HOUR_NS - 30 * SECOND_NS)
    assert reprice(first, BOOK) == 2_000_003
    later = Stretch("L40", Tier.BASELINE, T0, T0, T0 + HOUR_NS)
    assert reprice(later, COLD) == 2_000_003, "only a worker's first interval has a cold start"
    assert reprice(Stretch("L40", Tier.BASELINE, T0, T0, T0 + HOUR_NS, T0, None), COLD) == 0
    before = Stretch("L40", Tier.BASELINE, T0, T0, T0 + SECOND_NS, T0, ready_ns)
    assert reprice(before, COLD) == 0


def test_a_book_with_cold_starts_adds_what_the_other_left_out() -> None:
    ready_ns = T0 + 30 * SECOND_NS
    excluded = Stretch("L40", Tier.BASELINE, ready_ns, ready_ns, T0 + HOUR_NS, T0, ready_ns)
    assert reprice(excluded, BOOK) == 2_000_003
    assert reprice(excluded, COLD) == due_u(2_000_003, HOUR_NS - 30 * SECOND_NS)
