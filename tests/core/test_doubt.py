"""What only happens when several things happen at once. Each was found by a seeded story (tests/bench/faults.py)."""

from __future__ import annotations

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.command import Refused, TopUp, UpdateEndpoint
from orchestrator.contract.endpoint import EndpointChanges, RequestCount
from orchestrator.contract.snapshot import Tier
from orchestrator.core.billing import HEARTBEAT_PERIOD_NS
from orchestrator.simulator.fate import Start, Stop
from orchestrator.simulator.inspection import inspect_books
from tests.core.world import World

IDLE_S = 10


def idle_world() -> World:
    """`0-1` with a ready worker that has just become idle."""
    world = World()
    world.create(setup="0-1", policy=RequestCount(value=1), idle_timeout_s=IDLE_S)
    caller = world.request(service_s=1)
    world.until(lambda: caller.done_ns is not None)
    return world


def paid_s(world: World) -> float:
    """Seconds of closed intervals that the customer paid."""
    ledger = world.ledger
    return sum(
        (end.end_ns - ledger.opened[key].start_ns) / SECOND_NS for key, end in ledger.closed.items() if not end.absorbed
    )


def test_an_end_that_is_told_before_the_first_list_is_charged_without_the_absence() -> None:
    """The engine does not answer at the restart, but the worker's end is told: an end all the same of a time in which
    nobody could act."""
    world = idle_world()
    world.advance(6)
    world.crash(away_s=300, engine_answers=False)
    world.kill(world.workers()[0].id)
    assert world.workers() == []
    assert paid_s(world) < 2 + 1 + IDLE_S + HEARTBEAT_PERIOD_NS / SECOND_NS + 1
    assert any(end.absorbed for end in world.ledger.closed.values())


def test_a_start_whose_answer_died_with_us_is_not_charged_for_our_absence() -> None:
    """The call lands, the orchestrator is gone before it hears, and the engine is silent at the restart: the list that
    finds the worker settles what the absence cost."""
    world = World(cold_start_s=1)
    world.create(setup="0-1", policy=RequestCount(value=1), idle_timeout_s=IDLE_S)
    world.weather.start = lambda spec, at_ns: Start(0.2, 1.0, outlives_us=True)  # type: ignore[method-assign]
    world.request(service_s=600)
    world.advance(0.1)
    world.crash(away_s=200, engine_answers=False)
    [worker_id] = world.running
    world.relist()
    [absorbed] = [end for end in world.ledger.closed.values() if end.absorbed]
    assert absorbed.source == "absence"
    [interval] = world.state.intervals.values()
    assert interval.opened.worker_id == worker_id
    assert interval.opened.start_ns == world.now_ns
    assert interval.opened.tier is Tier.AUTOSCALE
    assert paid_s(world) == 0


def test_a_command_that_fails_does_not_take_a_sleep_of_the_host_with_it() -> None:
    """The first thing after a sleep is a command that the full disk refuses: the sleep has happened all the same, and
    is written as soon as it can be."""
    world = World()
    world.create(setup="1-1")
    world.until(lambda: world.ready() == 1)
    world.advance(20)
    world.suspend(600)
    world.disk_problem = "disk full"
    assert isinstance(world.command(TopUp(id=world.id(), account="local", amount_u=1_000_000)), Refused)
    world.free_disk()
    inspect_books(world.state, world.ledger)
    assert [end.source for end in world.ledger.closed.values()] == ["suspend"] * 2
    assert paid_s(world) < 30


def test_a_roll_waits_until_what_a_lowered_maximum_lets_go_has_gone() -> None:
    """Rule R12: never more than the maximum and one successor, although stops take their time."""
    world = World()
    world.create(setup="2-2")
    world.until(lambda: world.ready() == 2)
    world.weather.stop = lambda worker_id, at_ns: Stop(5.0)  # type: ignore[method-assign]
    for changes in (EndpointChanges(baseline=1, maximum=1), EndpointChanges(env={"ECHO_SEED": "7"})):
        world.command(UpdateEndpoint(id=world.id(), slug="echo", changes=changes))
    most = 0
    for _ in range(400):
        world.advance(0.1)
        most = max(most, len(world.workers()))
    assert most == 2
    assert [w.generation for w in world.workers()] == [2]
