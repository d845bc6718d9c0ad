"""Recorded traffic under other settings: the table, the Pareto set, the levels, the sentence."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.endpoint import Auto, Concurrency, QueueDelay, RequestCount
from orchestrator.core.history import Requests
from orchestrator.core.pricing import Price
from orchestrator.simulator.light import ColdStarts, Setup, following, simulate
from orchestrator.simulator.traces import Trace, trace_of
from orchestrator.simulator.whatif import (
    Option,
    Recording,
    Result,
    TooLittle,
    advised_baseline,
    caution,
    cold_starts_of,
    levels,
    mark_best,
    options,
    recommend,
    recording_of,
    replay,
)

L40 = Price(baseline_uh=2_670_000, autoscale_uh=15_264_000)
NOW = Option(0, 3, 10, QueueDelay())
THRIFTY = Option(0, 3, 10, RequestCount())
"""One worker for every four requests."""
COLD = ColdStarts(20.0)


def steady(rpm: float, service_s: float, hours: float) -> Trace:
    dice = random.Random(f"{rpm}/{service_s}")
    at_s, requests = 0.0, []
    while at_s < hours * 3_600:
        at_s += dice.expovariate(rpm / 60)
        requests.append((at_s, service_s))
    return trace_of("steady", requests)


def whole(trace: Trace, quiet_s: float = 0.0) -> Recording:
    """The trace as a recording that ends with its last arrival, or `quiet_s` seconds later."""
    return Recording(trace, 0, trace.arrival_ns[-1] + 1 + int(quiet_s * SECOND_NS), 1)


BUSY, SPARSE = whole(steady(6, 6, 1.0)), whole(steady(0.2, 6, 12.0))


def test_every_row_is_what_the_simulator_says() -> None:
    tried = [NOW, Option(1, 3, 10, QueueDelay()), Option(1, 3, 60, RequestCount(value=1))]
    results = replay(SPARSE, tried, 1, L40, COLD, seeds=2)
    assert [r.option for r in results] == tried
    for result in results:
        runs = [
            simulate(
                SPARSE.trace,
                Setup(result.option.baseline, 3, 1, result.option.idle_timeout_s, L40),
                following(result.option.policy),
                replace(COLD, seed=seed, drawn={}),
            )
            for seed in range(result.seeds)
        ]
        assert result.cost_u == pytest.approx(sum(r.autoscaled_u + r.baseline_u for r in runs) / len(runs), abs=2)
        assert result.wait_p95_s == pytest.approx(sum(r.wait_s(95) for r in runs) / len(runs))
        assert result.cold_starts == sum(r.cold_starts for r in runs) / len(runs)
    assert results[0].seeds == 2, "the setting of now is always run again"


def test_the_best_are_those_that_nothing_beats() -> None:
    def result(cost_u: int, wait_s: float) -> Result:
        return Result(NOW, cost_u, 0, 0, 0, wait_s, 0, 0, 0, 1)

    points = [(10, 5.0), (12, 4.0), (12, 4.5), (9, 6.0), (11, 5.0), (10, 5.0)]
    marked = mark_best([result(*point) for point in points])
    assert [r.best for r in marked] == [True, True, False, True, False, False]


def test_busy_traffic_wants_a_baseline_and_sparse_traffic_none() -> None:
    """0.6 of a worker all day is on far above 17.5% of the time; 2% is far below."""
    tried = [THRIFTY, *(replace(THRIFTY, baseline=b) for b in (1, 2))]
    busy, sentence = recommend(replay(BUSY, tried, 1, L40, COLD, seeds=1))
    assert busy.option.baseline >= 1
    assert sentence.startswith(f"Take {busy.option.name}: ")
    assert "cheaper than now" in sentence
    sparse, sentence = recommend(replay(SPARSE, tried, 1, L40, COLD, seeds=1))
    assert sparse.option == THRIFTY
    assert sentence == "Keep 0-3 request_count:4 idle 10 s: nothing tried is cheaper without longer waits."


def test_a_wanted_wait_costs_what_it_costs() -> None:
    tried = [THRIFTY, *(replace(THRIFTY, baseline=b) for b in (1, 2, 3))]
    results = replay(SPARSE, tried, 1, L40, COLD, seeds=1)
    quick, sentence = recommend(results, 1.0)
    assert quick.wait_p95_s <= 1.0
    assert "dearer than now" in sentence
    never, sentence = recommend(results, -1.0)
    assert sentence.startswith("Nothing tried keeps the p95 wait at -1.0 s; ")
    assert never.wait_p95_s == min(r.wait_p95_s for r in results)


def test_levels_say_where_the_price_ratio_lies() -> None:
    found = levels(BUSY, THRIFTY, 1, L40, COLD)
    assert [level.number for level in found] == list(range(1, len(found) + 1))
    first = found[0]
    assert first.on > 0.5
    assert first.by_rule
    assert first.saves_uh > 0
    assert first.on_demand_uh == round(15_264_000 * first.on)
    rare = levels(SPARSE, THRIFTY, 1, L40, COLD)[0]
    assert 0.05 < rare.on < 0.175
    assert not rare.by_rule
    assert rare.saves_uh < 0


def test_the_replay_knows_what_the_price_ratio_does_not() -> None:
    """Four requests come within one cold start, and each gets a worker of its own: one that is always there serves them
    one after the other, and pays although any is needed for less than 17.5% of the time."""
    clumps = trace_of("clumps", [(600.0 * clump + 8.0 * n, 6.0) for clump in range(20) for n in range(4)])
    level = levels(whole(clumps), replace(THRIFTY, policy=RequestCount(value=1)), 1, L40, COLD)[0]
    assert not level.by_rule
    assert level.saves_uh > 0


def test_what_is_tried_when_nobody_says() -> None:
    tried = options(NOW)
    assert tried[0] == NOW
    assert len(tried) == len(set(tried))
    assert {o.policy.kind for o in tried} == {"queue_delay", "request_count", "concurrency", "auto"}
    assert {o.baseline for o in tried} == {0, 1, 2, 3}
    assert {o.maximum for o in tried} == {3}
    assert {o.idle_timeout_s for o in tried if isinstance(o.policy, QueueDelay)} == {10, 60, 300}
    assert {o.idle_timeout_s for o in tried if isinstance(o.policy, Auto | Concurrency)} == {10}


def test_a_baseline_that_the_levels_advise_is_tried() -> None:
    """Else the table would call a fourth worker cheaper as baseline, and the advice would stop at three."""
    found = levels(whole(steady(40, 6, 0.5)), Option(0, 6, 10, QueueDelay()), 1, L40, COLD)
    advised = advised_baseline(found)
    assert advised > 3
    assert all(level.saves_uh > 0 for level in found[:advised])
    assert advised in {o.baseline for o in options(Option(0, 6, 10, QueueDelay()), advised=advised)}
    assert {o.baseline for o in options(NOW, baselines=[1], advised=2)} == {NOW.baseline, 1}, (
        "who names some gets these"
    )


def test_what_is_tried_when_somebody_says() -> None:
    tried = options(NOW, baselines=[1, 2], maxima=[1, 4], idle_timeouts_s=[30], policies=[Auto(wait_p95_s=2)])
    assert tried[0] == NOW
    assert [(o.baseline, o.maximum) for o in tried[1:]] == [(1, 1), (1, 4), (2, 4)]
    assert {o.name for o in tried[1:]} >= {"2-4 auto:2"}


def test_a_request_of_unknown_service_takes_as_long_as_the_middle_one() -> None:
    count = 25
    requests = Requests([n * SECOND_NS + 7 for n in range(count)], [0, *range(1, count)])
    trace = recording_of("echo", requests, 7, 0).trace
    assert trace.arrival_ns[0] == 0
    assert trace.service_ns[0] == 13
    assert trace.service_ns[1:] == tuple(range(1, count))


def test_too_little_traffic_is_said() -> None:
    with pytest.raises(TooLittle, match="echo: 3 requests are recorded, at least 20"):
        recording_of("echo", Requests([1, 2, 3], [1, 1, 1]), 0, 4)
    with pytest.raises(TooLittle):
        recording_of("echo", Requests(list(range(30)), [0] * 30), 0, 30)


def test_a_recording_holds_the_quiet_time_around_its_requests() -> None:
    even = [(600 + n * 6) * SECOND_NS for n in range(100)]
    requests = Requests(even, [3 * SECOND_NS] * 100)
    found = recording_of("echo", requests, 0, 1_800 * SECOND_NS)
    assert found.trace.arrival_ns[0] == 600 * SECOND_NS
    assert found.span_ns == 1_800 * SECOND_NS
    assert found.rpm == pytest.approx(100 / 30)
    assert found.busiest_minute == 10
    assert found.load == pytest.approx(300 / 1_800)
    inside = recording_of("echo", requests, 700 * SECOND_NS, 800 * SECOND_NS)
    assert (inside.since_ns, inside.until_ns) == (even[0], even[-1] + 1), "no request lies outside"


def test_a_burst_is_no_reason_for_a_baseline_that_waits_for_the_next_one_all_day() -> None:
    """A minute of traffic: by that minute alone three workers that are always on would be cheaper, by the day in which
    it came they cost $8.01 an hour."""
    burst = trace_of("burst", [(n * 1.0, 2.5) for n in range(60)])
    tried = [Option(b, 3, 10, RequestCount(value=1)) for b in range(4)]
    quick = ColdStarts(0.3, sigma=0.0, shortest_s=0.0)
    alone, _ = recommend(replay(whole(burst), tried, 1, L40, quick, seeds=1))
    assert alone.option.baseline == 3
    day = replay(whole(burst, 86_400), tried, 1, L40, quick, seeds=1)
    within, sentence = recommend(day)
    assert within.option.baseline == 0
    assert sentence.startswith("Keep 0-3 ")
    assert day[3].per_hour_u == pytest.approx(3 * L40.baseline_uh, rel=1e-6)
    assert levels(whole(burst, 86_400), tried[0], 1, L40, quick)[0].on < 0.001


def test_what_is_known_of_less_than_a_day_says_so() -> None:
    assert caution(whole(steady(1, 6, 0.5))).startswith("Only 30 min of traffic is recorded")
    assert caution(whole(steady(1, 6, 0.5), 3_600)).startswith("Only 1 h 30 min of traffic")
    assert caution(whole(steady(1, 6, 0.5), 86_400)) == ""


def test_a_wanted_wait_that_is_kept_already_is_said_to_be_kept() -> None:
    tried = [THRIFTY, replace(THRIFTY, baseline=3)]
    results = replay(SPARSE, tried, 1, L40, COLD, seeds=1)
    kept, sentence = recommend(results, 600.0)
    assert (kept.option, sentence) == (
        THRIFTY, f"Keep {THRIFTY.name}: nothing tried is cheaper with a p95 wait of 600.0 s.",
    )  # fmt: skip


def test_cold_starts_follow_the_measured_ones() -> None:
    measured = cold_starts_of([int(s * SECOND_NS) for s in (10, 20, 40)])
    assert measured.median_s == pytest.approx(20)
    drawn = [measured.duration_ns(minute * 60 * SECOND_NS) for minute in range(500)]
    assert 10 * SECOND_NS <= min(drawn) <= max(drawn) <= 40 * SECOND_NS + 1
    assert cold_starts_of([], 33.0).median_s == 33.0
    assert cold_starts_of([7 * SECOND_NS]).sigma == 0
