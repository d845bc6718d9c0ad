"""What the control socket needs from the rest of the orchestrator: commands, feeds, answers."""

from __future__ import annotations

from typing import Protocol

from orchestrator.contract.command import Command, Outcome
from orchestrator.contract.frames import Answer
from orchestrator.contract.query import Query
from orchestrator.contract.snapshot import Snapshot
from orchestrator.contract.steps import Steps


class Desk(Protocol):
    """Built by wiring. All run in the event loop."""

    async def submit(self, command: Command) -> Outcome: ...

    async def answer(self, query: Query) -> Answer: ...

    def observing(self) -> Steps[Snapshot]:
        """The visible state at one moment. A step takes about as long as looking at one endpoint."""
        ...
