"""The ways the echo model can fail on request, so that each failure of a real model can be rehearsed."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import Final, NoReturn

from orchestrator.worker.server import LOG

FAULTS: Final = ("exit", "crash", "hang", "half", "oom", "unhealthy", "slow_body")
PAGE_BYTES: Final = 4_096
MIB: Final = 1024 * 1024


def held_memory(mib: int) -> bytearray:
    """`mib` MiB that are resident: every page is written, since untouched zero pages cost no memory."""
    block = bytearray(mib * MIB)
    block[::PAGE_BYTES] = b"\1" * len(range(0, len(block), PAGE_BYTES))
    return block


def exit_now(code: int) -> NoReturn:
    """End at once, in the middle of the request, with `code`."""
    LOG.error("echo: exiting with code %d as asked", code)
    logging.shutdown()
    os._exit(code)


def crash() -> NoReturn:
    """End by SIGKILL: no handler runs, no reply is sent."""
    LOG.error("echo: killing itself as asked")
    logging.shutdown()
    os.kill(os.getpid(), signal.SIGKILL)
    # The kernel ignores a SIGKILL that process 1 of a container sends to itself; 137 is how an engine reports one.
    os._exit(128 + signal.SIGKILL)


async def hang() -> NoReturn:
    """Never answer; ends only with the connection or the process."""
    LOG.error("echo: hanging as asked")
    while True:
        await asyncio.Event().wait()


async def eat_memory(step_mib: int, limit_mib: int) -> NoReturn:
    """Grow by `step_mib` MiB until the memory limit around this process kills it. Where there is none it ends by
    SIGKILL at `limit_mib` (ECHO_OOM_LIMIT_MB), so that a rehearsal never takes the whole host down."""
    LOG.error("echo: growing by %d MiB a step until killed, as asked", step_mib)
    eaten: list[bytearray] = []
    while len(eaten) * step_mib < limit_mib:
        eaten.append(await asyncio.to_thread(held_memory, step_mib))
    LOG.error("echo: nothing stopped it at %d MiB", limit_mib)
    crash()
