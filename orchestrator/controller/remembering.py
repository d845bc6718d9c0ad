"""Keeps what policies decided and learned: gathered in the loop, written by the thread of `metrics.db`."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from typing import Final

from orchestrator.contract.base import SECOND_NS
from orchestrator.core.decisions import Decided
from orchestrator.core.scaling import Memory
from orchestrator.ledger.metrics import MetricsStore
from orchestrator.ledger.ports import LedgerError

log = logging.getLogger(__name__)

FLUSH_PERIOD_NS: Final = 5 * SECOND_NS
"""Entries that wait this long together cost one transaction."""
SAVE_PERIOD_NS: Final = 60 * SECOND_NS
"""What a crash can cost a policy of its learning."""
ENTRIES_KEPT: Final = 10_000
"""Entries that wait for a disk that takes them; older ones are lost then."""


class DecisionJournal:
    """Called in the event loop; never raises and never blocks."""

    def __init__(self, metrics: MetricsStore) -> None:
        self._metrics = metrics
        self._waiting: deque[Decided] = deque(maxlen=ENTRIES_KEPT)
        self._learned: Mapping[str, Memory] = {}
        self._saved: Mapping[str, Memory] = {}
        self._flushed_ns = 0
        self._saved_ns = 0
        self._writing: asyncio.Task[None] | None = None

    def append(self, entry: Decided) -> None:
        """Remember a decision."""
        self._waiting.append(entry)

    def tick(self, now_ns: int, learned: Mapping[str, Memory]) -> None:
        """Write what has gathered, once in a while. `learned`: what policies remember now, by endpoint."""
        self._learned = learned
        saves = now_ns - self._saved_ns >= SAVE_PERIOD_NS
        if saves or (self._waiting and now_ns - self._flushed_ns >= FLUSH_PERIOD_NS):
            self._flushed_ns = now_ns
            if saves:
                self._saved_ns = now_ns
            self._begin(saves=saves)

    async def flush(self) -> None:
        """Returns when what has gathered is written, or was refused and waits on."""
        await self._written(saves=False)

    async def close(self) -> None:
        """Write what is left."""
        await self._written(saves=True)

    async def _written(self, *, saves: bool) -> None:
        if self._writing is not None:
            await asyncio.wait([self._writing])
        self._begin(saves=saves)
        if self._writing is not None:
            await asyncio.wait([self._writing])

    def _begin(self, *, saves: bool) -> None:
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write(saves=saves), name="decisions")

    async def _write(self, *, saves: bool) -> None:
        try:
            while self._waiting:
                batch = tuple(self._waiting)
                await asyncio.wrap_future(self._metrics.add_decisions(batch))
                for entry in batch:
                    if self._waiting and self._waiting[0] is entry:  # else it was too old and is gone already
                        self._waiting.popleft()
            learned = self._learned
            if saves and learned != self._saved:
                await asyncio.wrap_future(self._metrics.save_memories(learned))
                self._saved = learned
        except LedgerError as error:
            log.warning("decisions: %s; kept for another attempt", error)
        finally:
            self._writing = None
