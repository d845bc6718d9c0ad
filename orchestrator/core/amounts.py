"""Micro-dollars as people read them, in whole cents. Which way a part of a cent goes is up to what is said with it."""

from __future__ import annotations

from typing import Final

from orchestrator.contract.base import DOLLAR_U

CENT_U: Final = DOLLAR_U // 100


def at_most(amount_u: int) -> str:
    """`$9.99`, rounded down: what is there. $9.999 must not read as the $10.00 that it is below."""
    return _dollars(amount_u // CENT_U)


def at_least(amount_u: int) -> str:
    """`$64.08`, rounded up: what is needed."""
    return _dollars(-(-amount_u // CENT_U))


def _dollars(cents: int) -> str:
    return f"{'-' if cents < 0 else ''}${abs(cents) // 100:,}.{abs(cents) % 100:02d}"
