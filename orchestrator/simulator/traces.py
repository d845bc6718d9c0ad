"""Traffic of one endpoint as data: read from CSV, or made from a shape and a seed.

A file is CSV, gzip or not, with a header that names `arrival_s` and `service_s`: seconds since the trace's beginning,
and seconds that the request occupies one slot of a warm worker. Other columns are not read, rows are sorted by arrival,
and arrivals since 1970 are counted from the first; what was done is told with the trace (`Trace.told`).
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import math
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import BufferedReader
from pathlib import Path
from random import Random
from typing import Final, TextIO

from orchestrator.contract.base import SECOND_NS

COLUMNS: Final = ("arrival_s", "service_s")
ARRIVAL_S_MAX: Final = 10 * 366 * 86_400.0
DATED_S: Final = (946_684_800.0, 4_102_444_800.0)
"""Arrivals that can only be seconds since 1970: the years 2000 to 2099. No trace is that long."""
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
    told: tuple[str, ...] = field(default=(), compare=False)
    """What reading made of a file that is not as one would write it: a sentence each."""

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
    where, name = _shown(str(file)), _shown(file.name.removesuffix(".gz").removesuffix(".csv"))
    try:
        with file.open("rb") as opened:
            return read_stream(where, opened, name)
    except OSError as error:
        raise TraceError(f"{where}: cannot be read: {error.strerror or error}") from error


def read_standard_input() -> Trace:
    """The trace that comes in there, called `stdin`. Raises TraceError."""
    try:
        with open(0, "rb", closefd=False) as opened:
            return read_stream("stdin", opened, "stdin")
    except OSError as error:
        raise TraceError(f"stdin: cannot be read: {error.strerror or error}") from error


def read_stream(where: str, stream: BufferedReader, name: str) -> Trace:
    """The trace in a stream of CSV, gzip or not; `where` is how errors name it. Raises TraceError, and OSError."""
    unpacked = gzip.GzipFile(fileobj=stream) if stream.peek(2)[:2] == b"\x1f\x8b" else stream
    try:
        with io.TextIOWrapper(unpacked, encoding="utf-8-sig", newline="") as text:
            return _Reading(where, text).trace(name)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise TraceError(f"{where}: the gzip data is damaged or cut short: {error}") from error
    except UnicodeDecodeError as error:
        raise TraceError(f"{where}: not UTF-8 text") from error


class _Reading:
    """One file while it is read."""

    def __init__(self, where: str, text: TextIO) -> None:
        self._where = where
        self._reader = csv.reader(text)
        self._told: list[str] = []
        self._arrivals_ns: list[int] = []
        self._services_ns: list[int] = []
        self._dated = False
        """Whether arrivals are seconds since 1970."""
        self._first_line = 0
        self._unordered = 0

    def trace(self, name: str) -> Trace:
        try:
            columns, width = self._columns()
            for row in self._reader:
                if row:
                    self._take(row, columns, width)
        except csv.Error as error:
            raise self._error(f"not CSV: {error}") from error
        arrivals_ns, services_ns = self._arrivals_ns, self._services_ns
        if not arrivals_ns:
            raise TraceError(f"{self._where}: no requests below the header")
        if self._unordered:
            self._told.append(f"sorted by arrival: {self._unordered:,} of {len(arrivals_ns):,} rows came too late")
            order = sorted(range(len(arrivals_ns)), key=arrivals_ns.__getitem__)
            arrivals_ns, services_ns = [arrivals_ns[at] for at in order], [services_ns[at] for at in order]
        if self._dated:
            first_ns = arrivals_ns[0]
            arrivals_ns = [at_ns - first_ns for at_ns in arrivals_ns]
            self._told.append(f"arrivals are seconds since 1970: counted from the first, {first_ns / SECOND_NS:.3f}")
            if arrivals_ns[-1] > ARRIVAL_S_MAX * SECOND_NS:
                raise TraceError(f"{self._where}: arrival_s: from first to last more than {ARRIVAL_S_MAX:.0f} seconds")
        elif arrivals_ns[0] >= SECOND_NS:
            self._told.append(
                f"nothing comes in the first {arrivals_ns[0] / SECOND_NS:,.0f} s: they count as quiet time"
            )
        return Trace(name, tuple(arrivals_ns), tuple(services_ns), tuple(self._told))

    def _columns(self) -> tuple[tuple[int, int], int]:
        """Where the two columns are, and how many there are in all."""
        header = [cell.strip().lower() for cell in next(self._reader, [])]
        for name in COLUMNS:
            if header.count(name) != 1:
                said = "is there more than once" if name in header else "is missing"
                given = f"the header must have {' and '.join(COLUMNS)}, not {','.join(header)[:80]!a}"
                raise TraceError(f"{self._where}: line 1: {name} {said}: {given}")
        others = [cell for cell in header if cell not in COLUMNS]
        if others:
            self._told.append(f"columns not read: {', '.join(others)[:80]!a}")
        arrival, service = (header.index(name) for name in COLUMNS)
        return (arrival, service), len(header)

    def _take(self, row: Sequence[str], columns: tuple[int, int], width: int) -> None:
        if len(row) != width:
            raise self._error(f"{len(row)} columns, the header has {width}")
        if len(self._arrivals_ns) >= REQUESTS_MAX:
            raise self._error(f"more than {REQUESTS_MAX:,} requests; split the file")
        arrival, service = row[columns[0]], row[columns[1]]
        arrival_ns, dated = self._arrival(arrival)
        if not self._arrivals_ns:
            self._dated, self._first_line = dated, self._reader.line_num
        elif dated != self._dated:
            kinds = ("from the trace's beginning", "since 1970")
            raise self._error(
                f"arrival_s: {arrival[:40]!a} counts {kinds[dated]}, line {self._first_line} {kinds[self._dated]}"
            )
        else:
            self._unordered += arrival_ns < self._arrivals_ns[-1]
        self._arrivals_ns.append(arrival_ns)
        self._services_ns.append(max(1, self._seconds("service_s", service, SERVICE_S_MAX)))

    def _arrival(self, text: str) -> tuple[int, bool]:
        """Nanoseconds, and whether they count since 1970."""
        seconds = _number(text)
        if DATED_S[0] <= seconds <= DATED_S[1]:
            return round(seconds * SECOND_NS), True
        return self._seconds("arrival_s", text, ARRIVAL_S_MAX, ", nor of seconds since 1970"), False

    def _seconds(self, column: str, text: str, most: float, nor: str = "") -> int:
        seconds = _number(text)
        if not 0.0 <= seconds <= most:
            raise self._error(f"{column}: {text[:40]!a} is no number of seconds from 0 to {most:.0f}{nor}")
        return round(seconds * SECOND_NS)

    def _error(self, said: str) -> TraceError:
        return TraceError(f"{self._where}: line {self._reader.line_num}: {said}")


def _shown(name: str) -> str:
    """As a terminal may have it: the name of a file is somebody else's text."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name)


def _number(text: str) -> float:
    """NaN for what is none. Python's own `1_000` is none: elsewhere it may mean anything."""
    try:
        return math.nan if "_" in text else float(text)
    except ValueError:
        return math.nan


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
