"""The terminal's driver: Textual's, for a program that others may stop and continue."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from textual.drivers.linux_driver import LinuxDriver


class ContinuedDriver(LinuxDriver):
    """Textual takes every SIGCONT for the end of a suspension of its own, and begins anew. After a SIGSTOP, which
    nobody can catch, that makes a second thread that reads the keys: some are lost, and the program never ends. This
    one ends what it had begun first, and once it has ended does nothing. Made in the loop that it works in."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._loop = asyncio.get_running_loop()

    def _sigcont_application(self, *_: object) -> None:
        if self._must_signal_resume:
            super()._sigcont_application()
            return
        # In the loop: a handler that writes while it interrupts a write would wait for itself.
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._begin_anew)

    def _begin_anew(self) -> None:
        if self._key_thread is None or not self._key_thread.is_alive():
            return
        self.suspend_application_mode()
        self._must_signal_resume = True
        self.resume_application_mode()
