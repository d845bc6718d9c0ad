"""`auto`: sane before it knows anything, better once it does, and never dependent on who asks when."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.endpoint import Auto, Concurrency, QueueDelay, RequestCount, ScalingPolicy
from orchestrator.core.scaling import Memory, Observation, decide, dump, load
from orchestrator.core.scaling.learned import PLAYED_IN_A_ROW, PLAYED_PER_CALL, PLAYED_PER_S, Learned, WaitPrice
from orchestrator.core.scaling.portfolio import rules_for, thinning
from orchestrator.core.scaling.shadow import Rule, Shadow, Shape, play
from orchestrator.core.scaling.wait_price import SHIFT_MAX, price_of
from orchestrator.simulator.light import ColdStarts, Setup, following, simulate
from orchestrator.simulator.traces import Trace, trace_of
from tests.core.observations import Recorder, quiet, recorded, replayed, seen_at

POLICIES: tuple[ScalingPolicy, ...] = (Auto(), Auto(wait_price=1.0), Concurrency(), QueueDelay(), RequestCount())


def poisson(count: int, gap_s: float, service_s: float, seed: int = 3) -> Trace:
    dice = Random(seed)
    at_s, rows = 0.0, []
    for _ in range(count):
        at_s += dice.expovariate(1 / gap_s)
        rows.append((at_s, dice.uniform(0.5, 1.5) * service_s))
    return trace_of("poisson", rows)


def bursts(count: int, size: int, pause_s: float, gap_s: float, service_s: float) -> Trace:
    """`count` bursts of `size` requests."""
    rows = [(burst * pause_s + n * gap_s, service_s) for burst in range(count) for n in range(size)]
    return trace_of("bursts", rows)


def learned_rule(recorder: Recorder, slots: int = 1) -> Rule:
    assert isinstance(recorder.memory, Learned)
    return rules_for(slots)[recorder.memory.leader]


@pytest.mark.parametrize(
    ("seen", "desired"),
    [
        (seen_at(0), 0),
        (seen_at(0, waited_s=(0.0,)), 1),
        (seen_at(0, waited_s=(0.0,), ready=1, running=1), 1),
        (seen_at(0, waited_s=(0.0,) * 30, ready=1, running=1), 4),
        (seen_at(0, setup="2-10", slots=8, ready=2, running=16), 2),
        (seen_at(0, setup="2-10", slots=8, waited_s=(0.0,) * 60, ready=2, running=16), 6),
    ],
)
def test_on_day_one(seen: Observation, desired: int) -> None:
    """A first request gets a worker; the next waiter does not get one of its own, a crowd shares several. With the
    guesses for service (10 s) and cold start (30 s): eight to a worker of one slot; two to each of eight slots, and a
    worker to spare."""
    decision = decide(Auto(wait_price=1.0), Memory(), seen)
    assert min(decision.desired, seen.maximum) == desired
    assert decision.why.rule == "learning"
    assert decision.keep_ns
    assert "first guess" in str(decision.why)


def test_dear_waiting_starts_more_workers_and_keeps_them_longer_from_the_start() -> None:
    seen = seen_at(0, waited_s=(0.0,) * 6, ready=1, running=1)
    said = [decide(Auto(wait_price=price), Memory(), seen) for price in (0.05, 0.2, 1, 5, 50)]
    assert [each.desired for each in said] == sorted(each.desired for each in said)
    assert said[0].desired < said[-1].desired
    keeps = [each.keep_ns or 0 for each in said]
    assert keeps == sorted(keeps)
    assert keeps[0] < keeps[-1]


def test_a_rare_request_leaves_no_worker_behind() -> None:
    """An hour apart, with cold starts of 5 s: keeping costs 3,600 s to save five."""
    recorder, outcome = recorded(Auto(wait_price=1.0), poisson(60, 3_600, 20), Setup(0, 5), cold_s=5)
    assert learned_rule(recorder).keep_s <= 5
    assert outcome.autoscaled_s < 60 * (20 + 10 + 10)


def test_steady_traffic_keeps_its_workers_and_does_not_flap() -> None:
    """A request every 15 s of 10 s: a cold start of 30 s for each would cost more than idling."""
    trace = poisson(600, 15, 10)
    recorder, outcome = recorded(Auto(wait_price=1.0), trace, Setup(0, 5), cold_s=30)
    assert learned_rule(recorder).keep_s >= 40
    assert outcome.cold_starts < 60
    assert str(recorder.said[-1].why).count("cheapest of 119 rules over") == 1


def test_bursts_beyond_the_baseline_find_their_workers_ready() -> None:
    """40 requests within 8 s every five minutes, 8 slots in the baseline, cold starts of two minutes: what the burst
    before needed is still there, so nearly nobody waits, and that costs no more than to keep four workers for good."""
    trace = bursts(count=30, size=40, pause_s=300, gap_s=0.2, service_s=6)
    _, outcome = recorded(Auto(wait_price=5.0), trace, Setup(1, 10, 8), cold_s=120)
    assert outcome.autoscaled_s < 1.05 * 4 * 30 * 300
    late = outcome.waits_ns[len(outcome.waits_ns) // 2 :]
    assert sorted(late)[len(late) * 9 // 10] < 5 * SECOND_NS


@pytest.mark.parametrize(
    ("trace", "setup", "cold_s"),
    [
        (poisson(500, 600, 20), Setup(0, 5), 30.0),
        (poisson(800, 12, 10), Setup(0, 5), 30.0),
        (bursts(40, 10, 900, 3, 25), Setup(1, 5), 30.0),
    ],
    ids=["sparse", "steady", "bursts"],
)
@pytest.mark.parametrize("price", [0.2, 5.0])
def test_close_to_the_best_of_fixed_settings_in_hindsight(
    trace: Trace, setup: Setup, cold_s: float, price: float
) -> None:
    """Regret as research/autoscaling.md defines it; the real measurement is `gpudeck bench scaling`."""
    cold = ColdStarts(cold_s)
    mine = simulate(trace, setup, following(Auto(wait_price=price)), cold).cost(price)
    fixed = [
        simulate(trace, Setup(setup.baseline, setup.maximum, 1, idle_s), following(policy), cold).cost(price)
        for policy in (RequestCount(value=1), RequestCount(value=3), QueueDelay())
        for idle_s in (1, 30, 300)
    ]
    assert mine < 1.25 * min(fixed)  # learning included: these are hours, not days


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.kind)
def test_a_restart_in_between_changes_no_decision(policy: ScalingPolicy) -> None:
    recorder, _ = recorded(policy, bursts(6, 12, 400, 2, 15), Setup(1, 4))
    again = replayed(policy, recorder.seen, lambda memory: load(json.loads(json.dumps(dump(memory)))))
    assert again == recorder.said


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.kind)
def test_asking_twice_changes_nothing(policy: ScalingPolicy) -> None:
    recorder, _ = recorded(policy, bursts(6, 12, 400, 2, 15), Setup(1, 4))
    memory = Memory()
    for seen, said in zip(recorder.seen, recorder.said, strict=True):
        decision = decide(policy, memory, seen)
        again = decide(policy, decision.memory, quiet(seen))
        assert decision == said
        memory = again.memory
        if not isinstance(policy, QueueDelay):  # an addition it has just made is not there yet, so it would hold
            assert (again.desired, again.keep_ns) == (said.desired, said.keep_ns)


def test_ticks_without_events_change_nothing() -> None:
    """The live orchestrator asks four times a second, the simulator when something happens."""
    policy = Auto(wait_price=1.0)
    recorder, _ = recorded(policy, bursts(6, 12, 400, 2, 15), Setup(0, 4))
    memory = Memory()
    for seen, following_one, said in zip(recorder.seen, recorder.seen[1:], recorder.said, strict=False):
        decision = decide(policy, memory, seen)
        memory = decision.memory
        assert (decision.desired, decision.keep_ns) == (said.desired, said.keep_ns)
        for part in (1, 2, 3):
            moment_ns = seen.now_ns + (following_one.now_ns - seen.now_ns) * part // 4
            memory = decide(policy, memory, quiet(seen, moment_ns)).memory


@pytest.mark.parametrize("kind", ["windows", "learned", "added", "unheard of"])
def test_a_memory_of_another_version_is_forgotten(kind: str) -> None:
    memory = load({"kind": kind, "something": [1, 2]})
    assert memory == type(memory)()
    learned = dump(decide(Auto(), Memory(), seen_at(0)).memory)
    assert load({**learned, "shadows": [[1, 2]]}) == Learned()


def test_a_memory_of_another_policy_counts_as_none() -> None:
    seen = seen_at(5, waited_s=(5.0,), ready=1, running=1)
    for policy in POLICIES:
        for other in POLICIES:
            memory = decide(other, Memory(), seen).memory
            if type(memory) is not type(decide(policy, Memory(), seen).memory):
                assert decide(policy, memory, seen)[:2] == decide(policy, Memory(), seen)[:2]


OBSERVATIONS = st.lists(
    st.fixed_dictionaries(
        {
            "after_ms": st.integers(0, 400_000), "arrived": st.integers(0, 6),
            "served_ms": st.lists(st.integers(0, 90_000)),
            "cold_ms": st.lists(st.integers(0, 500_000), max_size=2), "queued": st.integers(0, 40),
            "running": st.integers(0, 40), "ready": st.integers(0, 12), "starting": st.integers(0, 12),
        }
    ),
    max_size=25,
)  # fmt: skip


@given(OBSERVATIONS, st.sampled_from(["0-1", "0-5", "2-10", "3-3"]), st.sampled_from([1, 4, 64]))
@settings(max_examples=60, deadline=None)
def test_whatever_it_is_shown_the_answer_is_within_reason(
    drawn: list[dict[str, object]], setup: str, slots: int
) -> None:
    """Contradictory observations too: a request in the queue gets a worker, nothing gets none, memory stays small."""
    memories: dict[ScalingPolicy, Memory] = dict.fromkeys((Auto(), Auto(wait_price=5.0), Concurrency()), Memory())
    now_ms = 0
    for one in drawn:
        now_ms += one["after_ms"]
        arrived = one["arrived"]
        seen = seen_at(
            now_ms / 1e3, setup=setup, slots=slots, waited_s=(0.0,) * one["queued"], ready=one["ready"],
            running=one["running"], starting=(now_ms * 1_000_000,) * one["starting"], arrived=arrived,
            arrivals=(now_ms * 1_000_000,) * arrived, served=tuple(ms * 1_000_000 for ms in one["served_ms"]),
            cold_starts=tuple(ms * 1_000_000 for ms in one["cold_ms"]),
        )  # fmt: skip
        for policy in memories:
            decision = decide(policy, memories[policy], seen)
            memories[policy] = decision.memory
            assert 0 <= decision.desired <= 2 * (seen.queued + seen.running) + seen.ready + 100
            assert decision.wake_ns is None or decision.wake_ns > seen.now_ns
            assert str(decision.why)
            if isinstance(policy, Auto):
                assert (decision.desired > 0) >= (seen.queued > 0)
                assert decision.desired > 0 or seen.queued + seen.running == 0
                assert 0 <= decision.keep_ns <= 2_700 * SECOND_NS
                assert decision.keep_ns or (seen.starting and not seen.idle_since)
    for memory in memories.values():
        assert len(json.dumps(dump(memory))) < 300_000


@pytest.mark.parametrize("slots", [1, 8])
def test_a_thousand_requests_a_second_cost_no_more_than_six(slots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shadows look away: over a minute they play what they may, and each call at most its share, for it is made in
    the event loop that serves."""
    policy, memory, steps = Auto(wait_price=1.0), Memory(), 0

    def counted(shadow: Shadow, rule: Rule, shape: Shape, arrivals_s: Sequence[float], *rest: Any) -> Shadow:
        nonlocal steps
        steps += len(arrivals_s)
        return play(shadow, rule, shape, arrivals_s, *rest)

    monkeypatch.setattr("orchestrator.core.scaling.learned.play", counted)
    for tick in range(240):
        now_ns = tick * SECOND_NS // 4
        arrivals = tuple(now_ns + n * 1_000_000 for n in range(250))
        seen = seen_at(0, setup="1-10", slots=slots, ready=5, running=5)._replace(
            now_ns=now_ns + SECOND_NS // 4, arrived=250, arrivals=arrivals, served=(5_000_000,) * 250
        )
        steps = 0
        memory = decide(policy, memory, seen).memory
        assert 0 < steps <= PLAYED_PER_CALL or not tick
    assert isinstance(memory, Learned)
    assert len(memory.pending_s) <= PLAYED_IN_A_ROW
    assert 0.8 * 240 * PLAYED_PER_CALL / len(rules_for(slots)) <= memory.played
    assert memory.played <= PLAYED_IN_A_ROW + PLAYED_PER_S * 60
    assert memory.skipped_s > 0 or memory.away_s is not None


