"""Does faults to workers through the engine, and remembers the ones that last: failing probes, a start that is late."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from orchestrator.contract.faults import SLOW_START_S, FaultKind
from orchestrator.core.effects import BreakWorker
from orchestrator.core.events import FaultFailed, Happening
from orchestrator.engine.ports import Breakable, EngineError
from orchestrator.ledger.ports import LedgerError

log = logging.getLogger(__name__)


class Rehearsal:
    """Faults of one orchestrator. `emit` hands an event to the controller."""

    def __init__(self, engine: Breakable, emit: Callable[[Happening], None]) -> None:
        self._engine = engine
        self._emit = emit
        self._ill: set[str] = set()
        self._late: set[str] = set()
        """Endpoints whose next start is to be late."""
        self._frozen: dict[str, asyncio.Task[None]] = {}
        """Late starts, and who lets them go on."""
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, effect: BreakWorker, after: Awaitable[None]) -> None:
        """Do it once `after` is done. What the engine cannot do is told as an event."""
        task = asyncio.get_running_loop().create_task(self._do(effect, after), name=f"fault {effect.worker_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def fails(self, worker_id: str) -> bool:
        """Its health probes are to fail, whatever it answers."""
        return worker_id in self._ill

    async def started(self, worker_id: str, endpoint: str) -> None:
        """A worker has been started and nobody has been told: the moment to make it late, if it is to be."""
        if endpoint not in self._late:
            return
        self._late.discard(endpoint)
        if await self._freeze(worker_id, on=True):
            task = asyncio.get_running_loop().create_task(self._thaw_later(worker_id), name=f"late {worker_id}")
            self._frozen[worker_id] = task

    def forget(self, worker_id: str) -> None:
        """The worker is gone."""
        self._ill.discard(worker_id)
        task = self._frozen.pop(worker_id, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """Let late starts go on: nobody else would."""
        for task in self._tasks:
            task.cancel()
        for worker_id in list(self._frozen):
            self.forget(worker_id)
            await self._freeze(worker_id, on=False)

    async def _do(self, effect: BreakWorker, after: Awaitable[None]) -> None:
        try:
            await after
        except LedgerError:
            return  # the command was refused
        engine, worker_id = self._engine, effect.worker_id
        try:
            match effect.fault:
                case FaultKind.KILL:
                    await engine.kill(worker_id)
                case FaultKind.HANG:
                    await engine.freeze(worker_id, on=True)
                case FaultKind.SLOW_START:
                    self._late.add(effect.endpoint)
                    await engine.kill(worker_id)
                case FaultKind.FAIL_HEALTH:
                    self._ill.add(worker_id)
                case FaultKind.FILL_MEMORY:
                    await engine.squeeze(worker_id)
                case FaultKind.DROP_NVML:
                    raise AssertionError("is done to no worker")
        except (EngineError, KeyError) as error:
            self._late.discard(effect.endpoint)
            text = error.message if isinstance(error, EngineError) else "it does not run"
            self._emit(FaultFailed(worker_id, effect.fault, text))

    async def _thaw_later(self, worker_id: str) -> None:
        await asyncio.sleep(SLOW_START_S)
        self._frozen.pop(worker_id, None)
        await self._freeze(worker_id, on=False)

    async def _freeze(self, worker_id: str, *, on: bool) -> bool:
        try:
            await self._engine.freeze(worker_id, on=on)
        except (EngineError, KeyError) as error:  # ended meanwhile, or a silent engine: the start's deadline holds
            log.warning("worker %s cannot be %s: %s", worker_id, "held up" if on else "let go on", error)
            return False
        return True
