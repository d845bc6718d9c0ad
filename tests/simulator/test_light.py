"""The light simulator: cases computed by hand, and properties of every run."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.endpoint import Auto, Concurrency, QueueDelay, RequestCount, ScalingPolicy
from orchestrator.core.scaling import Decision, Memory, Observation
from orchestrator.core.scaling.view import QUEUE_SEEN_MAX, Reason
from orchestrator.simulator.light import (
    ColdStarts,
    Follow,
    Outcome,
    RequestsStarved,
    Ring,
    Setup,
    following,
    simulate,
)
from orchestrator.simulator.traces import Trace, trace_of

EXACT = ColdStarts(30.0, sigma=0.0)
WHY = Reason("test", "test", {})


def seconds(outcome: Outcome) -> list[float]:
    return [wait_ns / SECOND_NS for wait_ns in outcome.waits_ns]


def steps(outcome: Outcome) -> list[tuple[float, int]]:
    return [(at_ns / SECOND_NS, live) for at_ns, live in outcome.steps]


def wanting(desired: int, **more: int | bool | None) -> Follow:
    return lambda seen: Decision(desired, WHY, Memory(), **more)  # type: ignore[arg-type]


def on_demand(seen: Observation) -> Decision:
    return Decision(-(-(seen.queued + seen.running) // seen.slots), WHY, Memory())


def run(
    requests: list[tuple[float, float]], setup: Setup, policy: ScalingPolicy | Follow, ring: Ring = "reserve"
) -> Outcome:
    follow = policy if callable(policy) else following(policy)
    return simulate(trace_of("t", requests), setup, follow, EXACT, ring=ring)


def test_one_request_pays_its_cold_start_its_service_and_the_idle_timeout() -> None:
    outcome = run([(0.0, 6.0)], Setup(0, 5, idle_timeout_s=10), RequestCount(value=1))
    assert seconds(outcome) == [30.0]
    assert steps(outcome) == [(0.0, 1), (46.0, 0)]
    assert outcome.autoscaled_s == 30 + 6 + 10
    assert outcome.autoscaled_u == 46 * 4_240
    assert (outcome.cold_starts, outcome.idle_starts, outcome.baseline_u) == (1, 0, 0)


def test_a_baseline_serves_at_once_and_is_billed_by_the_hour() -> None:
    outcome = run([(0.0, 6.0), (1.0, 6.0), (3599.0, 1.0)], Setup(2, 5), RequestCount(value=1))
    assert seconds(outcome) == [0.0, 0.0, 0.0]
    assert (outcome.autoscaled_ns, outcome.cold_starts) == (0, 0)
    assert outcome.baseline_u == 2 * 2_670_000
    assert outcome.ended_ns == 3600 * SECOND_NS


def test_first_come_first_served_by_the_first_worker_with_room() -> None:
    outcome = run([(0.0, 10.0), (1.0, 2.0), (2.0, 5.0), (3.0, 1.0)], Setup(1, 1, 2), RequestCount(value=1))
    assert seconds(outcome) == [0.0, 0.0, 1.0, 5.0]


def test_the_queue_delay_policy_adds_the_second_worker_after_four_seconds() -> None:
    outcome = run([(0.0, 100.0), (1.0, 100.0)], Setup(1, 3, idle_timeout_s=10), QueueDelay())
    assert seconds(outcome) == [0.0, 34.0]
    # Still waiting 4 s after that addition, it gets no other one: its slot is on the way. Idle at 135 s, gone at 145 s.
    assert steps(outcome) == [(0.0, 1), (5.0, 2), (145.0, 1)]
    assert outcome.idle_starts == 0


def test_starts_of_one_minute_share_their_luck_and_every_policy_meets_the_same() -> None:
    cold = ColdStarts(30.0, seed=7)
    first = cold.duration_ns(61 * SECOND_NS)
    assert cold.duration_ns(119 * SECOND_NS) == first != cold.duration_ns(120 * SECOND_NS)
    assert ColdStarts(30.0, seed=7).duration_ns(61 * SECOND_NS) == first
    assert ColdStarts(30.0, seed=8).duration_ns(61 * SECOND_NS) != first


def test_a_start_takes_what_its_minute_brings() -> None:
    cold = ColdStarts(30.0, seed=7)
    outcome = simulate(trace_of("t", [(0.0, 5.0), (600.0, 5.0)]), Setup(0, 1), on_demand, cold)
    assert outcome.waits_ns == [cold.duration_ns(0), cold.duration_ns(600 * SECOND_NS)]


def test_cold_starts_keep_their_median_and_their_limits() -> None:
    for median_s in (5.0, 30.0, 120.0, 400.0):
        cold = ColdStarts(median_s, seed=1)
        drawn = sorted(cold.duration_ns(minute * 60 * SECOND_NS) / SECOND_NS for minute in range(2_001))
        assert drawn[0] >= 5.0
        assert drawn[-1] <= 500.0
        assert drawn[1_000] == pytest.approx(median_s, rel=0.06)


def test_round_robin_runs_over_the_wanted_workers_and_the_reserve_idles_out() -> None:
    """Three workers after a burst, then one request every 8 s: round robin over all of them keeps each one fresh
    (24 s between turns, idle timeout 30 s); the reserve ring keeps one."""
    burst = [(0.0, 5.0), (0.0, 5.0), (0.0, 5.0)]
    light = [(40.0 + 8.0 * i, 2.0) for i in range(100)]
    setup = Setup(0, 3, idle_timeout_s=30)
    plain = run([*burst, *light], setup, on_demand, "plain")
    reserve = run([*burst, *light], setup, on_demand)
    assert seconds(plain) == seconds(reserve)
    end_s = 40 + 8 * 99 + 2
    assert plain.autoscaled_s == 3 * (end_s + 30) - 8 - 16
    assert reserve.autoscaled_s == (end_s + 30) + 2 * (35 + 30)


def test_a_reserve_takes_a_burst_at_once() -> None:
    outcome = run([(0.0, 5.0), (0.0, 5.0), (40.0, 5.0), (40.0, 5.0)], Setup(0, 2, idle_timeout_s=60), on_demand)
    assert seconds(outcome) == [30.0, 30.0, 0.0, 0.0]
    assert outcome.cold_starts == 2


def test_keep_ns_replaces_the_idle_timeout_and_wake_ns_is_honoured() -> None:
    def follow(seen: Observation) -> Decision:
        busy = seen.queued + seen.running
        return Decision(1 if busy else 0, WHY, Memory(), keep_ns=3 * SECOND_NS)

    assert run([(0.0, 6.0)], Setup(0, 1, idle_timeout_s=300), follow).autoscaled_s == 30 + 6 + 3
    woken: list[int] = []

    def sleeper(seen: Observation) -> Decision:
        woken.append(seen.now_ns)
        return Decision(1, WHY, Memory(), wake_ns=20 * SECOND_NS if seen.now_ns < 20 * SECOND_NS else None)

    run([(0.0, 6.0)], Setup(1, 1), sleeper)
    assert 20 * SECOND_NS not in woken, "nothing is left to decide once all is served and no autoscaled worker is there"
    woken.clear()
    run([(0.0, 60.0)], Setup(1, 1), sleeper)
    assert woken == [0, 20 * SECOND_NS, 60 * SECOND_NS]


def test_with_keep_ns_0_starts_that_no_waiter_needs_are_cancelled_youngest_first() -> None:
    def follow(seen: Observation) -> Decision:
        busy = min(1, seen.queued + seen.running)
        return Decision(4 if seen.now_ns == 0 else busy, WHY, Memory(), keep_ns=0)

    outcome = run([(0.0, 1.0), (0.5, 1.0)], Setup(0, 4), follow)
    # At 0.5 s two wait and four start: two starts stay, though only one worker is wanted.
    assert steps(outcome)[:2] == [(0.0, 4), (0.5, 2)]
    assert outcome.idle_starts == 2
    assert seconds(outcome) == [30.0, 29.5]
    assert outcome.autoscaled_s == 2 * 0.5 + 2 * 31


def test_the_oldest_start_is_kept() -> None:
    def follow(seen: Observation) -> Decision:
        at_s = seen.now_ns // SECOND_NS
        desired = 2 if at_s < 10 or at_s >= 20 else 4
        busy = seen.queued + seen.running
        return Decision(desired if busy else 0, WHY, Memory(), wake_ns=(at_s // 10 + 1) * 10 * SECOND_NS, keep_ns=0)

    outcome = run([(0.0, 1.0), (0.0, 1.0)], Setup(0, 4), follow)
    assert steps(outcome)[:3] == [(0.0, 2), (10.0, 4), (20.0, 2)]
    assert outcome.autoscaled_s == 2 * 31 + 2 * 10


def test_when_the_policy_is_asked() -> None:
    """At once when work begins and when a worker becomes idle; within a tick of what nothing waits for."""
    asked: list[float] = []

    def follow(seen: Observation) -> Decision:
        asked.append(seen.now_ns / SECOND_NS)
        return Decision(1, WHY, Memory())

    run([(0.0, 0.2), (0.1, 0.02), (0.3, 0.5), (0.35, 0.6), (0.5, 0.1)], Setup(1, 1, 4), follow)
    assert asked == [0.0, 0.2, 0.3, 0.55, 0.8, 0.95]


def test_a_wake_in_the_past_means_the_next_tick() -> None:
    def follow(seen: Observation) -> Decision:
        return Decision(1, WHY, Memory(), wake_ns=seen.now_ns - 5)

    assert run([(0.0, 10.0)], Setup(1, 1), follow).asked == 10 * 4 + 1


def test_the_longest_running_worker_is_needed_most_whichever_was_ready_first() -> None:
    cold = ColdStarts(30.0, drawn={0: 90 * SECOND_NS, 1: 5 * SECOND_NS})
    trace = trace_of("t", [(0.0, 10.0), (60.0, 10.0), (95.0, 2.0)])
    outcome = simulate(trace, Setup(0, 2, idle_timeout_s=30), on_demand, cold)
    # The second one is ready at 65 s, serves both and rests from 85 s on; the first, ready at 90 s, has the third.
    assert steps(outcome) == [(0.0, 1), (60.0, 2), (115.0, 1), (127.0, 0)]


def test_a_decision_that_is_not_valid_keeps_what_there_is() -> None:
    def follow(seen: Observation) -> Decision:
        if seen.now_ns == 0:
            return Decision(2, WHY, Memory(), wake_ns=SECOND_NS)
        late = seen.now_ns >= 50 * SECOND_NS
        return Decision(3 if late else 0, WHY, Memory(), keep_ns=0, valid=late)

    outcome = run([(0.0, 6.0), (60.0, 1.0)], Setup(0, 3), follow)
    assert steps(outcome)[:2] == [(0.0, 2), (60.0, 3)]


def test_the_maximum_and_the_baseline_hold_whatever_is_wanted() -> None:
    requests = [(float(i), 3.0) for i in range(20)]
    assert max(live for _, live in run(requests, Setup(1, 4), wanting(1_000)).steps) == 4
    assert run(requests, Setup(1, 4), wanting(-5)).steps == [(0, 1)]


def test_a_policy_that_never_rests_is_cut_off_an_hour_after_the_last_answer() -> None:
    outcome = run([(0.0, 6.0)], Setup(0, 2), wanting(2))
    assert outcome.autoscaled_s == 2 * (30 + 6 + 3600)
    assert steps(outcome)[-1] == (3636.0, 0)


def test_a_policy_that_wants_nobody_is_an_error_not_a_short_list_of_waits() -> None:
    with pytest.raises(RequestsStarved, match="2 requests wait for ever"):
        run([(0.0, 6.0), (1.0, 6.0)], Setup(0, 2), wanting(0))


def test_no_requests_cost_nothing() -> None:
    outcome = run([], Setup(0, 2), QueueDelay())
    assert (outcome.waits_ns, outcome.autoscaled_ns, outcome.wait_s(95), outcome.steps) == ([], 0, 0.0, [(0, 0)])


def test_what_a_policy_is_shown() -> None:
    shown: list[Observation] = []

    def follow(seen: Observation) -> Decision:
        shown.append(seen)
        return on_demand(seen)

    outcome = run([(0.0, 6.0), (2.0, 7.0), (45.0, 1.0)], Setup(0, 2, 1, idle_timeout_s=20), follow)
    assert sum(seen.arrived for seen in shown) == 3
    assert [at for seen in shown for at in seen.arrivals] == [0, 2 * SECOND_NS, 45 * SECOND_NS]
    assert sorted(ns for seen in shown for ns in seen.served) == [1 * SECOND_NS, 6 * SECOND_NS, 7 * SECOND_NS]
    assert [ns for seen in shown for ns in seen.cold_starts] == [30 * SECOND_NS, 30 * SECOND_NS]
    first, second = shown[:2]
    assert (first.queued, first.queue, first.ready, first.running) == (1, (0,), 0, 0)
    assert first.idle_timeout_ns == 20 * SECOND_NS
    assert (first.baseline_uh, first.autoscale_uh) == (2_670_000, 15_264_000)
    # The second request does not begin a queue; the last question was more than a tick ago, so it is told at once.
    assert (second.now_ns, second.queue, second.starting) == (2 * SECOND_NS, (0, 2 * SECOND_NS), (0,))
    idle = next(seen for seen in shown if seen.idle_since)
    assert idle.idle_since == (36 * SECOND_NS,)
    assert idle.running_since == (32 * SECOND_NS,)
    assert outcome.asked == len(shown)


def test_the_baseline_s_cold_starts_are_told_first_as_the_live_system_does() -> None:
    told: list[tuple[int, ...]] = []

    def follow(seen: Observation) -> Decision:
        told.append(seen.cold_starts)
        return on_demand(seen)

    run([(0.0, 6.0), (10.0, 6.0)], Setup(2, 5), follow)
    assert told[0] == (30 * SECOND_NS, 30 * SECOND_NS)
    assert not any(told[1:])


def test_a_long_queue_is_shown_by_its_oldest() -> None:
    shown: list[Observation] = []

    def follow(seen: Observation) -> Decision:
        shown.append(seen)
        return Decision(1, WHY, Memory())

    count = QUEUE_SEEN_MAX + 50
    run([(0.001 * i, 0.01) for i in range(count)], Setup(0, 1), follow)
    longest = max(shown, key=lambda seen: seen.queued)
    assert longest.queued == count
    assert longest.queue == tuple(1_000_000 * i for i in range(QUEUE_SEEN_MAX))


REQUESTS = st.lists(
    st.tuples(st.floats(0, 2_000).map(lambda s: round(s, 2)), st.floats(0.01, 90).map(lambda s: round(s, 2))),
    min_size=1,
    max_size=40,
)
POLICIES: list[ScalingPolicy] = [QueueDelay(), RequestCount(value=2), Concurrency(), Auto(), Auto(wait_price=5.0)]


@settings(max_examples=60, deadline=None)
@given(
    REQUESTS,
    st.sampled_from([Setup(0, 3), Setup(1, 4, 2), Setup(2, 2), Setup(0, 10, 1, 60.0)]),
    st.sampled_from(POLICIES),
    st.sampled_from(["reserve", "plain"]),
    st.integers(0, 5),
)
def test_every_run_keeps_its_promises(
    requests: list[tuple[float, float]], setup: Setup, policy: ScalingPolicy, ring: Ring, seed: int
) -> None:
    trace = trace_of("t", requests)
    outcome = simulate(trace, setup, following(policy), ColdStarts(30.0, seed), ring=ring)
    assert outcome == simulate(trace, setup, following(policy), ColdStarts(30.0, seed), ring=ring)
    assert len(outcome.waits_ns) == len(trace)
    starts = [at + wait for at, wait in zip(trace.arrival_ns, outcome.waits_ns, strict=True)]
    assert starts == sorted(starts), "first come, first served"
    assert min(outcome.waits_ns) >= 0
    assert all(setup.baseline <= live <= setup.maximum for _, live in outcome.steps)
    ends = [start + service for start, service in zip(starts, trace.service_ns, strict=True)]
    assert outcome.ended_ns == max(ends)
    for at in starts:
        assert sum(start <= at < end for start, end in zip(starts, ends, strict=True)) <= setup.maximum * setup.slots
    assert outcome.autoscaled_ns == _area(outcome, setup)
    assert outcome.cold_starts >= outcome.idle_starts


def _area(outcome: Outcome, setup: Setup) -> int:
    """Autoscaled worker-time from the steps alone."""
    total = 0
    for (at, live), (until, _) in zip(outcome.steps, outcome.steps[1:], strict=False):
        total += (live - setup.baseline) * (until - at)
    assert outcome.steps[-1][1] == setup.baseline
    return total


def test_percentiles_and_workers_at_an_instant() -> None:
    outcome = run([(0.0, 6.0)], Setup(0, 5), RequestCount(value=1))
    assert [outcome.workers_at(round(at * SECOND_NS)) for at in (0, 45.9, 46, 99)] == [1, 1, 0, 0]
    many = run([(float(i), 10.0) for i in range(10)], Setup(1, 1), RequestCount(value=1))
    assert seconds(many) == [9.0 * i for i in range(10)]
    assert many.wait_percentiles_s(50, 90, 91, 100) == (36.0, 72.0, 81.0, 81.0)
    assert many.waited_s == 405.0
    assert many.cost(0.2) == pytest.approx(81.0)


DIGEST = """
import hashlib
from orchestrator.contract.endpoint import QueueDelay
from orchestrator.simulator.light import ColdStarts, Setup, following, simulate
from orchestrator.simulator.traces import Shape
trace = Shape("diurnal", 20, 20_000, 8).draw(3)
outcome = simulate(trace, Setup(1, 5), following(QueueDelay()), ColdStarts(30, 2))
print(hashlib.sha256(repr((trace, outcome)).encode()).hexdigest())
"""


def test_a_run_is_the_same_in_every_process() -> None:
    said = {
        subprocess.run(
            [sys.executable, "-c", DIGEST],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_the_trace_need_not_begin_at_zero() -> None:
    later = Trace("later", (1_000 * SECOND_NS,), (6 * SECOND_NS,))
    outcome = simulate(later, Setup(0, 1), following(RequestCount(value=1)), EXACT)
    assert seconds(outcome) == [30.0]