def test_many_slots_are_played_with_few() -> None:
    assert [thinning(slots) for slots in (1, 8, 9, 16, 1_024)] == [1, 1, 2, 2, 128]
    trace = poisson(600, 0.05, 4)
    recorder, outcome = recorded(Auto(wait_price=1.0), trace, Setup(1, 3, 64), cold_s=30)
    assert isinstance(recorder.memory, Learned)
    assert recorder.memory.played <= 600 / 8
    assert max(len(shadow.running) for shadow in recorder.memory.shadows) <= 3 * 8
    assert len(outcome.waits_ns) == 600


def test_an_update_makes_new_shadows_and_keeps_what_was_measured() -> None:
    recorder, _ = recorded(Auto(wait_price=1.0), poisson(100, 15, 10), Setup(0, 5))
    before = recorder.memory
    seen = quiet(recorder.seen[-1])._replace(baseline=1, maximum=8)
    after = decide(Auto(wait_price=1.0), before, seen).memory
    assert isinstance(before, Learned)
    assert isinstance(after, Learned)
    assert after.services_s == before.services_s
    assert after.cold_s == before.cold_s
    assert {shadow.ready for shadow in after.shadows} == {1}
    assert set(after.scores) == {(0.0, 0.0, 0.0)}


def test_shadows_of_another_version_are_made_anew() -> None:
    """A portfolio that was smaller, by another number of rules: what was measured stays, what was concluded goes."""
    recorder, _ = recorded(Auto(wait_price=1.0), poisson(100, 15, 10), Setup(0, 5))
    before = recorder.memory
    assert isinstance(before, Learned)
    older = replace(before, shadows=before.shadows[:-1], scores=before.scores[:-1], leader=500)
    after = decide(Auto(wait_price=1.0), load(dump(older)), quiet(recorder.seen[-1])).memory
    assert isinstance(after, Learned)
    assert len(after.shadows) == len(after.scores) == len(rules_for(1))
    assert after.leader < len(rules_for(1))
    assert (after.services_s, after.cold_s) == (before.services_s, before.cold_s)


