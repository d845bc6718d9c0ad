"""Work that can be put down between two steps, so that whoever drives it decides how much of it is done at a time."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")
Steps = Generator[None, None, T]
"""Yields wherever it may pause; returns the result. What it reads must not change meanwhile."""


def finished(steps: Steps[T]) -> T:
    """The result, all at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
