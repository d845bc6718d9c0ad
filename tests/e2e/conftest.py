"""Hosts for end-to-end tests: one per engine; the docker one is skipped by name where no engine answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.host import Host
from tests.engine.docker_harness import missing


@pytest.fixture(params=["process", pytest.param("docker", marks=pytest.mark.docker)])
async def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Host]:
    """A running orchestrator; drained and stopped afterwards, whatever the test did."""
    engine = str(request.param)
    if engine == "docker":
        problem = missing()
        if problem is not None:
            pytest.skip(problem)
    home: Path = tmp_path_factory.mktemp("h")
    running = Host(home, engine)
    await running.start()
    yield running
    if running.process is not None and running.process.poll() is not None:
        await running.start()  # the test ended it: take over what it left, then stop that properly
    await running.stop()