def test_several_slots_have_workers_to_spare_where_there_is_load_and_waiting_is_dear() -> None:
    """The more, the dearer waiting and the longer the cold start; none for a request that comes alone or has gone."""
    lone = seen_at(0, setup="0-10", slots=4, waited_s=(0.0,), arrived=1, arrivals=(0,))
    spares = []
    for price, cold_s in ((0.2, 5), (1.0, 30), (5.0, 120)):
        policy, cold_starts = Auto(wait_price=price), (cold_s * SECOND_NS,)
        assert decide(policy, Memory(), lone._replace(cold_starts=cold_starts)).desired == 1
        busy = lone._replace(arrived=9, arrivals=(0,) * 9, running=8, queued=0, queue=(), cold_starts=cold_starts)
        decision = decide(policy, Memory(), busy)
        spares.append(decision.why.numbers.get("spare", 0))
        assert ("to spare" in str(decision.why)) == (spares[-1] > 0)
        assert decide(policy, decision.memory, quiet(busy)._replace(running=0)).desired == 0
    assert spares == [0, 1, 2]


def test_before_there_is_traffic_the_baseline_tells_the_load() -> None:
    """Of several slots: who keeps one or two of ten workers reckons with some load, who keeps none with none."""

    def first_request(setup: str, slots: int, price: float = 5.0) -> int:
        seen = seen_at(0, setup=setup, slots=slots, arrived=1, arrivals=(0,), ready=int(setup[0]), running=1)
        return decide(Auto(wait_price=price), Memory(), seen._replace(cold_starts=(120 * SECOND_NS,))).desired

    assert [first_request(f"{baseline}-10", 8) for baseline in (0, 1, 2)] == [1, 3, 3]
    assert first_request("2-10", 8, price=0.05) == 1
    assert first_request("2-10", 1) == first_request("0-10", 1)


