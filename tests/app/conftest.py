"""Fixtures of the command line's tests: a home of its own, and a scripted orchestrator in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.contract.places import HOME_VARIABLE, places
from tests.app.fake_orchestrator import FakeOrchestrator


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty GPUDECK_HOME, and no key in the environment."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    monkeypatch.delenv("GPUDECK_API_KEY", raising=False)
    return tmp_path


@pytest.fixture
async def fake(home: Path) -> AsyncIterator[FakeOrchestrator]:
    """Listens where the command line looks for the orchestrator."""
    async with FakeOrchestrator(places().socket_file) as server:
        yield server
