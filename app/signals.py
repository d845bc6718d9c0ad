"""Leaving on SIGTERM and SIGHUP with the terminal, and everything that was started, as it was found."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

NUMBERS: Final = (signal.SIGTERM, signal.SIGHUP)

_leaving: Final[list[Callable[[], object]]] = []
"""Who is told; signals come to the process, so there is one list of it. The last one counts."""


@contextmanager
def leaving_on_signals(leave: Callable[[], object]) -> Iterator[None]:
    """Call `leave` in the running loop when asked to end; inside another such block, instead of what that one calls.
    After the outermost block these signals end the program again.

    Textual restores the terminal only on its own way out: without this a SIGTERM or a closed terminal leaves the
    alternate screen and mouse reporting on. Only the main thread can bind signals; in another one nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    if not _leaving:
        for number in NUMBERS:
            loop.add_signal_handler(number, lambda: _leaving[-1]())
    _leaving.append(leave)
    try:
        yield
    finally:
        _leaving.pop()
        if not _leaving:
            for number in NUMBERS:
                loop.remove_signal_handler(number)
