"""Models of other autoscalers: cases computed by hand from their sources."""

from __future__ import annotations

import pytest

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.endpoint import Concurrency
from orchestrator.core.scaling import Decision, Observation
from orchestrator.simulator.contenders import Contender, contender
from orchestrator.simulator.families import FIXED, always, with_spare
from orchestrator.simulator.light import ColdStarts, Follow, Outcome, Setup, simulate
from orchestrator.simulator.rivals import RIVALS, Hpa, Kpa, Level, RayServe
from orchestrator.simulator.traces import Shape, trace_of

EXACT = ColdStarts(30.0, sigma=0.0)
BY_NAME = {each.name: each for each in RIVALS}


class Watched:
    """An endpoint told by hand: `at` is one question at a second, and answers the workers wanted."""

    def __init__(self, follow: Follow, *, baseline: int = 0, slots: int = 1) -> None:
        self.follow = follow
        self.baseline = baseline
        self.slots = slots
        self.ready = baseline
        self.wake_s: float | None = None

    def at(self, at_s: float, requests: int) -> int:
        held = min(requests, self.ready * self.slots)
        decision = self.follow(
            Observation(
                now_ns=round(at_s * SECOND_NS),
                baseline=self.baseline,
                maximum=10,
                slots=self.slots,
                ready=self.ready,
                queued=requests - held,
                running=held,
            )
        )
        self.wake_s = None if decision.wake_ns is None else decision.wake_ns / SECOND_NS
        return decision.desired


def run(requests: list[tuple[float, float]], setup: Setup, rival: Contender) -> Outcome:
    return rival.run(trace_of("t", requests), setup, EXACT)


def steps(outcome: Outcome) -> list[tuple[float, int]]:
    return [(round(at_ns / SECOND_NS, 3), live) for at_ns, live in outcome.steps]


def test_a_level_is_averaged_over_the_window_or_what_was_recorded_of_it() -> None:
    level = Level(60 * SECOND_NS)
    assert level.mean(60 * SECOND_NS) == 0.0
    level.note(0, 3)
    assert level.mean(60 * SECOND_NS) == 3.0
    level.note(10 * SECOND_NS, 1)
    level.note(20 * SECOND_NS, 1)
    assert level.mean(60 * SECOND_NS) == (30 + 10) / 20
    assert level.mean(6 * SECOND_NS) == 1.0
    assert not level.still(11 * SECOND_NS)
    level.note(65 * SECOND_NS, 1)
    assert level.mean(60 * SECOND_NS) == pytest.approx((3 * 5 + 1 * 55) / 60)
    assert level.mean(60 * SECOND_NS) == level.mean(60 * SECOND_NS)
    level.note(80 * SECOND_NS, 0)
    level.note(200 * SECOND_NS, 0)
    assert level.mean(60 * SECOND_NS) == 0.0
    assert level.still(60 * SECOND_NS)


def test_kpa_asks_for_two_pods_for_one_request_of_a_single_slot() -> None:
    kpa = Watched(Kpa())
    assert kpa.at(1.0, 1) == 2, "ceil(1 / 0.7)"
    assert kpa.wake_s == 2.0
    assert Watched(Kpa(), slots=10).at(1.0, 7) == 1
    assert Watched(Kpa(), slots=10).at(1.0, 8) == 2


def test_kpa_panics_at_twice_what_is_ready_and_holds_its_highest_wish_for_a_minute() -> None:
    kpa = Watched(Kpa(), baseline=2)
    assert kpa.at(0.0, 0) == 1, "half of what is ready"
    assert kpa.at(2.0, 1) == 1, "nothing came in the windows yet"
    # 8 s of 1 request: on average 0.8 since the beginning, 1 in the last 6 s. Both want 2, and 2 are ready: no panic.
    assert kpa.at(10.0, 1) == 2
    kpa.at(10.0, 6)
    # 6 s of 6 requests: ceil(6 / 0.7) = 9 >= 2 x 2 ready: panic. The stable window has (8 x 1 + 6 x 6) / 16.
    assert kpa.at(16.0, 6) == 9
    kpa.at(16.0, 0)
    assert kpa.at(40.0, 0) == 9, "no decrease in a panic"
    kpa.ready = 9
    assert kpa.at(76.0, 0) == 9, "60 s after the last panic wish, not later"
    assert kpa.at(78.0, 0) == 4, "over: the stable average is 0, but at least half of what is ready stays"


def test_kpa_panics_at_exactly_twice_what_is_ready() -> None:
    kpa = Watched(Kpa(1.0), baseline=2)
    kpa.at(0.0, 4)
    kpa.at(6.0, 4)
    kpa.at(6.0, 0)
    assert kpa.at(30.0, 0) == 4, "4 of 2 ready is panic: it holds, though 0.8 on average since the beginning wants 1"
    calm = Watched(Kpa(1.0), baseline=2)
    calm.at(0.0, 3)
    calm.at(6.0, 3)
    calm.at(7.0, 0)
    assert calm.at(66.0, 0) == 1, "(1 s of 3) / 60 s; half of what is ready"


