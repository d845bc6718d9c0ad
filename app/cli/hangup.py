"""The end of a full-screen program whose terminal went away.

Textual leaves cleanly only if its writer thread still takes what the main thread hands it. That thread dies of a write
to a terminal that is gone, and the main thread then waits for it for ever: a process without a terminal that no Ctrl-C
reaches. So a thread of ours watches the terminal itself.
"""

from __future__ import annotations

import asyncio
import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Final, Self

from app.signals import leaving_on_signals

GRACE_S: Final = 5.0
EXIT_HANGUP: Final = 129


@contextmanager
def full_screen(leave: Callable[[], object], last_will: Callable[[], None] = lambda: None) -> Iterator[None]:
    """`with full_screen(app.leave):` around the program. `leave` is called in the running loop on SIGTERM and SIGHUP
    and when the terminal goes; for `last_will` see HangupGuard."""
    loop = asyncio.get_running_loop()
    with leaving_on_signals(leave), HangupGuard(partial(loop.call_soon_threadsafe, leave), last_will):
        yield


class HangupGuard:
    """`with HangupGuard(leave):` around the full-screen program.

    When the terminal on `descriptor` hangs up, what is still written to it goes nowhere, and `leave` is called in a
    thread. When the block is not left within `grace_s` seconds from then on, `last_will` is called in that thread too
    and the process ends with status 129.
    """

    def __init__(
        self,
        leave: Callable[[], object],
        last_will: Callable[[], None] = lambda: None,
        *,
        descriptor: int = 0,
        grace_s: float = GRACE_S,
    ) -> None:
        self._leave = leave
        self._last_will = last_will
        self._descriptor = descriptor
        self._grace_s = grace_s
        self._left, self._leaving = os.pipe()
        self._drawn_on = [number for number in (1, 2) if os.isatty(number)]
        self._thread = threading.Thread(target=self._watch, name="hangup", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._leaving)
        self._thread.join()
        os.close(self._left)

    def _watch(self) -> None:
        poller = select.poll()
        poller.register(self._left, select.POLLIN)
        poller.register(self._descriptor, 0)  # a hang-up is reported whatever is asked for
        for descriptor, _ in poller.poll():
            if descriptor == self._left:
                return
        poller.unregister(self._descriptor)
        self._let_go()
        self._leave()
        if poller.poll(self._grace_s * 1_000):
            return
        try:
            self._last_will()
        finally:
            os._exit(EXIT_HANGUP)

    def _let_go(self) -> None:
        """Writing to a terminal that is gone is an error, which Textual's writer does not survive."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for number in self._drawn_on:
            os.dup2(nowhere, number)
        os.close(nowhere)
