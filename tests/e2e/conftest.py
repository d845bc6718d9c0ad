"""Hosts for end-to-end tests: one per engine; the docker one is skipped by name where no engine answers."""

from __future__ import annotations

from collections.abc import AsyncIterator

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
    async with Host(tmp_path_factory.mktemp("h"), engine).running() as running:
        yield running
