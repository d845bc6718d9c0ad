"""The end of a dashboard that a page had."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE

import pytest

from app.web.bridge import bury

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)


async def test_a_dashboard_does_not_outlive_a_server_that_ends_while_it_waits_for_it() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", STUBBORN, stdin=PIPE, stdout=PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"up\n"
    burial = asyncio.create_task(bury(process, patience_s=60))
    done, _ = await asyncio.wait({burial}, timeout=0.05)
    assert not done, "it waits for the child to end by itself"
    burial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await burial
    async with asyncio.timeout(30):
        assert await process.wait() == -signal.SIGKILL
