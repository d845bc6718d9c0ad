"""UTC days and months from nanoseconds, without a clock or a time zone database."""

from __future__ import annotations

from orchestrator.contract.base import DAY_NS


def day_of(now_ns: int) -> int:
    """Days since 1970-01-01 UTC."""
    return now_ns // DAY_NS


def month_of(now_ns: int) -> int:
    """Months since 1970-01, UTC (proleptic Gregorian; Hinnant's civil-from-days)."""
    z = day_of(now_ns) + 719_468
    era = z // 146_097
    doe = z - era * 146_097
    yoe = (doe - doe // 1_460 + doe // 36_524 - doe // 146_096) // 365
    doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    mp = (5 * doy + 2) // 153
    month = mp + 3 if mp < 10 else mp - 9
    year = yoe + era * 400 + (1 if month <= 2 else 0)
    return (year - 1970) * 12 + month - 1
