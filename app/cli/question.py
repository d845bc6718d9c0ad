"""A question on the terminal that Ctrl-C ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import click


def agreed(question: str, *, default: bool) -> bool:
    """Whether the user says yes. Raises click.Abort on Ctrl-C and at the end of the input."""
    with _interruptible():
        return click.confirm(question, default=default, err=True)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Questions are asked within the event loop, which stands still meanwhile. Its own handler takes the first Ctrl-C
    for a cancellation, which nobody would carry out before the question is answered."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
        yield
        return
    loops = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, loops)
