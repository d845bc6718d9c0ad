"""`concurrency` against figures worked out by hand from Knative's rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.endpoint import Concurrency
from orchestrator.core.scaling import Decision, Memory, decide
from orchestrator.core.scaling.concurrency import Windows, average, recorded
from tests.core.observations import seen_at

POLICY = Concurrency()


class Clock:
    """Levels over time, told to the policy every two seconds."""

    def __init__(self, slots: int, setup: str = "0-10") -> None:
        self.slots, self.setup = slots, setup
        self.memory: Memory = Memory()

    def ask(self, now_s: float, level: int, ready: int) -> Decision:
        running = min(level, ready * self.slots)
        seen = seen_at(
            now_s, setup=self.setup, slots=self.slots, waited_s=(0.0,) * (level - running), ready=ready, running=running
        )
        decision = decide(POLICY, self.memory, seen)
        self.memory = decision.memory
        return decision


def test_one_request_without_workers_asks_for_two_pods_at_once() -> None:
    """ceil(1 / 0.7) = 2: what made 58% of KPA's starts idle in the research notes."""
    decision = Clock(slots=1).ask(0.3, level=1, ready=0)
    assert decision.desired == 2
    assert decision.why.rule == "panic"


def test_panic_begins_at_twice_what_is_ready_and_ends_a_stable_window_after() -> None:
    """Target 7 of 10 slots. Level 14 fits two workers; from t=60 on it is 35 until t=70, then 14 again.

    t=62: panic average (4 x 14 + 2 x 35) / 6 = 21 asks for 3, 1.5 x ready: no panic; stable 14.7 asks for 3.
    t=64: (2 x 14 + 4 x 35) / 6 = 28 asks for 4, 2 x ready: panic. t=66: 35 asks for 5, still 2 ready: 66 is the last.
    t=126: a stable window has just passed, not more: held at 5. t=128: over; (2 x 35 + 58 x 14) / 60 = 14.7 asks for 3.
    """
    clock = Clock(slots=10)
    said = {}
    for t in range(0, 132, 2):
        level = 35 if 60 <= t < 70 else 14
        said[t] = clock.ask(t, level, ready=2 if t <= 66 else 4 if t <= 68 else 5)
    assert [said[t].desired for t in (58, 60, 62, 64, 66, 68)] == [2, 2, 3, 4, 5, 5]
    assert [said[t].why.rule for t in (60, 62, 64)] == ["stable", "stable", "panic"]
    assert [said[t].desired for t in (124, 126, 128)] == [5, 5, 3]
    assert said[128].why.rule == "stable"


def test_down_at_most_to_half_of_what_is_ready_and_to_zero_after_an_empty_window() -> None:
    clock = Clock(slots=1)
    for t in range(0, 60, 2):
        clock.ask(t, level=4, ready=8)
    wanted = [clock.ask(t, level=0, ready=8).desired for t in range(60, 124, 2)]
    assert wanted[0] == 6  # 4 / 0.7
    assert wanted == sorted(wanted, reverse=True)
    assert wanted[-2:] == [4, 4]  # nothing is asked for any more, but half of eight stays
    assert clock.ask(124, level=0, ready=1).desired == 0


def test_evaluations_lie_on_even_seconds_and_questions_in_between_change_nothing() -> None:
    asked, plain = Clock(slots=1), Clock(slots=1)
    for t in range(0, 40, 2):
        level = 3 if t >= 10 else 1
        now = asked.ask(t, level, ready=1)
        for fraction in (0.0, 0.25, 0.5, 1.75):
            between = asked.ask(t + fraction, level, ready=1)
            assert between[:2] == now[:2]
            assert between.wake_ns == (t + 2) * SECOND_NS
        assert plain.ask(t, level, ready=1)[:2] == now[:2]


@given(
    steps=st.lists(st.tuples(st.integers(1, 40_000), st.integers(0, 20)), min_size=1, max_size=30),
    parts=st.integers(2, 5),
)
def test_windows_do_not_depend_on_how_often_they_are_asked(steps: list[tuple[int, int]], parts: int) -> None:
    """A level that lasts is the same in one piece and in several."""
    once, often = Windows(), Windows()
    now_ms, level = 0, 0
    for duration_ms, after in steps:
        for part in range(1, parts):
            moment = seen_at((now_ms + duration_ms * part // parts) / 1e3, running=level, ready=20)
            often = recorded(POLICY, often, moment)
        now_ms, level = now_ms + duration_ms, after
        seen = seen_at(now_ms / 1e3, running=level, ready=20)
        once, often = recorded(POLICY, once, seen), recorded(POLICY, often, seen)
    if once.began_ns == often.began_ns:
        assert once == often
    assert 0 <= average(often, now_ms * 1_000_000, 60, SECOND_NS) <= 20


def test_at_rest_it_asks_for_no_more_questions() -> None:
    clock = Clock(slots=1, setup="1-5")
    clock.ask(0, level=1, ready=1)
    decision = clock.ask(2, level=0, ready=1)
    t = 2
    while decision.wake_ns is not None:
        t += 2
        decision = clock.ask(t, level=0, ready=1)
        assert t < 130
    assert decision.desired <= 1


def test_the_panic_window_is_no_longer_than_the_stable_one() -> None:
    with pytest.raises(ValidationError, match="panic_s: 90 s is more than stable_s, 60 s"):
        Concurrency(panic_s=90)
