"""Faults that last: a start that is late, probes that fail, and what is left of them when the orchestrator goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from orchestrator.contract.faults import FaultKind
from orchestrator.controller import rehearsal
from orchestrator.controller.rehearsal import Rehearsal
from orchestrator.core.effects import BreakWorker
from orchestrator.core.events import FaultFailed, Happening
from orchestrator.ledger.ports import LedgerError
from tests.engine.virtual_harness import VirtualHarness
from tests.waiting import until


class Stage:
    """One worker of the virtual engine, and the rehearsal that breaks it."""

    def __init__(self) -> None:
        self.world = VirtualHarness()
        self.told: list[Happening] = []
        self.rehearsal = Rehearsal(self.world.engine, self.told.append)

    async def start(self, n: int) -> str:
        """As the crew does it."""
        worker = await self.world.engine.start(self.world.spec(n))
        await self.rehearsal.started(worker.worker_id, "demo")
        return worker.worker_id

    async def do(self, fault: FaultKind, worker_id: str, problem: Exception | None = None) -> None:
        after: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if problem is None:
            after.set_result(None)
        else:
            after.set_exception(problem)
        self.rehearsal.begin(BreakWorker(worker_id, "demo", fault), after)
        await until(lambda: not self.rehearsal._tasks)

    async def paused(self, worker_id: str) -> bool:
        seen = await self.world.engine.inspect(worker_id)
        assert seen is not None
        return seen.paused


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    yield made
    await made.rehearsal.close()


async def test_the_successor_of_a_slow_start_stands_still_and_goes_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "SLOW_START_S", 0.05)
    first = await stage.start(1)
    assert not await stage.paused(first)
    await stage.do(FaultKind.SLOW_START, first)
    assert stage.world.engine.running == ()
    second = await stage.start(2)
    assert await stage.paused(second)
    third = await stage.start(3)
    assert not await stage.paused(third), "one start is late, not all that follow"
    await until(lambda: not stage.world.world.workers[second].observed.paused)


async def test_a_late_start_is_let_go_on_by_an_orchestrator_that_ends(stage: Stage) -> None:
    await stage.do(FaultKind.SLOW_START, await stage.start(1))
    late = await stage.start(2)
    assert await stage.paused(late)
    await stage.rehearsal.close()
    assert not await stage.paused(late)


async def test_probes_fail_until_the_worker_is_gone(stage: Stage) -> None:
    worker = await stage.start(1)
    await stage.do(FaultKind.FAIL_HEALTH, worker)
    assert stage.rehearsal.fails(worker)
    assert not stage.rehearsal.fails("w-2")
    stage.rehearsal.forget(worker)
    assert not stage.rehearsal.fails(worker)


async def test_what_the_engine_cannot_do_is_told(stage: Stage) -> None:
    await stage.do(FaultKind.KILL, "w-404")
    worker = await stage.start(1)
    stage.world.engine.down(True)
    await stage.do(FaultKind.HANG, worker)
    stage.world.engine.down(False)
    messages: list[Any] = [event.message for event in stage.told if isinstance(event, FaultFailed)]
    assert messages == ["it does not run", "the virtual engine is switched off"]


async def test_nothing_is_done_when_the_command_was_not_written(stage: Stage) -> None:
    worker = await stage.start(1)
    await stage.do(FaultKind.KILL, worker, LedgerError("the disk is full"))
    assert stage.world.engine.running == (worker,)
    assert stage.told == []
