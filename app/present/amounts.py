"""Amounts, instants and spans to the last digit, for documents that must add up. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from orchestrator.contract.base import DOLLAR_U, SECOND_NS


def exact(amount_u: int) -> str:
    """Micro-dollars as a plain decimal number of dollars with all six places: `-0.000042`, `64.080000`."""
    whole, rest = divmod(abs(amount_u), DOLLAR_U)
    return f"{'-' if amount_u < 0 else ''}{whole}.{rest:06d}"


def split_money(amount_u: int) -> tuple[str, str]:
    """Dollars and cents for the eye, and the four places below them: (`1,234.56`, `7890`). The sign is a true minus."""
    whole, rest = divmod(abs(amount_u), DOLLAR_U)
    return f"{'−' if amount_u < 0 else ''}{whole:,}.{rest // 10_000:02d}", f"{rest % 10_000:04d}"


def exact_money(amount_u: int) -> str:
    """`$1,234.567890`."""
    cents, micro = split_money(amount_u)
    sign, digits = ("−", cents[1:]) if amount_u < 0 else ("", cents)
    return f"{sign}${digits}{micro}"


def instant(at_ns: int) -> str:
    """`2026-03-01 08:53:20.123` in UTC."""
    return f"{_utc(at_ns):%Y-%m-%d %H:%M:%S}.{at_ns % SECOND_NS // 1_000_000:03d}"


def minute(at_ns: int) -> str:
    """`2026-03-01 08:53` in UTC."""
    return f"{_utc(at_ns):%Y-%m-%d %H:%M}"


def clock(at_ns: int) -> str:
    """`08:53:20.123` in UTC."""
    return instant(at_ns)[11:]


def iso(at_ns: int) -> str:
    """`2026-03-01T08:53:20.123456789Z`."""
    return f"{_utc(at_ns):%Y-%m-%dT%H:%M:%S}.{at_ns % SECOND_NS:09d}Z"


def hours(span_ns: int) -> str:
    """`24:00:00.000`: hours, minutes, seconds, thousandths (cut off)."""
    seconds, rest = divmod(span_ns, SECOND_NS)
    return f"{seconds // 3_600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest // 1_000_000:03d}"


def day_of(at_ns: int) -> int:
    """Days since 1970-01-01 UTC."""
    return at_ns // (86_400 * SECOND_NS)


def _utc(at_ns: int) -> datetime:
    return datetime.fromtimestamp(at_ns // SECOND_NS, UTC)
