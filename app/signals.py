"""Leaving on SIGTERM and SIGHUP with the terminal as it was found."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable


def exit_on_signals(leave: Callable[[], object]) -> list[str]:
    """Call `leave` when asked to end. Returns the names of signals that could not be bound (not the main thread,
    no such signal on this system).

    Textual restores the terminal only on its own way out: without these handlers a SIGTERM or a closed terminal leaves
    the alternate screen and mouse reporting on.
    """
    loop = asyncio.get_running_loop()
    unbound = []
    for name in ("SIGTERM", "SIGHUP"):
        try:
            loop.add_signal_handler(getattr(signal, name), leave)
        except (AttributeError, NotImplementedError, RuntimeError, ValueError):
            unbound.append(name)
    return unbound
