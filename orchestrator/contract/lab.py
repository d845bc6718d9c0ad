"""A lab: a simulated deck behind the same socket, whose clock runs faster than time. Nothing in it is real.

Every bill, statement and snapshot of a lab says so, its price book's name begins with MARK, and it lives in a home of
its own: one in which `Places.simulated_file` exists is refused by a real orchestrator, and a real one by a lab.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from orchestrator.contract.base import Frozen, Received
from orchestrator.contract.limits import CommandId

MARK: Final = "SIMULATED"
SPEEDS: Final = (1, 10, 60, 150, 300, 600)
"""Virtual seconds per second, as the keys of the dashboard go through them."""


class SetSpeed(Frozen):
    """Let the clock of a lab run `speed` times as fast as time. Refused by what is no lab."""

    kind: Literal["set_speed"] = "set_speed"
    id: CommandId
    speed: int = Field(ge=SPEEDS[0], le=SPEEDS[-1])


class LabView(Received):
    """How fast the clock of a lab runs."""

    speed: int
