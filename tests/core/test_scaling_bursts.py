"""Rules that keep workers in bursts only: what a burst is, what such a rule costs, and what `auto` makes of it."""

from __future__ import annotations

from random import Random

import pytest

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.endpoint import Auto
from orchestrator.core.scaling import Memory, decide
from orchestrator.core.scaling.learned import Learned
from orchestrator.core.scaling.portfolio import rules_for
from orchestrator.core.scaling.shadow import NEVER_S, Rule, Shape, Times, born, in_burst, play
from orchestrator.simulator.light import Setup
from orchestrator.simulator.traces import Trace, trace_of
from tests.core.observations import recorded, replayed, seen_at

SERVICE_S = 20.0


def sessions(count: int = 40) -> Trace:
    """Somebody who asks six times in a row, then six who ask once: the one looks at each answer for half a minute at
    most, the others are 10 to 30 minutes apart."""
    dice, rows, at_s = Random(1), [], 0.0
    for _ in range(count):
        for _ in range(6):
            rows.append((at_s, SERVICE_S))
            at_s += SERVICE_S + dice.uniform(5, 30)
        for _ in range(6):
            at_s += dice.uniform(600, 1_800)
            rows.append((at_s, SERVICE_S))
        at_s += 900
    return trace_of("sessions", rows)


def test_a_burst_is_three_requests_with_two_keeps_between_them_at_most() -> None:
    """With 10 s of service and 100 s of keep: two gaps of 10 + 2 x 100 s."""
    burst_s = Rule(1, 100, in_bursts=True).burst_s(10.0)
    assert burst_s == 420
    assert in_burst((-1_000.0, 0.0, 100.0, 420.0), burst_s)
    assert not in_burst((0.0, 100.0, 421.0), burst_s)
    assert not in_burst((0.0, 1.0), burst_s), "two may be chance"
    assert Rule(1, 100).burst_s(10.0) == NEVER_S
    assert in_burst((), NEVER_S), "a rule that does not ask always keeps its workers"


def test_such_a_rule_keeps_a_worker_in_a_burst_and_lets_it_go_after_a_lonely_request() -> None:
    """30 s of cold start and 10 s of work for each of the first three, since 600 - 0 s is too long. At 700 the last
    three came within 420 s: the worker, ready at 730, stays and serves the request at 800 at once."""
    rule, shape, times = Rule(1, 100, in_bursts=True), Shape(0, 1, 1), Times((10.0,), (30.0,), 10.0)
    shadow = play(born(shape, 0.0), rule, shape, [0, 500, 600, 700, 800], times)
    assert (shadow.worked_s, shadow.waited_s) == (3 * 40 + 100, 4 * 30)
    # What came before a portion counts as well.
    begun = play(born(shape, 0.0), rule, shape, [0, 500, 600, 700], times)
    assert play(begun, rule, shape, [800], times, [0, 500, 600, 700]) == shadow
    assert play(begun, rule, shape, [800], times).worked_s == 4 * 40, "of whom nothing else is known, is lonely"


def test_auto_keeps_workers_in_sessions_only_where_that_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """It finds out that a session goes on while a lonely request comes alone; without such rules it costs 5% more."""
    recorder, outcome = recorded(Auto(wait_price=2.0), sessions(), Setup(0, 5), cold_s=30)
    assert isinstance(recorder.memory, Learned)
    assert rules_for(1)[recorder.memory.leader].in_bursts
    without = tuple(rule for rule in rules_for(1) if not rule.in_bursts)
    for module in ("auto", "learned", "portfolio"):
        monkeypatch.setattr(f"orchestrator.core.scaling.{module}.rules_for", lambda slots: without)
    _, other = recorded(Auto(wait_price=2.0), sessions(), Setup(0, 5), cold_s=30)
    assert outcome.cost(2.0) < 0.95 * other.cost(2.0)


def test_the_decision_says_that_requests_come_too_seldom_and_a_replay_says_the_same() -> None:
    recorder, _ = recorded(Auto(wait_price=2.0), sessions(), Setup(0, 5), cold_s=30)
    late = recorder.said[len(recorder.said) // 2 :]
    keeps_ns = {
        lonely: {said.keep_ns for said in late if ("too seldom" in str(said.why)) is lonely} for lonely in (True, False)
    }
    assert keeps_ns[True] == {1}
    assert max(keep_ns or 0 for keep_ns in keeps_ns[False]) >= 10 * SECOND_NS, "it does keep workers in a session"
    assert replayed(Auto(wait_price=2.0), recorder.seen) == recorder.said


def test_a_burst_that_is_not_played_yet_counts_at_once() -> None:
    """Arrivals count from the moment they are seen, not from the end of the portion that the shadows play."""
    leader = next(at for at, rule in enumerate(rules_for(1)) if rule.in_bursts and rule.keep_s == 40)
    memory = decide(Auto(wait_price=1.0), Memory(), seen_at(0)).memory
    assert isinstance(memory, Learned)
    for gap_s, kept in ((20, True), (2_000, False)):
        arrivals = tuple(n * gap_s * SECOND_NS for n in range(3))
        seen = seen_at(2 * gap_s, ready=1)._replace(arrived=3, arrivals=arrivals)
        held = decide(Auto(wait_price=1.0), memory, seen).memory
        assert isinstance(held, Learned)
        assert held.latest_s == tuple(n * float(gap_s) for n in range(3))
        assert in_burst(held.latest_s, rules_for(1)[leader].burst_s(held.service_s)) is kept