def test_a_first_rise_is_met_before_the_baseline_is_full() -> None:
    """From nothing to 40 requests in service within a minute, 16 slots in the baseline, cold starts of two minutes: one
    worker is asked for with the first request, two are on their way before anybody waits."""
    trace = trace_of("rise", [(9 * (n / 8) ** 0.5, 6.0) for n in range(360)])
    _, outcome = recorded(Auto(wait_price=5.0), trace, Setup(2, 10, 8), cold_s=120)
    full_ns = next(at_ns for at_ns, wait_ns in zip(trace.arrival_ns, outcome.waits_ns, strict=True) if wait_ns)
    assert outcome.workers_at(0) == 3
    assert outcome.workers_at(full_ns - 1) >= 4


def test_a_start_that_nobody_needs_any_more_is_called_off() -> None:
    """Two requests, a worker for each; the first worker serves both before the second is ready. Not while a worker is
    idle, which would go with it, nor while a request waits for the start."""
    policy = Auto(wait_price=50.0)
    lone = seen_at(9, ready=1, running=1, starting=(0,))
    said = decide(policy, Memory(), lone)
    assert (said.desired, said.keep_ns) == (1, 0)
    assert "called off" in str(said.why)
    for needed in (lone._replace(running=2), lone._replace(queued=1, queue=(0,)), lone._replace(running=0)):
        decision = decide(policy, Memory(), needed)
        assert decision.keep_ns
        assert "goes after" in str(decision.why)
    assert decide(policy, Memory(), lone._replace(slots=4)).keep_ns


