"""The snapshot in steps: whoever pauses between two of them gets the state of one moment, and no step is long."""

from __future__ import annotations

from itertools import islice

from orchestrator.contract.snapshot import EndpointState, LanesView, WorkerState
from orchestrator.contract.steps import finished
from orchestrator.core.observe import observe, observing
from orchestrator.simulator.deck import NOWHERE
from tests.core.world import World


def busy_world() -> World:
    world = World("L40:6")
    for slug in ("one", "two", "three"):
        world.create(slug, "1-2")
    world.until(lambda: all(world.ready(slug) == 1 for slug in ("one", "two", "three")))
    return world


def test_steps_lead_to_what_is_seen_at_once() -> None:
    world = busy_world()
    assert finished(observing(world.state, NOWHERE, world.now_ns)) == observe(world.state, NOWHERE, world.now_ns)


def test_a_pause_changes_nothing_of_the_moment_that_is_shown() -> None:
    world = busy_world()
    expected = observe(world.state, NOWHERE, world.now_ns)
    steps = observing(world.state, NOWHERE, world.now_ns)
    assert len(list(islice(steps, 7))) == 7, "in the middle of it"
    world.kill(next(iter(world.state.workers)))
    world.advance(30.0)
    assert observe(world.state, NOWHERE, world.now_ns) != expected
    assert finished(steps) == expected


def test_a_step_is_one_gpu_one_endpoint_or_one_account() -> None:
    world = busy_world()
    steps = sum(1 for _ in observing(world.state, NOWHERE, world.now_ns))
    assert steps == len(world.state.gpus) + len(world.state.endpoints) + len(world.state.accounts)


def test_workers_and_costs_are_those_of_their_endpoint_in_ordinal_order() -> None:
    world = busy_world()
    world.request("two", service_s=60.0)
    world.request("two", service_s=60.0)
    world.until(lambda: world.ready("two") == 2)
    shown = {each.spec.slug: each for each in world.snapshot().endpoints}
    assert [w.label for w in shown["two"].workers] == ["w1", "w2"]
    assert {w.endpoint for w in shown["two"].workers} == {"two"}
    assert shown["two"].cost.per_hour_u > shown["one"].cost.per_hour_u == shown["three"].cost.per_hour_u > 0
    assert {each.state for each in shown.values()} == {EndpointState.SERVING}


def test_lanes_count_the_workers_second_by_second() -> None:
    world = World()
    world.create("echo", "1-2")
    world.until(lambda: world.ready("echo") == 1)
    world.advance(3.0)
    lanes = world.snapshot().endpoints[0].lanes
    assert (lanes.samples[0].starting, lanes.samples[-1].idle) == (1, 1)
    assert lanes.peak == 1
    assert len(lanes.samples) == len(lanes.busy) >= 4
    assert world.workers("echo", WorkerState.READY)
    assert LanesView.of(lanes.samples) == lanes
    assert LanesView.of([]) == LanesView()


def test_what_did_not_change_between_two_looks_is_the_same_object() -> None:
    world = busy_world()
    first, second = world.snapshot(), world.snapshot()
    for one, other in zip(first.endpoints, second.endpoints, strict=True):
        assert one.spec is other.spec
        assert one.lanes is other.lanes
