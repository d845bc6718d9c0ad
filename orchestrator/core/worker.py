"""The life of one worker, as a table. Everything that changes a worker's state goes through `advance`.

    starting --healthy--> ready --drain--> draining --drained--> stopping --exited--> stopped
        |                   |                  |
        +--exited/refused---+--exited----------+--> failed (unexpected) or stopped (asked for)

A worker leaves the books only at `stopped` or `failed`; until then it counts against the endpoint's maximum, because
until then its container may exist.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from orchestrator.contract.snapshot import WorkerState
from orchestrator.core.workload import GpuGrant

STARTING, READY, DRAINING, STOPPING, STOPPED, FAILED = WorkerState


class Turn(StrEnum):
    """What may happen to a worker."""

    HEALTHY = "healthy"
    DRAIN = "drain"  # leaves the ring, finishes its requests
    STOP = "stop"  # the engine is asked to end it
    EXITED = "exited"  # evidence of its end
    REFUSED = "refused"  # the engine would not start it


TRANSITIONS: Final[dict[tuple[WorkerState, Turn], WorkerState]] = {
    (STARTING, Turn.HEALTHY): READY,
    (STARTING, Turn.STOP): STOPPING,
    (STARTING, Turn.EXITED): FAILED,
    (STARTING, Turn.REFUSED): FAILED,
    (READY, Turn.HEALTHY): READY,
    (READY, Turn.DRAIN): DRAINING,
    (READY, Turn.STOP): STOPPING,
    (READY, Turn.EXITED): FAILED,
    (DRAINING, Turn.HEALTHY): DRAINING,
    (DRAINING, Turn.STOP): STOPPING,
    (DRAINING, Turn.EXITED): STOPPED,
    (STOPPING, Turn.HEALTHY): STOPPING,
    (STOPPING, Turn.STOP): STOPPING,
    (STOPPING, Turn.EXITED): STOPPED,
    (STOPPING, Turn.REFUSED): STOPPED,
}


class IllegalTransition(ValueError):
    """A turn that the table does not know: a defect of the core, never of the world."""


def advance(state: WorkerState, turn: Turn) -> WorkerState:
    """The state after `turn`. Raises IllegalTransition."""
    try:
        return TRANSITIONS[state, turn]
    except KeyError:
        raise IllegalTransition(f"a worker that is {state} cannot take the turn {turn}") from None


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker from its intent to its end. Instants are wall-clock nanoseconds."""

    id: str
    serial: int
    ordinal: int
    endpoint: str
    account: str
    generation: int
    gpu: GpuGrant
    intent_ns: int
    startup_deadline_ns: int
    stop_grace_s: int
    surge: bool = False
    """Started above the maximum while a roll replaces another: not billed until that one is gone."""
    state: WorkerState = WorkerState.STARTING
    engine_ref: str | None = None
    host: str | None = None
    port: int | None = None
    created_ns: int | None = None
    started_ns: int | None = None
    ready_ns: int | None = None
    first_byte_ns: int | None = None
    memory_ns: int | None = None
    """When it first held memory of its GPU, to a reading of the GPU (a second); not known after a restart."""
    idle_since_ns: int | None = None
    """What an earlier life knew: an adopted worker's idle timeout goes on where it was."""
    drain_deadline_ns: int | None = None
    reason: str | None = None
    """Why it drains or stops, for people."""
    blameless: bool = True
    """False when it is being stopped for a fault (never healthy in time, failed health): its start is absorbed."""
    outcome_unknown: bool = False
    """The engine did not say whether the start took effect: the next re-list decides."""
    interval_id: str | None = None
    spent_u: int = 0
    """Micro-dollars of its intervals that are closed, absorbed ones not counted."""
    intervals: int = 0
    """How many intervals it has had; numbers the next one."""

    @property
    def label(self) -> str:
        return f"w{self.ordinal}"

    @property
    def place(self) -> tuple[int, int]:
        """Sorts the workers of an endpoint as they are listed: by ordinal."""
        return self.ordinal, self.serial

    @property
    def live(self) -> bool:
        """Able to serve now or soon: what scaling counts as capacity."""
        return self.state in (STARTING, READY)

    @property
    def routable(self) -> bool:
        return self.state is READY and self.port is not None

    def turned(self, turn: Turn) -> Worker:
        """This worker after `turn`. Raises IllegalTransition."""
        return replace(self, state=advance(self.state, turn))
