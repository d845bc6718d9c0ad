"""The end of a full-screen program whose terminal went away.

Textual leaves cleanly on SIGHUP only if its writer thread still takes what the main thread hands it. That thread can
die of a write to a terminal that is gone, and the main thread then waits for it for ever: a process without a terminal
that no Ctrl-C reaches. So a thread of ours watches the terminal itself.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

GRACE_S: Final = 5.0
EXIT_HANGUP: Final = 129


class HangupGuard:
    """`with HangupGuard(last_will):` around the full-screen program.

    When the terminal on `descriptor` hangs up and the block is not left within `grace_s` seconds, `last_will` is called
    in a thread and the process ends with status 129.
    """

    def __init__(
        self, last_will: Callable[[], None] = lambda: None, *, descriptor: int = 0, grace_s: float = GRACE_S
    ) -> None:
        self._last_will = last_will
        self._descriptor = descriptor
        self._grace_s = grace_s
        self._left, self._leaving = os.pipe()
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
        if poller.poll(self._grace_s * 1_000):
            return
        try:
            self._last_will()
        finally:
            os._exit(EXIT_HANGUP)
