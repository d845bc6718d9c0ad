"""Days and months in UTC, as wall-clock nanoseconds since 1970. No clock is read here."""

from __future__ import annotations

from datetime import UTC, datetime

from orchestrator.contract.base import DAY_NS, SECOND_NS


def day_start_ns(at_ns: int) -> int:
    """The last UTC midnight at or before `at_ns`."""
    return at_ns // DAY_NS * DAY_NS


def month_start_ns(at_ns: int) -> int:
    """Midnight of the first of the month of `at_ns`."""
    day = datetime.fromtimestamp(at_ns // SECOND_NS, UTC)
    return _first_ns(day.year, day.month)


def month_bounds_ns(month: str) -> tuple[int, int]:
    """[start, end) of a month written YYYY-MM. Raises ValueError for anything else."""
    year, number = (int(part) for part in month.split("-"))
    end = (year + 1, 1) if number == 12 else (year, number + 1)
    return _first_ns(year, number), _first_ns(*end)


def _first_ns(year: int, month: int) -> int:
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp()) * SECOND_NS
