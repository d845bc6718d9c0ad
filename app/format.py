"""Figures as text. Pure: no clock, no locale, no terminal.

Amounts are cut off, never rounded up, as the ledger's own floor is: a balance shown is a balance that is there. An
absent measurement is `ABSENT`, never 0.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Final

ABSENT: Final = "n/a"
NOTHING: Final = "–"
"""Shown where a figure does not exist yet, such as a percentile of no requests."""

_SEQUENCE: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_SECOND_NS: Final = 1_000_000_000
_DOLLAR_U: Final = 1_000_000
_CENT_U: Final = 10_000


def money(amount_u: int) -> str:
    """Micro-dollars as dollars: cents from one cent up, the digits that matter below it (`$12.34`, `$0.0042`)."""
    sign, size = ("−", -amount_u) if amount_u < 0 else ("", amount_u)
    whole, rest = divmod(size, _DOLLAR_U)
    if size == 0 or size >= _CENT_U:
        return f"{sign}${whole:,}.{rest // _CENT_U:02d}"
    digits = f"{rest:06d}"
    return f"{sign}$0.{digits[:4] if size >= 100 else digits}"


def rate_per_hour(rate_uh: int) -> str:
    """Micro-dollars per hour, such as `$2.67/h`."""
    return f"{money(rate_uh)}/h"


def rate_per_second(rate_uh: int) -> str:
    """The same rate by the second with four decimals, six when it is smaller than that: `$0.0042/s`."""
    per_second_u = rate_uh // 3_600
    if per_second_u >= _DOLLAR_U:
        return f"{money(per_second_u)}/s"
    digits = f"{per_second_u:06d}"
    return f"$0.{digits[:4] if per_second_u >= 100 or per_second_u == 0 else digits}/s"


def duration(span_ns: int) -> str:
    """A span in its two largest units: `850 ms`, `3.1 s`, `42 s`, `3 m 12 s`, `2 h 14 m`, `3 d 4 h`."""
    if span_ns < 0:
        span_ns = 0
    milliseconds = span_ns // 1_000_000
    if milliseconds < 1_000:
        return f"{milliseconds} ms"
    if milliseconds < 10_000:
        return f"{milliseconds // 1_000}.{milliseconds % 1_000 // 100} s"
    return seconds(span_ns // _SECOND_NS)


def seconds(span_s: int) -> str:
    """Whole seconds in the two largest units: `0 s`, `59 s`, `1 m 00 s`, `2 h 14 m`, `3 d 4 h`."""
    span_s = max(span_s, 0)
    minutes, left_s = divmod(span_s, 60)
    hours, left_m = divmod(minutes, 60)
    days, left_h = divmod(hours, 24)
    if days:
        return f"{days} d {left_h} h"
    if hours:
        return f"{hours} h {left_m:02d} m"
    if minutes:
        return f"{minutes} m {left_s:02d} s"
    return f"{left_s} s"


def age(then_ns: int, now_ns: int) -> str:
    """How long ago, in whole seconds: `now`, `3 s ago`, `2 h 14 m ago`."""
    span_s = (now_ns - then_ns) // _SECOND_NS
    return "now" if span_s < 1 else f"{seconds(span_s)} ago"


def runway(hours: float | None) -> str:
    """Hours of credit: `2 h 08 m`, `3.2 d`, `412 d`, `> 1 y`; `no burn` when nothing is being spent."""
    if hours is None:
        return "no burn"
    if hours <= 0:
        return "none"
    if hours < 48:
        minutes = int(hours * 60)
        return f"{minutes // 60} h {minutes % 60:02d} m" if minutes >= 60 else f"{minutes} m"
    days = hours / 24
    if days > 365:
        return "> 1 y"
    return f"{days:.1f} d" if days < 100 else f"{int(days)} d"


def latency(span_ms: int | None) -> str:
    """A latency in at most seven characters: `85 ms`, `1.24 s`, `12.3 s`, `2m 03s`; a dash when there is none."""
    if span_ms is None:
        return NOTHING
    if span_ms < 1_000:
        return f"{span_ms} ms"
    if span_ms < 10_000:
        return f"{span_ms // 1_000}.{span_ms % 1_000 // 10:02d} s"
    if span_ms < 60_000:
        return f"{span_ms // 1_000}.{span_ms % 1_000 // 100} s"
    if span_ms < 3_600_000:
        return f"{span_ms // 60_000}m {span_ms // 1_000 % 60:02d}s"
    return f"{span_ms // 3_600_000}h {span_ms // 60_000 % 60:02d}m"


def wait(span_s: float) -> str:
    """A time that requests waited, in at most seven characters: `0.0 s`, `85 ms`, `12.3 s`, `1,607 s`."""
    if span_s >= 99.95:
        return f"{span_s:,.0f} s"
    return f"{span_s * 1_000:.0f} ms" if 0.0005 <= span_s < 0.0995 else f"{span_s:.1f} s"


def count(number: int) -> str:
    """A count in at most six characters: `0`, `1,234`, `12.3k`, `4.5M`, `1.2G`."""
    if number < 10_000:
        return f"{number:,}"
    for unit, size in (("G", 1_000_000_000), ("M", 1_000_000), ("k", 1_000)):
        if number >= size:
            tenths = number * 10 // size
            return f"{tenths // 10}.{tenths % 10}{unit}" if tenths < 1_000 else f"{tenths // 10}{unit}"
    return str(number)


def counted(number: int, noun: str) -> str:
    """`1 worker`, `3 workers`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def memory(size_bytes: int | None) -> str:
    """Binary units as GPUs are sold: `812 MiB`, `38.2 GiB`."""
    if size_bytes is None:
        return ABSENT
    mebibytes = size_bytes / 2**20
    return f"{mebibytes:.0f} MiB" if mebibytes < 1_000 else f"{mebibytes / 1_024:.1f} GiB"


