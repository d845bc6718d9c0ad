"""Baseline, autoscaling, idle timeouts and rolls, in virtual time over the whole core."""

from __future__ import annotations

import pytest

from orchestrator.contract.command import Accepted, DeleteEndpoint, DisableEndpoint, EnableEndpoint, UpdateEndpoint
from orchestrator.contract.endpoint import EndpointChanges, QueueDelay, RequestCount
from orchestrator.contract.snapshot import EndpointState, Tier, WorkerState
from tests.core.world import World


def test_baseline_comes_up_and_stays_without_traffic() -> None:
    world = World()
    world.create(setup="2-4")
    world.until(lambda: world.ready() == 2)
    world.advance(600)
    assert world.ready() == 2
    assert world.most_workers["echo"] == 2
    assert world.snapshot().endpoints[0].state is EndpointState.SERVING


def test_a_dead_baseline_worker_is_replaced() -> None:
    world = World()
    world.create(setup="1-1")
    world.until(lambda: world.ready() == 1)
    world.advance(60)
    first = world.workers()[0]
    world.kill(first.id)
    world.until(lambda: world.ready() == 1, limit_s=10)
    assert world.workers()[0].id != first.id
    assert world.workers()[0].ordinal == 1


def test_nine_requests_in_sequence_go_w1_w2_w3_three_times() -> None:
    world = World()
    world.create(setup="3-3")
    world.until(lambda: world.ready() == 3)
    for _ in range(9):
        caller = world.request(service_s=0.1)
        world.until(lambda c=caller: c.done_ns)
    assert world.served == ["w1", "w2", "w3"] * 3


def test_a_request_at_zero_workers_is_held_through_the_cold_start() -> None:
    world = World(cold_start_s=30)
    world.create(setup="0-1")
    world.advance(10)
    assert world.workers() == []
    caller = world.request()
    world.until(lambda: caller.done_ns, limit_s=60)
    assert caller.outcome == "w1"
    assert caller.waited_s is not None
    assert 30 <= caller.waited_s < 31


@pytest.mark.parametrize("policy", [QueueDelay(seconds=0), QueueDelay(seconds=4), RequestCount(value=1)])
def test_a_burst_on_0_2_never_has_more_than_two(policy: QueueDelay | RequestCount) -> None:
    world = World(cold_start_s=5)
    world.create(setup="0-2", policy=policy)
    callers = [world.request(service_s=3) for _ in range(40)]
    world.until(lambda: all(c.done_ns for c in callers))
    assert world.most_workers["echo"] == 2
    assert {c.outcome for c in callers} == {"w1", "w2"}


def test_queue_delay_adds_one_after_the_delay_not_before() -> None:
    world = World(cold_start_s=1)
    world.create(setup="1-3", policy=QueueDelay(seconds=4))
    world.until(lambda: world.ready() == 1)
    for _ in range(3):
        world.request(service_s=20)
    world.advance(3.5)
    assert len(world.workers()) == 1
    world.advance(1.0)
    assert len(world.workers()) == 2


def test_the_newly_ready_worker_takes_the_oldest_waiter() -> None:
    world = World(cold_start_s=5)
    world.create(setup="1-2", policy=RequestCount(value=1))
    world.until(lambda: world.ready() == 1)
    world.request(service_s=100)
    second, third = world.request(service_s=1), world.request(service_s=1)
    world.until(lambda: second.done_ns)
    assert second.outcome == "w2"
    assert third.outcome == "w2"
    assert third.waited_s is not None
    assert second.waited_s is not None
    assert third.waited_s > second.waited_s


@pytest.mark.parametrize("idle_s", [1, 10, 300])
def test_an_autoscaled_worker_lives_exactly_its_idle_timeout(idle_s: int) -> None:
    world = World()
    world.create(setup="0-1", idle_timeout_s=idle_s)
    caller = world.request(service_s=2)
    world.until(lambda: caller.done_ns)
    world.advance(idle_s - 0.3)
    assert world.ready() == 1
    world.advance(0.8)
    assert world.ready() == 0


def test_no_worker_is_stopped_while_it_serves_or_before_it_was_ready() -> None:
    world = World(cold_start_s=40)
    world.create(setup="0-1", idle_timeout_s=10)
    caller = world.request(service_s=120)
    world.until(lambda: caller.done_ns)
    assert caller.outcome == "w1"


def test_idle_keeps_the_baseline_and_removes_the_rest() -> None:
    world = World()
    world.create(setup="1-3", policy=RequestCount(value=1))
    world.until(lambda: world.ready() == 1)
    callers = [world.request(service_s=6) for _ in range(3)]
    world.until(lambda: all(c.done_ns for c in callers))
    assert world.ready() == 3
    world.advance(12)
    assert world.ready() == 1


def test_load_on_one_endpoint_does_not_touch_another() -> None:
    world = World("L40:4")
    world.create("quiet", setup="1-1")
    world.create("noisy", setup="1-3", policy=RequestCount(value=1))
    world.until(lambda: world.ready("quiet") == 1 and world.ready("noisy") == 1)
    for _ in range(50):
        world.request("noisy", service_s=5)
    world.advance(1)
    caller = world.request("quiet", service_s=1)
    world.until(lambda: caller.done_ns)
    assert caller.waited_s == 0
    assert len(world.workers("quiet")) == 1


def test_update_rolls_new_before_old_and_never_above_the_maximum() -> None:
    world = World("L40:4")
    world.create(setup="2-3")
    world.until(lambda: world.ready() == 2)
    before = {w.id for w in world.workers()}
    lowest = 2
    outcome = world.command(UpdateEndpoint(id=world.id(), slug="echo", changes=EndpointChanges(env={"ECHO_SEED": "7"})))
    assert isinstance(outcome, Accepted)
    for _ in range(200):
        world.advance(0.2)
        lowest = min(lowest, world.ready())
    assert {w.id for w in world.workers()} & before == set()
    assert lowest == 2
    assert world.most_workers["echo"] <= 3
    assert world.ready() == 2


