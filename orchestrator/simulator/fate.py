"""What becomes of engine calls, workers and requests: fair weather here, seeded storms in faults.py.

A fate is asked at the beginning of each thing and tells how it will go. It is the only place of a simulation where
chance may act, so the same seed gives the same run, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from orchestrator.core.workload import WorkerSpec

Lost = Literal["before", "after"]
"""An engine call without an answer: it got lost on its way there, or its answer on its way back."""

Span = Callable[[int], float]
"""Seconds of something that begins at an instant (nanoseconds)."""


Refusal = tuple[str, str, bool]
"""Why the engine will not start a worker: fault code, message, and whether trying again cannot help."""


@dataclass(frozen=True, slots=True)
class Start:
    """How the start of one worker goes."""

    delay_s: float = 0.2
    """Until the engine has started it."""
    cold_s: float = 2.0
    """From the start, or from its adoption, until its first successful health probe."""
    refused: Refusal | None = None
    lost: Lost | None = None
    dies_after_s: float | None = None
    outlives_us: bool = False
    """The call takes effect although the orchestrator ends while it is under way."""


@dataclass(frozen=True, slots=True)
class Stop:
    """How one stop goes."""

    delay_s: float = 0.1
    lost: Lost | None = None
    outlives_us: bool = True


@dataclass(frozen=True, slots=True)
class Absence:
    """From the death of one orchestrator to the start of the next."""

    away_s: float = 0.0
    engine_answers: bool = True
    """The engine tells what it holds when the next one asks at its start."""
    host_too: bool = False
    """The host goes down with it, and comes back on another boot."""


class Fate(Protocol):
    """How things go. Each method is asked once, when the thing begins."""

    def start(self, spec: WorkerSpec, at_ns: int) -> Start: ...

    def stop(self, worker_id: str, at_ns: int) -> Stop: ...

    def removal_is_lost(self, worker_id: str, at_ns: int) -> bool:
        """The engine does not hear that it may forget an ended worker."""
        ...

    def end_is_lost(self, worker_id: str, at_ns: int) -> bool:
        """Nobody is told that the worker ended: only the next list says so."""
        ...

    def strikes(self, point: str, at_ns: int) -> bool:
        """The orchestrator is killed at this point: before or after a transaction, an engine call or a list."""
        ...

    def absence(self) -> Absence:
        """What follows a strike."""
        ...


class FairWeather:
    """Everything succeeds. `cold` gives the seconds of each cold start."""

    def __init__(self, cold: Span, *, start_delay_s: float = 0.2, stop_delay_s: float = 0.1) -> None:
        self._cold = cold
        self._start_delay_s = start_delay_s
        self._stop = Stop(stop_delay_s)

    def start(self, spec: WorkerSpec, at_ns: int) -> Start:
        return Start(self._start_delay_s, self._cold(at_ns))

    def stop(self, worker_id: str, at_ns: int) -> Stop:
        return self._stop

    def removal_is_lost(self, worker_id: str, at_ns: int) -> bool:
        return False

    def end_is_lost(self, worker_id: str, at_ns: int) -> bool:
        return False

    def strikes(self, point: str, at_ns: int) -> bool:
        return False

    def absence(self) -> Absence:
        return Absence()