def test_kpa_s_desired_rises_at_most_a_thousandfold_and_falls_at_most_to_half() -> None:
    kpa = Watched(Kpa(), baseline=1)
    kpa.ready = 8
    assert kpa.at(2.0, 0) == 4
    kpa.ready = 4
    assert kpa.at(4.0, 0) == 2
    kpa.ready = 2
    assert kpa.at(6.0, 0) == 1


def test_kpa_scales_to_zero_after_an_empty_window_and_kills_what_it_did_not_need() -> None:
    outcome = run([(0.0, 6.0)], Setup(0, 5), BY_NAME["KPA"])
    # Two pods for one request; it is answered at 36 s. Its 36 s have left the 60 s window at 96 s, the panic of the
    # first second is over long before: the second pod goes when the average is 0.7 or less, both at zero.
    assert steps(outcome)[0] == (0.0, 2)
    assert steps(outcome)[-1] == (96.0, 0)
    assert outcome.idle_starts == 1


@pytest.mark.parametrize("setup", [Setup(0, 5), Setup(1, 6, 4)], ids=str)
def test_our_concurrency_policy_is_the_same_autoscaler_written_twice(setup: Setup) -> None:
    """Buckets of a second there, exact integrals here: what they come to hardly differs."""
    trace = Shape("diurnal", 15 * setup.slots, 6_000, 10).draw(6)
    kpa = BY_NAME["KPA"].run(trace, setup, EXACT)
    ours = contender("concurrency", Concurrency()).run(trace, setup, EXACT)
    assert ours.autoscaled_s == pytest.approx(kpa.autoscaled_s, rel=0.03)
    assert ours.waited_s == pytest.approx(kpa.waited_s, rel=0.1)


def test_an_hpa_adds_by_ratio_at_its_sync_and_removes_after_five_quiet_minutes() -> None:
    hpa = Watched(Hpa(2.0))
    assert hpa.at(1.0, 1) == 1, "from zero at once"
    assert hpa.at(14.0, 9) == 1, "not before the next sync"
    assert hpa.at(15.0, 9) == 5, "ceil(9 / 2)"
    assert hpa.at(30.0, 5) == 5
    assert hpa.at(300.0, 5) == 5
    assert hpa.at(315.0, 5) == 5, "the wish of 5 at 15 s still counts"
    assert hpa.at(330.0, 5) == 3
    # 7 / (2 x 3) = 1.17 is beyond the tolerance, 6.5 would not be; 6 is exactly 3.
    assert hpa.at(345.0, 6) == 3
    assert hpa.at(360.0, 7) == 4


def test_an_hpa_keeps_what_there_is_within_its_tolerance() -> None:
    hpa = Watched(Hpa(20.0))
    hpa.at(0.0, 20)
    assert hpa.at(15.0, 21) == 1, "5% more than one replica is for"
    assert hpa.at(30.0, 23) == 2


def test_an_hpa_goes_to_zero_after_the_cooldown_and_sleeps_until_then() -> None:
    hpa = Watched(Hpa(100.0))
    hpa.at(1.0, 1)
    hpa.at(15.0, 1)
    assert hpa.at(16.0, 0) == 1
    for at_s in range(30, 316, 15):
        assert hpa.at(at_s, 0) == 1
    assert hpa.wake_s == 316.0
    assert hpa.at(315.9, 0) == 1
    assert hpa.at(316.0, 0) == 0
    assert hpa.wake_s is None


def test_an_hpa_steps_up_by_four_or_by_doubling() -> None:
    hpa = Watched(Hpa(1.0))
    hpa.at(0.0, 1)
    assert [hpa.at(15.0, 10), hpa.at(30.0, 10)] == [5, 10]
    single = Watched(Hpa(1.0, step=1))
    single.at(0.0, 1)
    assert [single.at(15.0, 10), single.at(30.0, 10)] == [2, 3]


def test_ray_serve_waits_thirty_seconds_up_and_ten_minutes_down() -> None:
    ray = Watched(RayServe())
    assert ray.at(5.0, 1) == 1, "from zero at once"
    assert ray.at(5.0, 8) == 1
    assert ray.at(20.0, 8) == 1, "8 on average wants 4, since the report at 20 s"
    assert ray.at(49.9, 8) == 1
    assert ray.at(50.0, 8) == 4
    ray.at(51.0, 0)
    assert ray.at(70.0, 0) == 4, "(21 s of 8 requests) / 30 s wants 3"
    assert ray.at(90.0, 0) == 4
    assert ray.at(669.0, 0) == 4
    assert ray.at(670.0, 0) == 1, "from several never straight to zero"
    assert ray.at(671.0, 0) == 1
    assert ray.at(1269.0, 0) == 1
    assert ray.at(1270.0, 0) == 0


def test_ray_serve_s_delay_begins_anew_when_the_wish_changes_sides() -> None:
    ray = Watched(RayServe(look_back_s=10.0), baseline=1)
    ray.at(0.0, 4)
    ray.at(10.0, 4)
    ray.at(11.0, 2)
    assert ray.at(21.0, 2) == 1, "back to what there is at the report of 20 s"
    ray.at(22.0, 4)
    assert ray.at(30.0, 4) == 1, "(2 s of 2 and 8 s of 4) / 10 s wants 2, from this report on"
    assert ray.at(59.9, 4) == 1
    assert ray.at(60.0, 4) == 2


