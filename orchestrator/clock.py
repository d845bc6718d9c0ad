"""The only module that reads a clock. Everything else is given `now`."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

Now = Callable[[], int]
"""Wall-clock nanoseconds that never run backwards while the process lives."""

log = logging.getLogger(__name__)

NOTABLE_NS = 1_000_000_000
"""Differences below a second are the clock being disciplined, not set."""


def system_now() -> Now:
    """A clock anchored once to the wall and advanced by CLOCK_BOOTTIME (which counts suspend, as CLOCK_MONOTONIC does
    not): a step of the wall clock after start changes neither a duration nor a bill (reliability.md H6, H7)."""
    return _advanced_from(time.time_ns() - _uptime_ns())


def continued_now(file: Path, boot_id: str, charged_to_ns: int) -> Now:
    """`system_now`, but one that goes on across a restart while something is being charged.

    `charged_to_ns` is the latest instant up to which anything running has been seen or charged, 0 for nothing. Then the
    anchor of the earlier process of this boot, kept in `file`, holds on, so that setting the wall clock, forward or
    back, between two runs charges nobody for time that did not pass; and time never starts before `charged_to_ns`
    (reliability.md B6). With nothing running the wall clock is right again.
    """
    wall_ns = time.time_ns() - _uptime_ns()
    anchor_ns = wall_ns
    if charged_to_ns:
        earlier_ns = _read_anchor(file, boot_id)
        anchor_ns = max(wall_ns if earlier_ns is None else earlier_ns, charged_to_ns - _uptime_ns())
    if abs(anchor_ns - wall_ns) > NOTABLE_NS:
        off_s = (anchor_ns - wall_ns) / NOTABLE_NS
        log.warning("the wall clock was set by %.0f s while workers were charged; their time goes on as it was", -off_s)
    _write_anchor(file, boot_id, anchor_ns)
    return _advanced_from(anchor_ns)


_STEADY: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def _uptime_ns() -> int:
    return time.clock_gettime_ns(_STEADY)


def _advanced_from(anchor_ns: int) -> Now:
    """One call deep, because the gateway asks twice per request."""
    read, clock = time.clock_gettime_ns, _STEADY
    return lambda: anchor_ns + read(clock)


def _read_anchor(file: Path, boot_id: str) -> int | None:
    """The anchor of this boot; None when there is none, or the file is not one of ours."""
    try:
        document = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(document, dict) or document.get("boot_id") != boot_id:
        return None
    anchor_ns = document.get("anchor_ns")
    return anchor_ns if type(anchor_ns) is int else None


def _write_anchor(file: Path, boot_id: str, anchor_ns: int) -> None:
    draft = file.with_name(f".{file.name}")
    try:
        draft.write_text(json.dumps({"boot_id": boot_id, "anchor_ns": anchor_ns}), encoding="ascii")
        draft.replace(file)
    except OSError as error:
        log.warning("%s: cannot be written (%s): a clock that is set before the next start may show", file, error)