def test_a_wish_weighs_long_waits_more_than_a_price_does() -> None:
    """The same sum of waits, once as forty of 10 s and once as one of 400 s, with cold starts of 10 s."""
    told, wished = WaitPrice(2.0), price_of(Auto(wait_p95_s=5.0), Learned(), 1)
    assert told.cost(400.0, 40 * 100.0, 10.0) == told.cost(400.0, 160_000.0, 10.0) == 800
    assert wished.cost(400.0, 40 * 100.0, 10.0) == 2 * 800
    assert wished.cost(400.0, 160_000.0, 10.0) == 41 * 800
    assert not price_of(Auto(wait_p95_s=5.0), Learned(), 4).by_tail


def test_the_wish_sets_the_price_until_experience_does() -> None:
    prices = [price_of(Auto(wait_p95_s=wish_s), Learned(), 1).per_s for wish_s in (0.1, 2, 10, 50, 3_600)]
    assert prices == pytest.approx([20, 5, 1, 0.2, 0.05])
    assert price_of(Auto(wait_p95_s=2, wait_price=0.3), Learned(price_shift=1.0), 1) == WaitPrice(0.3)


def waited(policy: Auto, waits_s: list[float]) -> Learned:
    """Requests that wait so long, one after the other, are then served."""
    memory: Memory = Memory()
    now_s = 0.0
    for wait_s in waits_s:
        arrival_ns = round(now_s * SECOND_NS)
        came = seen_at(now_s, waited_s=(0.0,), arrived=1, arrivals=(arrival_ns,), ready=1, running=1)
        memory = decide(policy, memory, came).memory
        now_s += wait_s
        memory = decide(policy, memory, seen_at(now_s, ready=1, running=1)).memory
        now_s += 1
    assert isinstance(memory, Learned)
    return memory


def test_one_in_twenty_late_leaves_the_price_alone_more_raise_it_fewer_lower_it() -> None:
    policy = Auto(wait_p95_s=4)
    assert waited(policy, ([1.0] * 19 + [9.0]) * 5).price_shift == pytest.approx(0)
    assert waited(policy, ([1.0] * 9 + [9.0]) * 5).price_shift > 0.1
    assert waited(policy, [1.0] * 100).price_shift < -0.1
    assert waited(policy, [9.0] * 300).price_shift == SHIFT_MAX


def test_a_shorter_wish_is_met_with_shorter_waits() -> None:
    """The knob does what it says: the p95 of the second half, after learning, under two wishes."""
    trace = poisson(1_500, 25, 20)
    p95_s = {}
    for wish_s in (5.0, 60.0):
        outcome = simulate(trace, Setup(0, 6), following(Auto(wait_p95_s=wish_s)), ColdStarts(30.0))
        late = sorted(outcome.waits_ns[len(trace) // 2 :])
        p95_s[wish_s] = late[len(late) * 95 // 100] / SECOND_NS
    assert p95_s[5.0] < 10
    assert p95_s[5.0] < p95_s[60.0]
