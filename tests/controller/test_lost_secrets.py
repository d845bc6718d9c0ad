"""A worker is never started with a mask in place of a secret."""

from __future__ import annotations

import asyncio

from orchestrator.contract.secrets import MASK
from orchestrator.controller.crew import Crew
from orchestrator.core import events as ev
from orchestrator.core.effects import StartWorker
from tests.engine.virtual_harness import open_harness
from tests.waiting import until


async def test_a_start_without_its_secret_is_refused_before_the_engine_hears_of_it(tmp_path: object) -> None:
    harness = await open_harness(tmp_path)  # type: ignore[arg-type]
    happened: list[ev.Happening] = []
    crew = Crew(harness.engine, happened.append, lambda: 0)
    spec = harness.spec(1)
    spec.env["HF_TOKEN"] = MASK
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    ready.set_result(None)
    crew.start(StartWorker(spec), ready)
    await until(lambda: happened)
    [refused] = happened
    assert isinstance(refused, ev.LaunchRefused)
    assert (refused.worker_id, refused.code, refused.fatal, refused.engine_down) == ("w-1", "secret_lost", True, False)
    assert "env.HF_TOKEN" in refused.message
    assert await harness.leftovers() == []
    await crew.close()
