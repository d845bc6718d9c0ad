"""Shadows against costs worked out by hand, and against the light simulator."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contract.endpoint import RequestCount
from orchestrator.core.scaling.shadow import Rule, Shadow, Shape, Times, born, play
from orchestrator.simulator.light import ColdStarts, Setup, following, simulate
from orchestrator.simulator.traces import trace_of


def played(rule: Rule, shape: Shape, arrivals_s: list[float], service_s: float = 10.0, cold_s: float = 30.0) -> Shadow:
    return play(born(shape, 0.0), rule, shape, arrivals_s, Times((service_s,), (cold_s,)))


def test_a_worker_that_is_not_kept_starts_cold_for_every_request() -> None:
    """30 s of cold start and 10 s of work, twice; each of the two waited for the cold start."""
    shadow = played(Rule(1, 0), Shape(0, 1, 1), [0, 100, 200])
    assert (shadow.worked_s, shadow.waited_s) == (80, 60)


def test_a_worker_that_is_kept_pays_for_idle_time_and_saves_the_wait() -> None:
    """Ready at 30, idle from 40, serves at once from 100 to 110, still there at 200."""
    shadow = played(Rule(1, 100), Shape(0, 1, 1), [0, 100, 200])
    assert (shadow.worked_s, shadow.waited_s) == (200, 30)


def test_fill_says_how_many_share_a_worker() -> None:
    """Two for one worker, so the third starts a second one, at 2. At 30: one served, at 32: the second, the third waits
    for the first answer, at 40. The second worker goes at 42, when its request is answered, the first one at 50."""
    shadow = played(Rule(2, 0), Shape(0, 2, 1), [0, 1, 2, 100])
    assert shadow.worked_s == (50 - 0) + (42 - 2)
    assert shadow.waited_s == 30 + (32 - 1) + (40 - 2)


def test_a_spare_worker_is_there_while_there_is_a_request() -> None:
    """Two workers for the one request at 0, ready at 30; it ends at 40, and both go. The same again at 100."""
    shadow = played(Rule(1, 0, 1.0, 1), Shape(0, 2, 1), [0, 100, 200])
    assert (shadow.worked_s, shadow.waited_s) == (2 * 80, 60)
    ready = played(Rule(1, 0, 1.0, 1), Shape(1, 3, 1), [0, 35, 200], service_s=50.0)
    assert ready.waited_s == 0, "the second request finds the first one's spare worker"


def test_the_baseline_costs_nothing_and_is_always_there() -> None:
    shadow = played(Rule(1, 0), Shape(1, 2, 1), [0, 5, 200])
    assert shadow.worked_s == 30  # started at 5, ready at 35, by then the baseline has served both: gone at once
    assert shadow.waited_s == 5


def test_a_start_that_nobody_needs_is_called_off() -> None:
    """The baseline serves the request at 0 until 10, then the one at 5, whose own worker was asked for at 5: called off
    at 10. A request that still waits keeps its start: with three at 5, two of the three starts are needed."""
    rule = Rule(1, 0, 1.0, 0, True)
    shadow = played(rule, Shape(1, 4, 1), [0, 5, 200])
    assert (shadow.worked_s, shadow.waited_s) == (10 - 5, 5)
    crowd = played(rule, Shape(1, 4, 1), [0, 5, 5, 5, 12])
    assert len(crowd.starting) == 3, "two that wait, and the one that comes at 12"


def test_each_wait_is_squared_whenever_it_is_over() -> None:
    """Waits of 30, 31 and 38 s, as above; what waited before a portion is known by its arrival."""
    rule, shape, times = Rule(2, 0), Shape(0, 2, 1), Times((10.0,), (30.0,))
    whole = play(born(shape, 0.0), rule, shape, [0, 1, 2, 100], times)
    assert whole.squared_s2 == 30**2 + 31**2 + 38**2 - 31**2 + (32 - 1) ** 2
    begun = play(born(shape, 0.0), rule, shape, [0, 1, 2], times)
    assert play(begun, rule, shape, [100], times, [0, 1, 2]) == whole
    assert play(begun, rule, shape, [100], times, [2]).squared_s2 < whole.squared_s2


def test_starts_of_one_minute_take_equally_long_those_of_the_next_have_their_own_luck() -> None:
    """The starts at 0 and 10 take 100 s, the one at 70 takes 20 s and is there first, at 90."""
    shape, times = Shape(0, 3, 1), Times((10.0,), (100.0, 20.0))
    shadow = play(born(shape, 0.0), Rule(1, 0), shape, [0, 10, 70, 95], times)
    assert shadow.starting == (100.0, 110.0)
    assert shadow.waited_s == 90 + 85 + 25


def test_never_more_than_the_maximum() -> None:
    shadow = played(Rule(1, 0), Shape(0, 3, 2), [0.0] * 50 + [29.0])
    assert len(shadow.starting) == 3
    assert shadow.worked_s == 3 * 29


@given(
    gaps_s=st.lists(st.floats(0, 200), min_size=1, max_size=60),
    fill=st.sampled_from([0.5, 1.0, 2.0, 4.0]),
    keep_s=st.sampled_from([0.0, 15.0, 300.0]),
    shape=st.sampled_from([Shape(0, 1, 1), Shape(0, 5, 1), Shape(2, 4, 4)]),
    cancels=st.booleans(),
    in_bursts=st.booleans(),
    cuts=st.lists(st.integers(0, 60), max_size=4),
)
def test_portions_do_not_matter(
    gaps_s: list[float], fill: float, keep_s: float, shape: Shape, cancels: bool, in_bursts: bool, cuts: list[int]
) -> None:
    """However the arrivals are split into calls, the shadow comes out the same; nothing is lost and no sum falls."""
    rule, times = Rule(fill, keep_s, 0.5, 0, cancels, in_bursts), Times((3.0, 40.0, 0.5), (20.0, 5.0, 200.0), 14.5)
    arrivals_s = [sum(gaps_s[: n + 1]) for n in range(len(gaps_s))]
    whole = play(born(shape, 0.0), rule, shape, arrivals_s, times)
    shadow, at = born(shape, 0.0), 0
    for cut in sorted({min(cut, len(arrivals_s)) for cut in cuts} | {len(arrivals_s)}):
        before = shadow
        shadow, at = play(shadow, rule, shape, arrivals_s[at:cut], times, arrivals_s[:at]), cut
        assert shadow.worked_s >= before.worked_s
        assert shadow.waited_s >= before.waited_s
    assert shadow == whole
    assert shadow.dispatched + shadow.queued == len(arrivals_s)
    assert shape.baseline <= shadow.ready + len(shadow.starting) <= shape.maximum
    assert len(shadow.running) <= shadow.ready * shape.slots


@pytest.mark.parametrize(("value", "idle_s"), [(1, 0), (1, 60), (3, 20)])
@pytest.mark.parametrize("baseline", [0, 1])
def test_a_shadow_comes_close_to_the_simulator(value: int, idle_s: int, baseline: int) -> None:
    """The same rule on the same traffic: what the shadow believes and what the executor's model measures. A shadow
    packs requests, the executor goes round robin over those it wants: that, and no more, may lie between them."""
    dice = Random(7)
    arrivals_s, at = [], 0.0
    for _ in range(600):
        at += dice.expovariate(1 / 20)
        arrivals_s.append(at)
    services_s = tuple(dice.uniform(5, 40) for _ in range(600))
    setup = Setup(baseline, 5, 1, idle_s)
    trace = trace_of("poisson", zip(arrivals_s, services_s, strict=True))
    outcome = simulate(trace, setup, following(RequestCount(value=value)), ColdStarts(30.0, sigma=0.0))
    rule, shape = Rule(value, idle_s), Shape(baseline, 5, 1)
    shadow = play(born(shape, 0.0), rule, shape, [*arrivals_s, at + 10_000], Times(services_s, (30.0,)))
    assert shadow.worked_s == pytest.approx(outcome.autoscaled_s, rel=0.12)
    assert shadow.waited_s == pytest.approx(outcome.waited_s, rel=0.12)
