"""What the control socket needs from the rest of the orchestrator: commands, snapshots, answers."""

from __future__ import annotations

from typing import Protocol

from orchestrator.contract.command import Command, Outcome
from orchestrator.contract.frames import Answer
from orchestrator.contract.query import Query
from orchestrator.contract.snapshot import Snapshot


class Desk(Protocol):
    """Built by wiring. All three run in the event loop."""

    async def submit(self, command: Command) -> Outcome: ...

    async def answer(self, query: Query) -> Answer: ...

    def snapshot(self) -> Snapshot: ...