def test_update_of_1_1_surges_on_a_free_gpu_and_is_not_billed_twice() -> None:
    world = World("L40:2")
    world.create(setup="1-1")
    world.until(lambda: world.ready() == 1)
    world.command(UpdateEndpoint(id=world.id(), slug="echo", changes=EndpointChanges(env={"ECHO_SEED": "7"})))
    most_billed = 0
    surged = False
    for _ in range(200):
        world.advance(0.1)
        most_billed = max(most_billed, len(world.state.intervals))
        surged = surged or any(w.surge for w in world.workers())
        assert world.ready() >= 1
    assert surged
    assert most_billed == 1
    assert [w.generation for w in world.workers()] == [2]


def test_update_of_1_1_without_a_spare_gpu_holds_requests_meanwhile() -> None:
    world = World("L40:1")
    world.create(setup="1-1")
    world.until(lambda: world.ready() == 1)
    world.command(UpdateEndpoint(id=world.id(), slug="echo", changes=EndpointChanges(env={"ECHO_SEED": "7"})))
    callers = []
    for _ in range(100):
        world.advance(0.1)
        callers.append(world.request(service_s=0.01))
    world.until(lambda: all(c.done_ns for c in callers))
    assert {c.outcome for c in callers} == {"w1", "w2"} or {c.outcome for c in callers} == {"w1"}
    assert [w.generation for w in world.workers()] == [2]


def test_scaling_fields_apply_at_once_without_a_roll() -> None:
    world = World()
    world.create(setup="1-2")
    world.until(lambda: world.ready() == 1)
    first = world.workers()[0].id
    world.command(UpdateEndpoint(id=world.id(), slug="echo", changes=EndpointChanges(baseline=2)))
    world.until(lambda: world.ready() == 2)
    assert world.workers()[0].id == first


def test_lowering_the_maximum_drains_the_surplus() -> None:
    world = World()
    world.create(setup="3-3")
    world.until(lambda: world.ready() == 3)
    world.command(UpdateEndpoint(id=world.id(), slug="echo", changes=EndpointChanges(baseline=1, maximum=1)))
    world.advance(2)
    assert world.ready() == 1


def test_disable_drains_then_stops_and_enable_starts_again() -> None:
    world = World()
    world.create(setup="1-1")
    world.until(lambda: world.ready() == 1)
    busy, waiting = world.request(service_s=5), world.request(service_s=5)
    world.command(DisableEndpoint(id=world.id(), slug="echo"))
    assert waiting.outcome == "endpoint_disabled"
    assert world.request().outcome == "endpoint_disabled"
    world.advance(3)
    assert len(world.workers("echo", WorkerState.DRAINING)) == 1
    world.advance(3)
    assert busy.done_ns is not None
    assert world.workers() == []
    assert world.snapshot().endpoints[0].state is EndpointState.DISABLED
    world.command(EnableEndpoint(id=world.id(), slug="echo"))
    world.until(lambda: world.ready() == 1)


def test_delete_drains_and_forgets() -> None:
    world = World()
    world.create(setup="2-2")
    world.until(lambda: world.ready() == 2)
    world.command(DeleteEndpoint(id=world.id(), slug="echo"))
    world.advance(2)
    assert dict(world.state.endpoints) == {}
    assert dict(world.state.intervals) == {}
    assert "echo" not in world.table.routes


def test_a_client_that_left_the_queue_starts_no_worker() -> None:
    world = World()
    world.create(setup="0-1")
    caller = world.request()
    world.table.routes["echo"].lane.cancel(caller)
    world.advance(5)
    assert world.workers() == []
    assert world.most_workers["echo"] == 0


def test_a_recycled_worker_is_drained_and_replaced() -> None:
    world = World()
    world.create(setup="1-1")
    world.until(lambda: world.ready() == 1)
    first = world.workers()[0].id
    lane = world.table.routes["echo"].lane
    slot = lane.claim()
    assert slot is not None
    lane.demand_recycle(slot)
    lane.release(slot, world.now_ns)
    world.until(lambda: world.ready() == 1 and world.workers()[0].id != first)


def test_a_roll_does_not_outrank_the_missing_baseline_of_another_endpoint() -> None:
    """Else the successor takes the GPU that the baseline needs, is preempted for it, and takes it again, for ever."""
    world = World("L40:2")
    world.create("one", setup="1-2")
    world.create("two", setup="1-1")
    world.until(lambda: world.ready("one") == world.ready("two") == 1)
    changes = EndpointChanges(env={"ECHO_SEED": "7"})
    world.command(UpdateEndpoint(id=world.id(), slug="one", changes=changes))
    world.kill(world.workers("two")[0].id)
    started = world.state.serial
    world.until(lambda: world.ready("two") == 1 and [w.generation for w in world.workers("one")] == [2], limit_s=60)
    world.until(lambda: world.ready("one") == 1, limit_s=60)
    assert world.state.serial - started <= 3


def test_workers_that_drain_change_their_tier_too() -> None:
    world = World()
    world.create("one", setup="1-2", policy=RequestCount(value=1))
    callers = [world.request("one", service_s=20) for _ in range(2)]
    world.until(lambda: all(c.outcome for c in callers))
    world.command(DisableEndpoint(id=world.id(), slug="one"))
    world.command(UpdateEndpoint(id=world.id(), slug="one", changes=EndpointChanges(baseline=2)))
    world.advance(0.1)
    assert [i.opened.tier for i in world.state.intervals.values()] == [Tier.BASELINE] * 2
