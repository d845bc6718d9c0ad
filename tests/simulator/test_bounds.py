"""Lower bounds: cases computed by hand, and no policy ever below one."""

from __future__ import annotations

from random import Random

import pytest

from orchestrator.contract.base import SECOND_NS
from orchestrator.simulator import bounds
from orchestrator.simulator.bounds import cost_bound, lead_ns, least_lead_ns, zero_wait_ns
from orchestrator.simulator.families import FIXED
from orchestrator.simulator.light import ColdStarts, Setup
from orchestrator.simulator.rivals import RIVALS
from orchestrator.simulator.traces import Trace, trace_of

EXACT = ColdStarts(30.0, sigma=0.0)
ONE = Setup(0, 10)


def zero_wait_s(requests: list[tuple[float, float]], setup: Setup = ONE) -> float:
    return zero_wait_ns(trace_of("t", requests), setup, EXACT) / SECOND_NS


def bound(requests: list[tuple[float, float]], wait_price: float, setup: Setup = ONE) -> float:
    return cost_bound(trace_of("t", requests), setup, EXACT, wait_price)


def test_without_waits_a_worker_stays_through_a_gap_shorter_than_a_cold_start() -> None:
    assert zero_wait_s([(0, 6)]) == 30 + 6
    assert zero_wait_s([(0, 6), (6, 4)]) == 30 + 10, "the second takes the worker in the instant it is free"
    assert zero_wait_s([(0, 6), (16, 4)]) == 30 + 20
    assert zero_wait_s([(0, 6), (36, 4)]) == 30 + 40
    assert zero_wait_s([(0, 6), (500, 4)]) == 36 + 34


def test_without_waits_each_level_of_demand_is_its_own_ski_rental() -> None:
    # Level 1 is busy 0-10 and 12-22, level 2 5-8 and 15-16: 7 s of gap are cheaper than another start.
    assert zero_wait_s([(0, 10), (5, 3), (12, 10), (15, 1)]) == (30 + 22) + (30 + 11)
    assert zero_wait_s([(0, 10), (5, 3), (12, 10), (15, 1)], Setup(1, 5)) == 30 + 11
    assert zero_wait_s([(0, 10), (5, 3), (12, 10), (15, 1)], Setup(0, 5, 2)) == 30 + 22
    assert zero_wait_s([(0, 10), (5, 3)], Setup(2, 5)) == 0


def test_a_lead_is_the_time_from_the_latest_start_that_is_ready_in_time() -> None:
    cold = ColdStarts(30.0, drawn={0: 50 * SECOND_NS, 1: 90 * SECOND_NS, 2: 10 * SECOND_NS, -1: 20 * SECOND_NS})
    assert lead_ns(cold, 55 * SECOND_NS) == 50 * SECOND_NS
    # Ready at 130 s: minute 2 starts are ready at 130 s at the earliest, with 10 s.
    assert lead_ns(cold, 130 * SECOND_NS) == 10 * SECOND_NS
    # Ready at 129 s: no start of minute 2 is; those of minute 1 take 90 s; the last one of minute 0 is ready at 110 s.
    assert lead_ns(cold, 129 * SECOND_NS) == 69 * SECOND_NS + 1
    assert lead_ns(cold, 20 * SECOND_NS) == 20 * SECOND_NS + 1
    assert least_lead_ns(cold, 100 * SECOND_NS, 129 * SECOND_NS) == lead_ns(cold, 100 * SECOND_NS)
    assert least_lead_ns(cold, 100 * SECOND_NS, 131 * SECOND_NS) == 10 * SECOND_NS


