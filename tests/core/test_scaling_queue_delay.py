"""`queue_delay`: one more after the delay, and never more workers than the requests fill."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.endpoint import QueueDelay
from orchestrator.core.scaling import Memory, decide
from orchestrator.simulator.light import ColdStarts, Setup, following, simulate
from orchestrator.simulator.traces import trace_of
from tests.core.observations import seen_at

STARTING = (0,)


def test_one_request_gets_one_worker_however_long_its_cold_start() -> None:
    """Two minutes of it and a delay of 4 s: without the limit there would be five workers for the one request."""
    outcome = simulate(trace_of("t", [(0.0, 5.0)]), Setup(0, 5), following(QueueDelay()), ColdStarts(120.0, sigma=0.0))
    assert (outcome.cold_starts, outcome.idle_starts) == (1, 0)


def test_three_requests_get_three_a_delay_apart() -> None:
    requests = [(0.0, 200.0), (0.0, 200.0), (0.0, 200.0)]
    outcome = simulate(trace_of("t", requests), Setup(0, 5), following(QueueDelay()), ColdStarts(60.0, sigma=0.0))
    assert [step for step in outcome.steps if step[0] < 60 * SECOND_NS] == [
        (0, 1), (4 * SECOND_NS, 2), (8 * SECOND_NS, 3),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("waiting", "running", "ready", "starting", "slots", "desired", "rule"),
    [
        (1, 0, 0, 1, 1, 1, "enough"),
        (2, 0, 0, 1, 1, 2, "add"),
        (4, 0, 0, 1, 4, 1, "enough"),
        (5, 0, 0, 1, 4, 2, "add"),
        (4, 4, 1, 1, 4, 2, "enough"),
        (5, 4, 1, 1, 4, 3, "add"),
    ],
)
def test_a_slot_for_every_request_is_enough(
    waiting: int, running: int, ready: int, starting: int, slots: int, desired: int, rule: str
) -> None:
    seen = seen_at(
        100, slots=slots, waited_s=(60.0,) * waiting, running=running, ready=ready, starting=STARTING * starting
    )
    decision = decide(QueueDelay(), Memory(0), seen)
    assert (decision.desired, decision.why.rule) == (desired, rule)


def test_the_reason_tells_why_the_wait_does_not_count() -> None:
    seen = seen_at(100, setup="0-5", slots=4, waited_s=(60.0,) * 3, running=4, ready=1, starting=STARTING)
    decision = decide(QueueDelay(), Memory(0), seen)
    assert str(decision.why) == "3 waiting + 4 running fit into 2 x 4 slots: hold, whatever the wait"
    assert decision.wake_ns is None, "only another request can change it, and that is heard of at once"


@given(
    waited_s=st.lists(st.floats(0, 300), max_size=20), running=st.integers(0, 20), ready=st.integers(0, 10),
    starting=st.integers(0, 10), slots=st.integers(1, 8), delay_s=st.sampled_from([0.0, 0.5, 4.0, 60.0]),
)  # fmt: skip
def test_it_never_adds_a_worker_that_nobody_fills(
    waited_s: list[float], running: int, ready: int, starting: int, slots: int, delay_s: float
) -> None:
    ages = tuple(sorted(waited_s, reverse=True))
    seen = seen_at(1_000, slots=slots, waited_s=ages, running=running, ready=ready, starting=STARTING * starting)
    desired = decide(QueueDelay(seconds=delay_s), Memory(), seen).desired
    assert desired <= max(seen.live, -(-(seen.queued + running) // slots))
    assert desired >= min(1, seen.queued)
