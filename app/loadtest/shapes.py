"""When the requests of a load test are due: a shape with its rates in requests a minute, to instants in seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from app.format import clip, plain
from app.loadtest.engine import rising, steady

RPM: Final = (0.1, 60_000.0)
SECONDS: Final = (1.0, 86_400.0)
REQUESTS_MAX: Final = 100_000
"""Of one test: every one is kept until the end."""
_PEAK: Final = (0.4, 0.6)
"""The part of a spike's time that is the peak."""


class Kind(StrEnum):
    """How the rate goes."""

    CONSTANT = "constant"
    RAMP = "ramp"
    SPIKE = "spike"
    RECORDED = "recorded"


MEANS: Final = {
    Kind.CONSTANT: "the same rate throughout",
    Kind.RAMP: "from one rate to another, evenly",
    Kind.SPIKE: "a low rate, a peak in the middle fifth, the low rate again",
    Kind.RECORDED: "the instants in a file, one in seconds a line",
}


class BadShape(ValueError):
    """A figure of the shape is out of range. `field` is rpm, to, seconds or file; the text says the limit."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class Shape:
    """What was asked for. `to_rpm`: the end of a ramp, the peak of a spike; `instants`: those of a recording."""

    kind: Kind
    rpm: float = 60.0
    to_rpm: float = 60.0
    seconds: float = 60.0
    instants: tuple[float, ...] = ()

    @property
    def words(self) -> str:
        """Such as `ramp 20 → 100 RPM over 60 s`."""
        if self.kind is Kind.RECORDED:
            return f"recorded, {len(self.instants):,} requests in {self.seconds:g} s"
        rates = f"{self.rpm:g}" if self.kind is Kind.CONSTANT else f"{self.rpm:g} → {self.to_rpm:g}"
        return f"{self.kind.value} {rates} RPM over {self.seconds:g} s"

    @property
    def peak_rpm(self) -> float:
        """The highest rate, over a minute or, of a shorter recording, the whole of it."""
        if self.kind is Kind.CONSTANT:
            return self.rpm
        if self.kind is not Kind.RECORDED:
            return max(self.rpm, self.to_rpm)
        span = min(60.0, max(self.seconds, 1.0))
        start = most = 0
        for end, instant in enumerate(self.instants):
            while instant - self.instants[start] >= span:
                start += 1
            most = max(most, end - start + 1)
        return most * 60.0 / span

    @property
    def lowest_rpm(self) -> float:
        """The lowest rate; of a recording, whose gaps are no rate, the mean."""
        if self.kind is Kind.RECORDED:
            return self.mean_rpm
        return self.rpm if self.kind is Kind.CONSTANT else min(self.rpm, self.to_rpm)

    @property
    def mean_rpm(self) -> float:
        """Requests over time."""
        return len(due(self)) * 60.0 / max(self.seconds, 1.0)


def checked(kind: str, rpm: float, to_rpm: float, seconds: float, instants: Sequence[float] = ()) -> Shape:
    """A shape whose figures are within the limits. Raises BadShape."""
    chosen = Kind(kind)
    if chosen is Kind.RECORDED:
        if not instants:
            raise BadShape("file", "it holds no instants")
        ordered = sorted(instants)
        first = ordered[0]
        shape = Shape(chosen, seconds=max(ordered[-1] - first, 1.0), instants=tuple(each - first for each in ordered))
        within("seconds", shape.seconds, SECONDS)
    else:
        within("rpm", rpm, RPM)
        if chosen is not Kind.CONSTANT:
            within("to", to_rpm, RPM)
        within("seconds", seconds, SECONDS)
        shape = Shape(chosen, rpm, to_rpm, seconds)
    count = expected(shape)
    if count > REQUESTS_MAX:
        raise BadShape("seconds", f"that is {count:,} requests; a test has at most {REQUESTS_MAX:,}")
    return shape


def within(field: str, value: float, limits: tuple[float, float]) -> None:
    """Raises BadShape when `value` is outside of `limits` or no number."""
    if not limits[0] <= value <= limits[1]:
        raise BadShape(field, f"use a number from {limits[0]:g} to {limits[1]:,.0f}, not {value:g}")


def expected(shape: Shape) -> int:
    """How many requests the shape has, without listing them."""
    if shape.kind is Kind.RECORDED:
        return len(shape.instants)
    mean = shape.rpm
    if shape.kind is Kind.RAMP:
        mean = (shape.rpm + shape.to_rpm) / 2
    elif shape.kind is Kind.SPIKE:
        peak = _PEAK[1] - _PEAK[0]
        mean = shape.rpm * (1 - peak) + shape.to_rpm * peak
    return math.ceil(mean / 60 * shape.seconds)


def due(shape: Shape) -> list[float]:
    """The instants, ascending, in seconds from the start."""
    per_s, to_per_s, seconds = shape.rpm / 60, shape.to_rpm / 60, shape.seconds
    match shape.kind:
        case Kind.CONSTANT:
            return steady(per_s, seconds)
        case Kind.RAMP:
            return rising(per_s, to_per_s, seconds)
        case Kind.SPIKE:
            start, end = seconds * _PEAK[0], seconds * _PEAK[1]
            before, peak = steady(per_s, start), steady(to_per_s, end - start, start)
            return before + peak + steady(per_s, seconds - end, end)
        case Kind.RECORDED:
            return list(shape.instants)


def read_instants(name: str, text: str) -> list[float]:
    """The first column of a recording, in seconds; a header is skipped. Raises BadShape naming the line."""
    found: list[float] = []
    for number, row in enumerate(text.splitlines(), start=1):
        cell = row.partition(",")[0].strip()
        if not cell or (number == 1 and not _is_number(cell)):
            continue
        if not _is_number(cell) or not 0 <= float(cell) < math.inf:
            raise BadShape("file", f"{plain(name)}, line {number}: '{clip(plain(cell), 30)}' is no number of seconds")
        found.append(float(cell))
    return found


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
