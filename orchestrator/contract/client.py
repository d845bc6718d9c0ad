"""The two verbs a front end has. Data only: no handles and no callables cross this line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from orchestrator.contract.command import Command, Outcome
from orchestrator.contract.frames import Answer
from orchestrator.contract.query import Query
from orchestrator.contract.snapshot import Snapshot


class OrchestratorClient(Protocol):
    """Implemented by app.client (Unix socket) and, in tests, by a scripted double."""

    def snapshots(self, per_second: float = 4.0) -> AsyncIterator[Snapshot]:
        """Full snapshots, the first at once, at most `per_second` a second. Raises ConnectionError when the
        orchestrator is gone."""
        ...

    async def send(self, command: Command) -> Outcome:
        """Run a command. Raises ConnectionError; sending the same command again is safe."""
        ...

    async def ask(self, query: Query) -> Answer:
        """Answer a question. Raises ConnectionError."""
        ...
