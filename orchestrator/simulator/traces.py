"""Traffic of one endpoint as data: read from CSV, or made from a shape and a seed.

A file is `arrival_s,service_s` per line below that header, gzip or not: seconds since the first request, ascending,
and seconds that the request occupies one slot of a warm worker.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import math
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Final, TextIO

from orchestrator.contract.base import SECOND_NS

COLUMNS: Final = ("arrival_s", "service_s")
ARRIVAL_S_MAX: Final = 10 * 366 * 86_400.0
SERVICE_S_MAX: Final = 86_400.0
REQUESTS_MAX: Final = 10_000_000
DAY_S: Final = 86_400.0


class TraceError(Exception):
    """A trace cannot be used. `str(error)` names file, line and column, and what is allowed there."""


@dataclass(frozen=True)
class Trace:
    """Requests in order of arrival: when each came (nanoseconds since the trace's beginning) and how long it works."""

    name: str
    arrival_ns: tuple[int, ...]
    service_ns: tuple[int, ...]

    def __post_init__(self) -> None:
        assert len(self.arrival_ns) == len(self.service_ns)

    def __len__(self) -> int:
        return len(self.arrival_ns)

    @cached_property
    def digest(self) -> str:
        """Names the content, whatever the file is called."""
        text = ",".join(map(str, (*self.arrival_ns, -1, *self.service_ns)))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def span_s(self) -> float:
        """From the first arrival to the last."""
        return (self.arrival_ns[-1] - self.arrival_ns[0]) / SECOND_NS if self.arrival_ns else 0.0

    @property
    def work_s(self) -> float:
        """Service times together."""
        return sum(self.service_ns) / SECOND_NS

    @property
    def load(self) -> float:
        """Requests in service on average, if none had to wait (erlang)."""
        return self.work_s / max(self.span_s, self.work_s / max(1, len(self)), 1.0)


def trace_of(name: str, requests: Iterable[tuple[float, float]]) -> Trace:
    """From (arrival_s, service_s) pairs in any order."""
    ordered = sorted(requests)
    return Trace(
        name,
        tuple(round(arrival_s * SECOND_NS) for arrival_s, _ in ordered),
        tuple(max(1, round(service_s * SECOND_NS)) for _, service_s in ordered),
    )


def read_trace(file: Path) -> Trace:
    """The trace in a `.csv` or `.csv.gz` file, called as the file without those endings. Raises TraceError."""
    name = file.name.removesuffix(".gz").removesuffix(".csv")
    try:
        with file.open("rb") as opened:
            packed = opened.read(2) == b"\x1f\x8b"
        with (gzip.open if packed else open)(file, "rt", encoding="utf-8-sig", newline="") as text:
            requests = list(_rows(file, text))
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise TraceError(f"{file}: the gzip data is damaged or cut short: {error}") from error
    except UnicodeDecodeError as error:
        raise TraceError(f"{file}: not UTF-8 text") from error
    except OSError as error:
        raise TraceError(f"{file}: cannot be read: {error.strerror or error}") from error
    if not requests:
        raise TraceError(f"{file}: no requests below the header")
    return Trace(name, tuple(a for a, _ in requests), tuple(s for _, s in requests))


def _rows(file: Path, text: TextIO) -> Iterator[tuple[int, int]]:
    reader = csv.reader(text)
    try:
        header = next(reader, [])
        if tuple(cell.strip() for cell in header) != COLUMNS:
            given = ",".join(header)[:80]
            raise TraceError(f"{file}: line 1: the header must be {','.join(COLUMNS)}, not {given!a}")
        before_ns = 0
        for count, row in enumerate(reader):
            if not row:
                continue
            where = f"{file}: line {reader.line_num}"
            if len(row) != len(COLUMNS):
                raise TraceError(f"{where}: {len(row)} columns, must be {len(COLUMNS)}: {','.join(COLUMNS)}")
            if count >= REQUESTS_MAX:
                raise TraceError(f"{where}: more than {REQUESTS_MAX:,} requests; split the file")
            arrival_ns = _cell(f"{where}: arrival_s", row[0], ARRIVAL_S_MAX)
            service_ns = _cell(f"{where}: service_s", row[1], SERVICE_S_MAX)
            if arrival_ns < before_ns:
                raise TraceError(
                    f"{where}: arrival_s: {row[0][:40]!a} is before the line above it ({before_ns / SECOND_NS:g} s); "
                    "sort the file by arrival"
                )
            before_ns = arrival_ns
            yield arrival_ns, max(1, service_ns)
    except csv.Error as error:
        raise TraceError(f"{file}: line {reader.line_num}: not CSV: {error}") from error


def _cell(where: str, text: str, most: float) -> int:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value <= most:
        raise TraceError(f"{where}: {text[:40]!a} is no number of seconds from 0 to {most:.0f}")
    return round(value * SECOND_NS)


Rate = Callable[[float], float]
"""Requests per second at a second of the trace, as a share of the peak: 0 to 1."""


def _steady(_: float, span_s: float) -> float:
    return 1.0


def _ramp(at_s: float, span_s: float) -> float:
    return at_s / span_s


def _spike(at_s: float, span_s: float) -> float:
    """Ten per cent of the peak, and the peak for the middle tenth of the time."""
    return 1.0 if 0.45 <= at_s / span_s < 0.55 else 0.1


def _diurnal(at_s: float, span_s: float) -> float:
    """A day from midnight to midnight, at its peak at noon; a shorter span is one day in time-lapse."""
    return 0.5 - 0.45 * math.cos(2 * math.pi * at_s / min(span_s, DAY_S))


def _on_off(at_s: float, span_s: float) -> float:
    """Eight bursts of a quarter of their period."""
    return 1.0 if at_s * 8 / span_s % 1.0 < 0.25 else 0.0


SHAPES: Final[dict[str, Callable[[float, float], float]]] = {
    "steady": _steady,
    "ramp": _ramp,
    "spike": _spike,
    "diurnal": _diurnal,
    "on-off": _on_off,
}
"""Share of the peak rate at a second of a span, both in seconds."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Synthetic traffic: Poisson arrivals whose rate follows a shape, lognormal service times."""

    shape: str
    peak_rpm: float
    """Requests per minute at the peak."""
    span_s: float
    service_s: float
    """Mean service time."""
    service_cv: float = 0.3
    """Standard deviation of the service time over its mean; 0 makes all alike."""

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise TraceError(f"shape: {self.shape[:40]!a} is none of {', '.join(SHAPES)}")
        for name, value, most in (
            ("peak_rpm", self.peak_rpm, 600_000.0),
            ("span_s", self.span_s, ARRIVAL_S_MAX),
            ("service_s", self.service_s, SERVICE_S_MAX),
        ):
            if not 0.0 < value <= most:
                raise TraceError(f"{name}: give more than 0 and at most {most:.0f}, not {value:g}")
        if not 0.0 <= self.service_cv <= 10.0:
            raise TraceError(f"service_cv: give 0 to 10, not {self.service_cv:g}")
        if self.peak_rpm / 60 * self.span_s > REQUESTS_MAX:
            raise TraceError(f"peak_rpm: comes to more than {REQUESTS_MAX:,} requests; give less or a shorter span_s")

    def draw(self, seed: int) -> Trace:
        """The same shape and seed give the same requests, on every machine. May be empty when the rate is low."""
        dice = Random(f"{self.shape}/{seed}")  # noqa: S311 - a simulation's dice
        share = SHAPES[self.shape]
        variance = math.log1p(self.service_cv**2)
        sigma, mean = math.sqrt(variance), math.log(self.service_s) - variance / 2
        peak_per_s = self.peak_rpm / 60
        requests = []
        at_s = dice.expovariate(peak_per_s)
        while at_s < self.span_s:
            if dice.random() < share(at_s, self.span_s):  # thinning: draws at the peak rate, kept by share
                service_s = math.exp(mean + sigma * dice.gauss(0.0, 1.0)) if sigma else self.service_s
                requests.append((at_s, min(service_s, SERVICE_S_MAX)))
            at_s += dice.expovariate(peak_per_s)
        return trace_of(self.shape, requests)
