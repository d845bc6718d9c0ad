"""The only module that reads a clock. Everything else is given `now`."""

from __future__ import annotations

import time
from collections.abc import Callable

Now = Callable[[], int]
"""Wall-clock nanoseconds that never run backwards while the process lives."""


def system_now() -> Now:
    """A clock anchored once to the wall and advanced by CLOCK_BOOTTIME (which counts suspend, as CLOCK_MONOTONIC does
    not): a step of the wall clock after start changes neither a duration nor a bill (reliability.md H6, H7)."""
    source = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    anchor = time.time_ns() - time.clock_gettime_ns(source)
    return lambda: anchor + time.clock_gettime_ns(source)