def test_runpod_by_delay_adds_after_four_seconds_and_never_more_than_there_are_requests() -> None:
    outcome = run([(0.0, 60.0), (1.0, 60.0), (2.0, 60.0)], Setup(1, 5), BY_NAME["RunPod delay"])
    assert steps(outcome)[:3] == [(0.0, 1), (5.0, 2), (9.0, 3)]
    assert max(live for _, live in steps(outcome)) == 3
    # Ready at 35 and 39 s, answered at 95 and 99 s, gone 5 s later.
    assert steps(outcome)[3:] == [(100.0, 2), (104.0, 1)]


def test_runpod_by_count_has_no_idle_timeout() -> None:
    outcome = run([(0.0, 6.0)] * 5, Setup(0, 5), BY_NAME["RunPod count"])
    # ceil(5 / 4) = 2 workers; 3 and 2 requests each; a worker goes as soon as the rest needs only one.
    assert steps(outcome) == [(0.0, 2), (48.0, 0)] or steps(outcome) == [(0.0, 2), (42.0, 1), (48.0, 0)]


def test_hf_endpoints_adds_one_a_minute_and_sleeps_after_an_hour() -> None:
    outcome = run([(0.0, 200.0)] * 6, Setup(0, 4), BY_NAME["HF Endpoints"])
    assert [step for step in steps(outcome) if step[0] <= 180] == [(0.0, 1), (60.0, 2), (120.0, 3), (180.0, 4)]
    assert steps(outcome)[-1][1] == 0
    assert steps(outcome)[-1][0] == pytest.approx(outcome.ended_ns / SECOND_NS + 3600, abs=1e-3)


def test_modal_keeps_a_minute_and_the_ten_second_rule_ten_seconds() -> None:
    for name, idle_s in (("Modal", 60), ("10 s idle", 10)):
        outcome = run([(0.0, 6.0), (0.0, 6.0)], Setup(0, 5), BY_NAME[name])
        assert steps(outcome) == [(0.0, 2), (36.0 + idle_s, 0)]
    assert BY_NAME["10 s idle"].ring == "plain"


def test_baseten_removes_nothing_for_fifteen_minutes() -> None:
    outcome = run([(0.0, 30.0), (0.0, 30.0)], Setup(0, 5), BY_NAME["Baseten"])
    high_s = max(at for at, live in steps(outcome) if live == max(live for _, live in steps(outcome)))
    falls = [at for at, live in steps(outcome) if at > high_s]
    assert falls[0] >= high_s + 900


def test_a_standing_crew_and_a_spare_worker() -> None:
    assert always(3)(Observation(now_ns=0, baseline=1, maximum=9, slots=1)).desired == 4
    spare = Watched(with_spare(60.0), slots=2)
    assert [spare.at(0.0, 1), spare.at(1.0, 2), spare.at(2.0, 3)] == [2, 2, 3]
    assert spare.at(10.0, 0) == 1
    assert spare.wake_s == 62.0
    assert spare.at(62.0, 0) == 0


def test_there_are_at_least_fifty_fixed_settings_of_different_names() -> None:
    assert len({each.name for each in FIXED}) == len(FIXED) >= 50


@pytest.mark.parametrize("setup", [Setup(0, 5), Setup(1, 10), Setup(2, 6, 8)], ids=str)
def test_every_contender_serves_everybody_within_its_limits(setup: Setup) -> None:
    trace = Shape("on-off", 20 * setup.slots, 1_500, 10).draw(3)
    for each in (*RIVALS, *FIXED):
        outcome = each.run(trace, setup, ColdStarts(20.0, 1))
        assert len(outcome.waits_ns) == len(trace), each.name
        assert all(setup.baseline <= live <= setup.maximum for _, live in outcome.steps), each.name


@pytest.mark.parametrize("each", [each for each in RIVALS if each.every_change], ids=lambda each: each.name)
def test_further_questions_change_nothing(each: Contender) -> None:
    """Asked at every change or, beside that, four times a second: the same workers at the same times."""
    trace = Shape("spike", 30, 1_500, 6).draw(2)
    setup = Setup(0, 6)

    follow = each.make(setup)

    def hurried(seen: Observation) -> Decision:
        decision = follow(seen)
        soon_ns = seen.now_ns + SECOND_NS // 4
        wake_ns = soon_ns if decision.wake_ns is None else min(decision.wake_ns, soon_ns)
        return decision._replace(wake_ns=wake_ns if seen.live or seen.queued else None)

    calm = simulate(trace, setup, each.make(setup), EXACT, every_change=True)
    asked = simulate(trace, setup, hurried, EXACT, every_change=True)
    assert asked.asked > 2 * calm.asked
    assert asked.waits_ns == calm.waits_ns
    assert asked.steps == calm.steps
