"""Waiting on conditions, so that no test sleeps for a fixed time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


async def until(predicate: Callable[[], object], timeout_s: float = 60.0, what: str = "") -> None:
    """Return when `predicate()` is true; fail after `timeout_s` seconds, naming `what` was waited for."""
    deadline = time.monotonic() + timeout_s
    while not predicate():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what or predicate}"
        await asyncio.sleep(0.01)


def until_sync(predicate: Callable[[], object], timeout_s: float = 60.0, what: str = "") -> None:
    """`until` for code without an event loop."""
    deadline = time.monotonic() + timeout_s
    while not predicate():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what or predicate}"
        time.sleep(0.01)
