"""What a process that serves does about its event loop and its pauses."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Final

SWITCH_S: Final = 0.0005
"""A thread that computes gives way to the event loop after this time. With Python's 5 ms, every turn of the loop that
finds the ledger's thread at work waits that long."""


def new_runner() -> asyncio.Runner:
    """The event loop goes before other threads, and is uvloop where that is installed: it halves what the gateway adds
    to a request."""
    sys.setswitchinterval(SWITCH_S)
    try:
        import uvloop
    except ImportError:
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


def settle_heap() -> None:
    """Take everything that is there out of the garbage collector's sight. Called once, when all is constructed.

    A full collection goes through modules, classes and models that stay for ever: 25 ms in which no request moves, at
    instants that nobody chooses. After this it goes only through what has come since.
    """
    gc.collect()
    gc.freeze()