def memory_pair(used_bytes: int | None, total_bytes: int | None) -> str:
    """Used of total in GiB: `38.2/45.0 GiB`; where the use is not known the total alone, `n/a` without a total."""
    total = ABSENT if total_bytes is None else f"{total_bytes / 2**30:.1f} GiB"
    return total if used_bytes is None else f"{used_bytes / 2**30:.1f}/{total}"


def percent(value: int | None) -> str:
    return ABSENT if value is None else f"{value}%"


def power(draw_mw: int | None, limit_mw: int | None) -> str:
    """Draw and limit in watts, as nvitop writes them: `212/300W`."""
    if draw_mw is None:
        return ABSENT
    return f"{draw_mw // 1_000}W" if limit_mw is None else f"{draw_mw // 1_000}/{limit_mw // 1_000}W"


def temperature(value_c: int | None) -> str:
    return ABSENT if value_c is None else f"{value_c}°C"


def clock(at_ns: int, zone: tzinfo | None = None) -> str:
    """The time of day `HH:MM:SS` of an instant, in `zone` (None: this machine's)."""
    return datetime.fromtimestamp(at_ns // _SECOND_NS, UTC).astimezone(zone).strftime("%H:%M:%S")


def day(at_ns: int, zone: tzinfo | None = None) -> str:
    """The date of an instant and how far its times are from UTC: `2026-03-01 UTC`, `2026-03-01 UTC+01:00`."""
    local = datetime.fromtimestamp(at_ns // _SECOND_NS, UTC).astimezone(zone)
    offset = f"{local:%z}"
    return f"{local:%Y-%m-%d} UTC" + ("" if offset == "+0000" else f"{offset[:3]}:{offset[3:5]}")


def plain(text: str) -> str:
    """Foreign text made harmless: terminal sequences, control characters and bidi overrides gone, tabs and line ends
    as spaces."""
    spaced = _SEQUENCE.sub("", text) if "\x1b" in text else text
    spaced = spaced.replace("\t", "    ").replace("\n", " ").replace("\r", " ")
    if spaced.isprintable():
        return spaced
    return "".join(char for char in spaced if unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Co", "Cn"})


def cells(text: str) -> int:
    """Terminal cells that `text` takes: wide characters two, combining ones none."""
    return len(text) if text.isascii() else _cells(text)


@lru_cache(maxsize=8_192)
def _cells(text: str) -> int:
    """Remembered, for glyphs and their words come again and again."""
    return sum(_cells_of(char) for char in text)


def _cells_of(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def clip(text: str, width: int) -> str:
    """At most `width` cells of `text`, ending in `…` when something was cut off."""
    if cells(text) <= width:
        return text
    if width <= 0:
        return ""
    kept, used = [], 0
    for char in text:
        used += _cells_of(char)
        if used > width - 1:
            break
        kept.append(char)
    return "".join(kept) + "…"


def fit(text: str, width: int, *, right: bool = False) -> str:
    """`text` in exactly `width` cells: clipped, or padded on the other side of its alignment."""
    clipped = clip(text, width)
    gap = " " * (width - cells(clipped))
    return gap + clipped if right else clipped + gap
