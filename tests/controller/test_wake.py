"""A tick comes when something is due, not only when the next one would have come anyway."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from orchestrator.contract.command import Accepted, CreateEndpoint
from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.controller import loop
from orchestrator.core.lane import Slot
from tests.bench.creates import controller_over
from tests.e2e.host import new_id
from tests.ledger.memory import MEMORY
from tests.waiting import until


class Caller:
    size_bytes = 1

    def __init__(self, arrived_ns: int) -> None:
        self.arrived_ns = arrived_ns
        self.slots: list[Slot] = []

    def granted(self, slot: Slot) -> None:
        self.slots.append(slot)

    def refused(self, closed: object) -> None:
        raise AssertionError(closed)


async def test_an_idle_worker_goes_when_its_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ticks an hour apart, nothing but the wake-up can end an idle timeout of one second."""
    monkeypatch.setattr(loop, "TICK_S", 3_600.0)
    with tempfile.TemporaryDirectory(prefix="gpudeck-", dir=MEMORY) as directory:
        async with controller_over(Path(directory) / "ledger.db") as controller:
            spec = EndpointSpec(slug="echo", model="echo", gpu_type="L40", baseline=0, maximum=1, idle_timeout_s=1)
            assert isinstance(await controller.submit(CreateEndpoint(id=new_id(), spec=spec)), Accepted)
            lane = controller._table.routes["echo"].lane
            caller = Caller(controller._now())
            assert lane.claim() is None
            assert lane.enqueue(caller)
            await until(lambda: caller.slots, what="a worker")
            ended_ns = controller._now()
            lane.release(caller.slots[0], ended_ns)
            controller._nudge()
            await until(lambda: not controller.state.workers, what="the idle timeout")
            assert controller._now() - ended_ns >= 1_000_000_000
