"""Faults on purpose: refused where they are switched off, aimed at a ready worker, and done as an effect."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.contract.command import Accepted, RefusalCode
from orchestrator.contract.faults import FaultKind, InjectFault
from orchestrator.core import effects as fx
from orchestrator.core import events as ev
from tests.core.world import World


@pytest.fixture
def world() -> World:
    made = World()
    made.state = replace(made.state, rules=replace(made.state.rules, faults=True))
    made.create(setup="2-2")
    made.until(lambda: made.ready() == 2)
    made.effects.clear()
    return made


def fault(world: World, kind: FaultKind = FaultKind.KILL, **fields: str) -> InjectFault:
    return InjectFault.model_validate({"id": world.id(), "slug": "echo", "fault": kind, **fields})


def test_they_are_refused_unless_switched_on_and_the_refusal_says_how() -> None:
    world = World()
    world.create(setup="1-1")
    world.until(lambda: world.ready() == 1)
    world.effects.clear()
    refusal = world.refused(fault(world))
    assert (refusal.code, refusal.field) == (RefusalCode.STATE, "faults")
    assert "faults = true" in refusal.message
    assert "GPUDECK_FAULTS" in refusal.message
    assert not any(isinstance(effect, fx.BreakWorker) for effect in world.effects)


def test_the_first_ready_worker_is_hit_unless_another_is_named(world: World) -> None:
    assert isinstance(world.command(fault(world)), Accepted)
    assert isinstance(world.command(fault(world, FaultKind.HANG, worker="w2")), Accepted)
    second = world.workers()[1].id
    assert isinstance(world.command(fault(world, FaultKind.FILL_MEMORY, worker=second)), Accepted)
    done = [effect for effect in world.effects if isinstance(effect, fx.BreakWorker)]
    first = world.workers()[0].id
    kinds = (FaultKind.KILL, FaultKind.HANG, FaultKind.FILL_MEMORY)
    assert done == [
        fx.BreakWorker(worker, "echo", kind) for worker, kind in zip((first, second, second), kinds, strict=True)
    ]
    assert [note for note in world.notes() if note.startswith("fault ")] == [
        "fault kill: w1 is killed", "fault hang: w2 is made to hang", "fault fill-memory: w2 runs out of memory",
    ]  # fmt: skip


def test_the_command_is_on_disk_before_the_worker_is_broken(world: World) -> None:
    world.command(fault(world))
    kinds = [type(effect) for effect in world.effects]
    assert kinds.index(fx.Persist) < kinds.index(fx.BreakWorker)


def test_nobody_is_hit_where_nobody_is_ready(world: World) -> None:
    refusal = world.refused(fault(world, worker="w9"))
    assert (refusal.code, refusal.field) == (RefusalCode.NOT_FOUND, "worker")
    assert "ready: w1, w2" in refusal.message
    assert world.refused(fault(world, slug="nobody")).field == "slug"


def test_a_dropped_driver_touches_no_worker(world: World) -> None:
    assert isinstance(world.command(fault(world, FaultKind.DROP_NVML)), Accepted)
    assert fx.DropGpus(20.0) in world.effects
    assert not any(isinstance(effect, fx.BreakWorker) for effect in world.effects)


def test_a_fault_that_could_not_be_done_is_said(world: World) -> None:
    worker = world.workers()[0]
    world.handle(ev.FaultFailed(worker.id, FaultKind.FILL_MEMORY, "Docker said no"))
    last = world.state.events[-1]
    assert (last.level, last.worker, last.endpoint) == ("error", worker.id, "echo")
    assert last.text == "fault fill-memory: not done to w1: Docker said no"
