"""What is done beside serving: a minute of history each minute, a backup of the ledger at start and each day."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from orchestrator.contract.base import HOUR_NS
from orchestrator.controller.remembering import DecisionJournal
from orchestrator.core.decisions import Decided
from orchestrator.core.events import LaneSeen
from orchestrator.core.history import Minute
from orchestrator.core.recorder import Recorder
from orchestrator.core.routing import RoutingTable
from orchestrator.core.state import State
from orchestrator.ledger.metrics import MetricsStore
from orchestrator.ledger.ports import Ledger, LedgerDamaged, LedgerError

log = logging.getLogger(__name__)

BACKUP_PERIOD_NS: Final = 24 * HOUR_NS
BACKUP_RETRY_NS: Final = HOUR_NS
MINUTES_KEPT: Final = 1_440
"""A day of minutes waits in memory for a disk that takes them."""


class Upkeep:
    """Called at every tick; never raises and never blocks. A damaged ledger, found by its backup, is reported to
    `on_damage`: nothing new starts on a ledger that may be lost."""

    def __init__(self, metrics: MetricsStore, ledger: Ledger, now_ns: int, on_damage: Callable[[str], None]) -> None:
        self._metrics = metrics
        self._ledger = ledger
        self._recorder = Recorder(now_ns)
        self._on_damage = on_damage
        self._waiting: deque[Minute] = deque(maxlen=MINUTES_KEPT)
        self._adding: asyncio.Task[None] | None = None
        self._backup_due_ns = now_ns
        self._backing_up: asyncio.Task[None] | None = None
        self._journal = DecisionJournal(metrics)

    def decided(self, entry: Decided) -> None:
        """Remember a decision."""
        self._journal.append(entry)

    async def written(self) -> None:
        """Returns when every decision so far can be read from the journal, or the disk has refused it."""
        await self._journal.flush()

    def tick(self, now_ns: int, table: RoutingTable, lanes: Mapping[str, LaneSeen], state: State) -> None:
        meters = {slug: route.meter for slug, route in table.routes.items()}
        served = {worker: slot.served for lane in lanes.values() for worker, slot in lane.slots.items()}
        intervals = {i.opened.worker_id: i.opened.interval_id for i in state.intervals.values()}
        minute = self._recorder.see(now_ns, meters, served, intervals)
        if minute is not None:
            self._store(minute)
        self._journal.tick(now_ns, {slug: endpoint.memory for slug, endpoint in state.endpoints.items()})
        if now_ns >= self._backup_due_ns and self._backing_up is None:
            self._backup_due_ns = now_ns + BACKUP_PERIOD_NS
            self._backing_up = asyncio.get_running_loop().create_task(self._back_up(now_ns), name="ledger-backup")

    async def close(self) -> None:
        """Store the minute that has begun. A backup that is being made is given up."""
        if self._backing_up is not None:
            self._backing_up.cancel()
        self._store(self._recorder.flush())
        await self._journal.close()
        if self._adding is not None:
            await asyncio.wait([self._adding], timeout=5.0)

    def _store(self, minute: Minute | None) -> None:
        if minute is not None:
            self._waiting.append(minute)
        if self._waiting and self._adding is None:
            self._adding = asyncio.get_running_loop().create_task(self._add(), name="history")

    async def _add(self) -> None:
        """All that waits; what the disk refuses is tried again with the next minute."""
        try:
            while self._waiting:
                batch = tuple(self._waiting)
                await asyncio.wrap_future(self._metrics.add(batch))
                for minute in batch:
                    if self._waiting and self._waiting[0] is minute:  # else it was too old and is gone already
                        self._waiting.popleft()
        except LedgerError as error:
            log.warning("history: %s; kept for another attempt", error)
        finally:
            self._adding = None

    async def _back_up(self, now_ns: int) -> None:
        try:
            made: Path = await asyncio.wrap_future(self._ledger.back_up())
            log.info("the ledger was backed up as %s", made)
        except LedgerError as error:
            self._backup_due_ns = now_ns + BACKUP_RETRY_NS
            log.error("backup of the ledger: %s", error)
            if isinstance(error, LedgerDamaged):
                self._on_damage(str(error))
        finally:
            self._backing_up = None
