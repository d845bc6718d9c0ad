"""What the executor does with a policy's answer, what the policy sees, and what goes into the decision journal."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.command import DisableEndpoint, EnableEndpoint, UpdateEndpoint
from orchestrator.contract.endpoint import Auto, Concurrency, EndpointChanges, QueueDelay, RequestCount
from orchestrator.contract.snapshot import EngineKind, EngineView, GpuProcessView, WorkerState
from orchestrator.core import deciding
from orchestrator.core import events as ev
from orchestrator.core.decisions import Decided
from orchestrator.core.effects import JournalDecision
from orchestrator.core.scaling import Decision, Memory, Observation, Reason
from orchestrator.core.writes import WorkerReady
from tests.core.world import World

Answer = Callable[[Observation], Decision]


def answering(monkeypatch: pytest.MonkeyPatch, answer: Answer) -> list[Observation]:
    """Put `answer` in the place of the policies; returns what it gets to see."""
    seen: list[Observation] = []

    def decide(_policy: object, _memory: Memory, observation: Observation) -> Decision:
        seen.append(observation)
        return answer(observation)

    monkeypatch.setattr(deciding, "decide", decide)
    return seen


def want(desired: int, **more: object) -> Decision:
    return Decision(desired, Reason("test", "wants {n}", {"n": desired}), Memory(), **more)  # type: ignore[arg-type]


def journal(world: World, slug: str = "echo") -> list[Decided]:
    return [e.entry for e in world.effects if isinstance(e, JournalDecision) and e.entry.slug == slug]


def obstacles(world: World, slug: str = "echo") -> list[str]:
    return [entry.obstacle for entry in journal(world, slug) if entry.obstacle is not None]


# --- keep_ns, wake_ns, valid


@pytest.mark.parametrize(("keep_s", "stays_s"), [(None, 10.0), (0.0, 0.0), (3.0, 3.0), (90.0, 90.0)])
def test_idle_workers_stay_for_as_long_as_the_policy_says(
    keep_s: float | None, stays_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    keep_ns = None if keep_s is None else int(keep_s * SECOND_NS)
    answering(monkeypatch, lambda seen: want(min(2, seen.queued + seen.running), keep_ns=keep_ns))
    world.create(setup="0-2", idle_timeout_s=10)
    callers = [world.request(service_s=5) for _ in range(2)]
    world.until(lambda: all(c.done_ns for c in callers))
    took_s = world.until(lambda: world.ready() == 0)
    assert stays_s <= took_s <= stays_s + 0.3


def test_an_idle_timer_ends_when_it_is_due_and_not_at_a_later_tick() -> None:
    world = World()
    world.tick_s = 4.0
    world.create(setup="0-1", idle_timeout_s=10)
    caller = world.request(service_s=2.17)
    world.until(lambda: caller.done_ns, step_s=0.01)
    assert 9.98 <= world.until(lambda: world.ready() == 0, step_s=0.01) <= 10.03


def test_a_policy_is_asked_again_when_it_wants_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.tick_s = 5.0
    asked = answering(monkeypatch, lambda seen: want(0, wake_ns=seen.now_ns + 700_000_000))
    world.create(setup="0-1")
    world.advance(20)
    gaps = [b.now_ns - a.now_ns for a, b in pairwise(asked)]
    assert max(gaps) <= 710_000_000
    assert len(asked) > 20


def test_an_answer_that_is_not_valid_starts_and_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    answers = [want(2)]
    answering(monkeypatch, lambda _: answers[0])
    world.create(setup="0-3", idle_timeout_s=1)
    world.until(lambda: world.ready() == 2)
    answers[0] = want(0, valid=False)
    world.advance(30)
    assert world.ready() == 2
    answers[0] = want(3, valid=False)
    world.advance(30)
    assert world.ready() == 2
    answers[0] = want(0)
    world.advance(3)
    assert world.ready() == 0


# --- starts that are not wanted any more


def test_a_start_is_cancelled_when_the_policy_says_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(cold_start_s=60)
    answers = [want(3)]
    answering(monkeypatch, lambda _: answers[0])
    world.create(setup="0-3")
    world.advance(5)
    answers[0] = want(1)
    world.advance(5)
    assert len(world.workers("echo", WorkerState.STARTING)) == 3, "without keep_ns 0 a start goes on"
    answers[0] = want(1, keep_ns=0)
    world.advance(2)
    assert [w.label for w in world.workers()] == ["w1"], "the youngest go first"


def test_no_start_is_cancelled_that_a_waiter_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(cold_start_s=60)
    answers = [want(3)]
    answering(monkeypatch, lambda _: answers[0])
    world.create(setup="0-3", concurrency=2)
    callers = [world.request() for _ in range(3)]
    world.advance(5)
    answers[0] = want(0, keep_ns=0)
    world.advance(5)
    assert len(world.workers()) == 2, "three waiters fill the slots of two workers"
    for caller in callers:
        world.table.routes["echo"].lane.cancel(caller)
    world.advance(2)
    assert world.workers() == []


def test_a_roll_is_not_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(cold_start_s=20)
    answering(monkeypatch, lambda _: want(1, keep_ns=0))
    world.create(setup="1-2")
    world.until(lambda: world.ready() == 1)
    changes = EndpointChanges(env={"ECHO_SEED": "7"})
    world.command(UpdateEndpoint(id=world.id(), slug="echo", changes=changes))
    world.advance(40)
    assert [w.generation for w in world.workers()] == [2]
    assert world.state.serial == 2


def test_baseline_workers_are_never_surplus(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(cold_start_s=10)
    answering(monkeypatch, lambda _: want(0, keep_ns=0))
    world.create(setup="2-3")
    world.advance(60)
    assert world.ready() == 2
    assert world.state.serial == 2


# --- what a policy sees


def test_every_request_is_told_once_with_its_arrival_and_its_service(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(cold_start_s=4)
    seen = answering(monkeypatch, lambda o: want(min(2, o.queued + o.running)))
    world.create(setup="0-2")
    arrivals = []
    for gap_s in (0.0, 0.1, 0.05, 7.0, 0.4, 12.0, 0.001):
        world.advance(gap_s)
        arrivals.append(world.now_ns)
        world.request(service_s=1.5)
    world.advance(30)
    assert sum(o.arrived for o in seen) == 7
    assert sorted(at_ns for o in seen for at_ns in o.arrivals) == arrivals
    assert [ns for o in seen for ns in o.served] == [1_500_000_000] * 7
    assert sum(len(o.cold_starts) for o in seen) == len(world.written(WorkerReady)) > 1
    assert {ns for o in seen for ns in o.cold_starts} == {4_200_000_000}


def test_waiters_and_requests_in_flight_are_seen_with_their_instants(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    seen = answering(monkeypatch, lambda _: want(1))
    world.create(setup="1-1")
    world.until(lambda: world.ready() == 1)
    first_ns = world.now_ns
    world.request(service_s=20)
    world.advance(3)
    second_ns = world.now_ns
    world.request(service_s=20)
    world.advance(3)
    assert (seen[-1].running, seen[-1].running_since) == (1, (first_ns,))
    assert (seen[-1].queued, seen[-1].queue) == (1, (second_ns,))
    assert seen[-1].oldest_wait_ns == pytest.approx(3e9, abs=3e8)
    world.advance(16)
    assert seen[-1].running_since == (first_ns + 20 * SECOND_NS,), "dispatched when the first one ended"


def test_prices_and_failed_starts_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    seen = answering(monkeypatch, lambda _: want(1))
    world.create(setup="0-1")
    world.dies_after_start = True
    world.advance(6)
    assert (seen[-1].baseline_uh, seen[-1].autoscale_uh) == (2_670_000, 15_264_000)
    assert sum(o.failed_starts for o in seen) >= 2
    assert sum(o.failed_starts for o in seen) == world.state.endpoints["echo"].crashes


def test_idle_workers_are_seen_longest_idle_first(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    seen = answering(monkeypatch, lambda _: want(2))
    world.create(setup="1-3")
    world.until(lambda: world.ready() == 2)
    ends = [world.request(service_s=s) for s in (1, 4)]
    world.until(lambda: all(c.done_ns for c in ends))
    world.advance(1)
    assert seen[-1].idle_since == (ends[1].done_ns,), "the baseline worker is not listed"


# --- the journal


def test_a_change_is_journalled_once_with_its_numbers() -> None:
    world = World(cold_start_s=2)
    world.create(setup="0-3", policy=RequestCount(value=2))
    world.advance(2)
    for _ in range(5):
        world.request(service_s=20)
    world.advance(4)
    entry = journal(world)[-1]
    assert (entry.before, entry.desired, entry.asked, entry.live, entry.obstacle) == (0, 3, 3, 0, None)
    assert str(entry.why) == "(5 queued + 0 running) / 2 = 2.50 → 3"
    before = len(journal(world))
    world.advance(10)
    assert len(journal(world)) == before


@pytest.mark.parametrize("policy", [QueueDelay(seconds=1), RequestCount(value=1), Concurrency(), Auto()])
def test_replaying_the_journals_inputs_gives_the_same_decisions(
    policy: QueueDelay | RequestCount | Concurrency | Auto,
) -> None:
    world = World("L40:4", cold_start_s=3)
    world.create(setup="0-3", policy=policy, idle_timeout_s=5)
    for number in range(40):
        world.request(service_s=1 + number % 5)
        world.advance((number * 7) % 11 / 2)
    world.advance(60)
    entries = journal(world)
    assert len(entries) > 5
    assert all(entry.agrees() for entry in entries)
    assert len({entry.desired for entry in entries}) > 1


def test_wanting_more_than_the_maximum_is_said_once() -> None:
    world = World(cold_start_s=2)
    world.create(setup="1-2", policy=RequestCount(value=1))
    world.until(lambda: world.ready() == 1)
    for _ in range(2):
        world.request(service_s=60)
    world.until(lambda: world.ready() == 2)
    for _ in range(5):
        world.request(service_s=60)
    world.advance(5)
    assert obstacles(world) == ["maximum"]
    entry = journal(world)[-1]
    assert (entry.before, entry.desired, entry.asked) == (2, 2, 7)
    assert entry.agrees()


def test_no_gpu_is_said_once_and_again_after_it_was_over() -> None:
    world = World("L40:1")
    world.create("one", setup="0-1", idle_timeout_s=1)
    world.create("two", setup="0-1", policy=RequestCount(value=1))
    busy = world.request("one", service_s=20)
    world.until(lambda: world.ready("one") == 1)
    waiting = world.request("two", service_s=1)
    world.advance(10)
    assert obstacles(world, "two") == ["no_gpu"]
    assert str(journal(world, "two")[-1].why) == "no L40 is free: 1 there, 1 held by workers"
    world.until(lambda: busy.done_ns and waiting.done_ns)
    world.advance(30)
    again = world.request("one", service_s=20)
    world.until(lambda: again.outcome)
    world.request("two")
    world.advance(5)
    assert obstacles(world, "two") == ["no_gpu", "no_gpu"]


def test_a_gpu_that_a_stranger_uses_is_named() -> None:
    world = World("L40:1")
    stranger = GpuProcessView(pid=7, name="train", memory_bytes=1 << 30)
    world.handle(ev.GpusSampled(tuple(g.model_copy(update={"processes": (stranger,)}) for g in world.state.gpus)))
    world.create(setup="0-1")
    world.request()
    world.advance(5)
    assert obstacles(world) == ["gpu_busy"]
    assert "1 used by other programs" in str(journal(world)[-1].why)


def test_backoff_and_a_silent_engine_are_obstacles() -> None:
    world = World()
    world.dies_after_start = True
    world.create(setup="0-1")
    world.request()
    world.advance(3)
    assert obstacles(world)[0] == "backoff"
    assert "starts failed in a row" in str(next(e for e in journal(world) if e.obstacle == "backoff").why)
    quiet = World()
    quiet.create(setup="0-1")
    quiet.handle(ev.EngineProbed(EngineView(kind=EngineKind.VIRTUAL, ok=False, detail="gone")))
    quiet.request()
    quiet.advance(2)
    assert obstacles(quiet) == ["engine"]


def test_credit_and_switching_off_are_journalled() -> None:
    world = World(credit_u=10_050_000)
    world.create(setup="0-1")
    world.request(service_s=100)
    world.advance(30)
    assert obstacles(world) == ["credit"]
    entry = journal(world)[-1]
    assert (entry.before, entry.desired, entry.why.rule) == (1, 0, "credit")
    other = World()
    other.create(setup="1-2")
    other.until(lambda: other.ready() == 1)
    other.command(DisableEndpoint(id=other.id(), slug="echo"))
    other.advance(1)
    assert (journal(other)[-1].why.rule, journal(other)[-1].desired) == ("disabled", 0)
    other.command(EnableEndpoint(id=other.id(), slug="echo"))
    other.advance(1)
    assert journal(other)[-1].desired == 1