def test_the_bound_on_the_score_is_the_optimum_where_that_is_plain() -> None:
    assert bound([(0, 6)], 1.0) == pytest.approx(36)
    # Two alike at once: one worker for both makes one wait 6 s, two workers cost another start.
    assert bound([(0, 6), (0, 6)], 1.0) == pytest.approx(30 + 12 + 6)
    assert bound([(0, 6), (0, 6)], 10.0) == pytest.approx(2 * 36)
    # A gap of 10 s: idle through it, or at a low price let the first wait for the second.
    assert bound([(0, 6), (16, 6)], 1.0) == pytest.approx(30 + 12 + 10)
    assert bound([(0, 6), (16, 6)], 0.2) == pytest.approx(30 + 12 + 0.2 * 10)
    assert bound([(0, 6), (500, 6)], 5.0) == pytest.approx(72)


def test_a_baseline_serves_for_nothing() -> None:
    assert bound([(0, 6), (100, 6)], 1.0, Setup(1, 5)) == pytest.approx(0)
    assert bound([(0, 6), (0, 6)], 1.0, Setup(1, 5)) == pytest.approx(6), "the second waits 6 s, or costs 36"
    assert bound([(0, 60), (0, 60)], 5.0, Setup(1, 5)) == pytest.approx(90), "a worker of its own: 30 + 60"


def test_beyond_the_baseline_s_slots_time_has_a_price() -> None:
    """Two baseline slots, four requests at once: a second worker of two slots for the other two."""
    crew = Setup(1, 5, 2)
    burst = [(0.0, 60.0)] * 4
    assert bound(burst, 5.0, crew) == pytest.approx(30 + 60)
    assert bound(burst, 0.1, crew) == pytest.approx(0.1 * 2 * 60), "or waiting, where that is cheaper"
    again = [(70.0, 60.0)] * 4
    assert bound(burst + again, 5.0, crew) == pytest.approx(30 + 60 + 10 + 60), "it stays through the gap"
    assert bound(burst + [(500.0, 60.0)] * 4, 5.0, crew) == pytest.approx(2 * (30 + 60))


def test_a_higher_price_of_waiting_never_lowers_the_bound() -> None:
    dice = Random(5)
    requests = [(dice.uniform(0, 900), dice.uniform(1, 40)) for _ in range(60)]
    for setup in (ONE, Setup(1, 5), Setup(2, 5, 4)):
        found = [bound(requests, price, setup) for price in (0.1, 0.2, 0.5, 1, 2, 5, 20)]
        assert found == sorted(found)


def small_case(dice: Random) -> tuple[Trace, Setup]:
    at_s, requests = 0.0, []
    for _ in range(dice.randint(1, 25)):
        at_s += dice.choice([0.0, dice.expovariate(1 / 5), dice.expovariate(1 / 60), dice.expovariate(1 / 400)])
        requests.append((at_s, dice.choice([0.5, dice.expovariate(1 / 20) + 0.1, 19.0])))
    return trace_of("small", requests), Setup(
        dice.choice([0, 0, 1, 1, 2]), dice.choice([3, 5, 10]), dice.choice([1, 1, 2, 4])
    )


@pytest.mark.parametrize("states", [32, 3, 1])
@pytest.mark.parametrize("part", range(4))
def test_no_policy_is_below_a_bound(part: int, states: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few sessions are followed: merging them may only lower a bound."""
    monkeypatch.setattr(bounds, "STATES_MAX", states)
    nearest = 100.0
    for seed in range(part * 12, part * 12 + 12):
        dice = Random(seed)
        trace, setup = small_case(dice)
        cold = ColdStarts(dice.choice([5.0, 30.0, 120.0]), seed)
        zero_s = zero_wait_ns(trace, setup, cold) / SECOND_NS
        prices = {price: cost_bound(trace, setup, cold, price) for price in (0.2, 1.0, 5.0)}
        for each in dice.sample(FIXED, 10) + dice.sample(RIVALS, 3):
            outcome = each.run(trace, setup, cold)
            if outcome.waited_s == 0:
                assert outcome.autoscaled_s >= zero_s - 1e-6, (seed, each.name)
            for price, least in prices.items():
                assert outcome.cost(price) >= least - 1e-6, (seed, each.name, price)
                nearest = min(nearest, outcome.cost(price) / least if least else nearest)
    assert nearest < 1.5, "a bound that nothing comes near says nothing"
