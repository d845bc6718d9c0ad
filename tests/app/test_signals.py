"""Who is told when the process is asked to end."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from app.signals import NUMBERS, leaving_on_signals
from tests.waiting import until


@pytest.mark.parametrize("number", NUMBERS)
async def test_the_innermost_block_is_told_and_after_the_last_one_nobody(number: signal.Signals) -> None:
    usual = signal.getsignal(number)
    told: list[str] = []
    with leaving_on_signals(lambda: told.append("outer")):
        with leaving_on_signals(lambda: told.append("inner")):
            os.kill(os.getpid(), number)
            await until(lambda: told == ["inner"])
        os.kill(os.getpid(), number)
        await until(lambda: told == ["inner", "outer"])
    assert signal.getsignal(number) == usual


async def test_in_another_thread_nothing_is_bound() -> None:
    usual = signal.getsignal(signal.SIGTERM)

    async def inside() -> object:
        with leaving_on_signals(lambda: None):
            return signal.getsignal(signal.SIGTERM)

    assert await asyncio.to_thread(lambda: asyncio.run(inside())) == usual
