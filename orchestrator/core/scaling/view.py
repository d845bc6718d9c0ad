"""What a policy may know (`Observation`), what it answers (`Decision`), and why (`Reason`).

A policy is a pure function: no clock, no randomness, no state of its own. Its memory is the plain value it returned
last time, so it can be logged, saved and replayed. The executor (core/reconcile.py), not the policy, clamps to
[baseline, maximum], chooses victims, never stops a worker that works, and places the new ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

Number = int | float

QUEUE_SEEN_MAX = 256
"""Waiters, and new arrivals, that an observation lists one by one: the oldest. `queued` and `arrived` count all."""


class Observation(NamedTuple):
    """One endpoint as its policy sees it, at one instant. All instants are nanoseconds of the same clock.

    `arrivals`, `served`, `cold_starts` and `failed_starts` tell what happened since this endpoint's last observation.
    Starting workers are capacity (features.md A4, ray#61731).
    """

    now_ns: int
    baseline: int
    maximum: int
    slots: int
    """Requests one worker takes at a time."""
    idle_timeout_ns: int = 0
    baseline_uh: int = 0
    """Price of a baseline worker, micro-dollars per hour."""
    autoscale_uh: int = 0
    """Price of an autoscaled worker, micro-dollars per hour."""
    ready: int = 0
    starting: tuple[int, ...] = ()
    """When each worker that is not ready yet was asked for, oldest first."""
    idle_since: tuple[int, ...] = ()
    """Ready autoscaled workers without a request: since when, longest idle first."""
    queued: int = 0
    queue: tuple[int, ...] = ()
    """Arrivals of the oldest waiters, first come first."""
    running: int = 0
    running_since: tuple[int, ...] = ()
    """When the requests in flight went to their workers, oldest first."""
    arrived: int = 0
    arrivals: tuple[int, ...] = ()
    """Instants of new requests, whether they waited or not."""
    served: tuple[int, ...] = ()
    """Service times of requests that ended well, from dispatch to last byte."""
    cold_starts: tuple[int, ...] = ()
    """Durations of starts that became ready, from intent to ready."""
    failed_starts: int = 0

    @property
    def live(self) -> int:
        """Workers that serve now or will: what `desired` is compared with."""
        return self.ready + len(self.starting)

    @property
    def oldest_wait_ns(self) -> int:
        """How long the first waiter has waited; 0 without one."""
        return self.now_ns - self.queue[0] if self.queue else 0


class Reason(NamedTuple):
    """Why a decision fell: the rule's name, a sentence with places for numbers, and the numbers."""

    rule: str
    sentence: str
    numbers: dict[str, Number]

    def __str__(self) -> str:
        return self.sentence.format(**self.numbers)


@dataclass(frozen=True, slots=True)
class Memory:
    """What `queue_delay` remembers between calls; `request_count` needs none."""

    added_ns: int | None = None


class Decision(NamedTuple):
    """Workers wanted (before clamping) and why.

    What the executor makes of it (core/deciding.py, core/idling.py, core/route.py):

    - `desired` is clamped to [baseline, maximum]. Missing workers are started at once, starting ones counted.
    - Surplus ones that are idle go once they have been idle for `keep_ns` (None: for the endpoint's idle timeout; 0: at
      once), longest idle first, unless a request waits. A worker that works never goes.
    - With `keep_ns` 0, surplus starts are cancelled too, the youngest first, but none whose slots the waiters fill.
    - Round robin runs over `desired` workers; further warm ones stand in reserve and serve only what these cannot.
    """

    desired: int
    why: Reason
    memory: Memory
    wake_ns: int | None = None
    """When the policy wants to be asked again at the latest."""
    keep_ns: int | None = None
    valid: bool = True
    """False: the policy cannot tell (its inputs contradict each other); the executor keeps what there is."""
