"""Every test of the gateway runs on both event loops it supports, and gets a rig of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from tests.gateway.rig import Rig


def pytest_asyncio_loop_factories(
    config: object, item: object
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A gateway with one private lane `sketch` of account `local`, no workers yet. Ends by proving nothing leaked."""
    rig = await Rig.started()
    yield rig
    await rig.finish()
