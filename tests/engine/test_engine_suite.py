"""The engine suite against every engine this machine can run."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.engine.suite import EngineSuite, Harness, clean_up

ENGINES = [
    pytest.param("virtual", id="virtual"),
    pytest.param("process", id="process"),
    pytest.param("docker", id="docker", marks=pytest.mark.docker),
]


@pytest.fixture(params=ENGINES)
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Harness]:
    module = importlib.import_module(f"tests.engine.{request.param}_harness")
    reason = module.missing()
    if reason is not None:
        pytest.skip(f"{request.param} engine: {reason}")
    opened: Harness = await module.open_harness(tmp_path)
    try:
        yield opened
        assert await clean_up(opened) == [], "left behind after stop and remove"
    finally:
        await opened.close()


class TestEngine(EngineSuite):
    """All of the suite."""
