"""Does what the core wants of the engine, and tells it what came of it.

Each slow call is bracketed by two quick events (llama-swap's rule): nothing here reads or changes the state. One task
per worker runs its starts and stops in order, so a stop asked for during a start takes effect after it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from orchestrator.clock import Now
from orchestrator.contract.secrets import lost_secrets
from orchestrator.controller.rehearsal import Rehearsal
from orchestrator.core import events as ev
from orchestrator.core.effects import RemoveWorker, StartWorker, StopWorker, WatchHealth
from orchestrator.core.workload import Exit, ExitCause, Observed
from orchestrator.crash import point
from orchestrator.engine.ports import EngineError, EngineUnavailable, Fault, WorkerEngine

log = logging.getLogger(__name__)

RELIST_PERIOD_S = 10.0
STARTING_PROBE_PERIOD_S = 0.1
READY_PROBE_PERIOD_S = 5.0
PROBE_TIMEOUT_S = 2.0
UNHEALTHY_AFTER = 3
FATAL = frozenset(
    {Fault.IMAGE_MISSING, Fault.MODEL_UNSUPPORTED, Fault.GPU_UNAVAILABLE, Fault.ENGINE_TOO_OLD, Fault.NAME_CONFLICT}
)
"""Faults that another attempt cannot mend before somebody changes something."""


class Crew:
    """Engine calls of one orchestrator. `emit` hands an event to the controller."""

    def __init__(self, engine: WorkerEngine, emit: Callable[[ev.Happening], None], now: Now) -> None:
        self._engine = engine
        self._emit = emit
        self._now = now
        self.rehearsal = Rehearsal(engine, emit)
        self._tails: dict[str, asyncio.Task[None]] = {}
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._seen: dict[str, Observed] = {}
        self._suspects: set[str] = set()
        self._relist_now = asyncio.Event()
        self._patrol: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Watch the engine and re-list it periodically: notifications are a hint, the list is the truth."""
        await self._engine.open(self._changed)
        self._patrol = asyncio.get_running_loop().create_task(self._run_patrol(), name="patrol")

    async def close(self) -> None:
        """Let running engine calls finish for a moment, then stop watching. Workers go on."""
        await self.rehearsal.close()
        for task in [*self._watches.values(), *([self._patrol] if self._patrol else [])]:
            task.cancel()
        if self._tails:
            await asyncio.wait(self._tails.values(), timeout=5.0)
        await self._engine.close()

    def know(self, observed: Observed) -> None:
        """Remember where a worker of an earlier life is reached (adoption)."""
        self._seen[observed.worker_id] = observed

    def suspect(self, worker_ids: set[str]) -> None:
        """Probe these workers at once: the gateway could not reach them."""
        self._suspects = worker_ids

    def start(self, effect: StartWorker, after: Awaitable[None]) -> None:
        self._queue(effect.spec.worker_id, self._start(effect, after))

    def stop(self, effect: StopWorker, after: Awaitable[None]) -> None:
        self._unwatch(effect.worker_id)
        self._queue(effect.worker_id, self._stop(effect, after))

    def remove(self, effect: RemoveWorker, after: Awaitable[None]) -> None:
        self._unwatch(effect.worker_id)
        self._seen.pop(effect.worker_id, None)
        self.rehearsal.forget(effect.worker_id)
        self._queue(effect.worker_id, self._remove(effect, after))

    def watch(self, effect: WatchHealth) -> None:
        """Probe the worker until it is stopped or removed."""
        if effect.worker_id not in self._watches:
            task = asyncio.get_running_loop().create_task(self._watch(effect), name=f"health {effect.worker_id}")
            self._watches[effect.worker_id] = task

    def _unwatch(self, worker_id: str) -> None:
        task = self._watches.pop(worker_id, None)
        if task is not None:
            task.cancel()

    def _queue(self, worker_id: str, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` after everything queued for this worker before."""
        before = self._tails.get(worker_id)

        async def run() -> None:
            if before is not None:
                await asyncio.wait([before])
            await work

        task = asyncio.get_running_loop().create_task(run(), name=f"engine {worker_id}")
        self._tails[worker_id] = task
        task.add_done_callback(lambda done: self._finished(worker_id, done))

    def _finished(self, worker_id: str, task: asyncio.Task[None]) -> None:
        if self._tails.get(worker_id) is task:
            del self._tails[worker_id]
        if not task.cancelled() and task.exception() is not None:
            log.error("engine work on %s failed", worker_id, exc_info=task.exception())

    async def _start(self, effect: StartWorker, after: Awaitable[None]) -> None:
        await after
        worker_id = effect.spec.worker_id
        lost = lost_secrets(effect.spec.endpoint, effect.spec.env)
        if lost is not None:  # with the mask for a value the server would fail later, and say something else
            self._emit(ev.LaunchRefused(worker_id, "secret_lost", lost, fatal=True, engine_down=False))
            return
        try:
            point("engine.start.before")
            observed = await self._engine.start(effect.spec)
            point("engine.start.after")
        except EngineUnavailable as error:
            self._emit(ev.LaunchUnknown(worker_id, error.message))
            self._relist_now.set()
        except EngineError as error:
            down = error.fault is Fault.ENGINE_MISSING
            self._emit(ev.LaunchRefused(worker_id, error.fault.value, error.message, error.fault in FATAL, down))
        else:
            self._seen[worker_id] = observed
            await self.rehearsal.started(worker_id, effect.spec.endpoint)
            self._emit(ev.WorkerLaunched(worker_id, observed))

    async def _stop(self, effect: StopWorker, after: Awaitable[None]) -> None:
        await after
        try:
            point("engine.stop.before")
            ended = await self._engine.stop(effect.worker_id, effect.grace_s)
            point("engine.stop.after")
        except EngineError as error:
            self._emit(ev.StopUnknown(effect.worker_id, error.message))
            self._relist_now.set()
            return
        if ended is None:
            ended = Exit(ExitCause.VANISHED, None, None, "it was gone already")  # when, nobody knows
        self._emit(ev.WorkerExited(effect.worker_id, ended))

    async def _remove(self, effect: RemoveWorker, after: Awaitable[None]) -> None:
        await after
        try:
            point("engine.remove.before")
            await self._engine.remove(effect.worker_id)
            point("engine.remove.after")
        except EngineError as error:
            log.warning("removing %s: %s; the next list tries again", effect.worker_id, error.message)

    async def _watch(self, effect: WatchHealth) -> None:
        """Quickly until ready, slowly afterwards; a suspect is probed at once. Three failures in a row are reported."""
        worker_id = effect.worker_id
        ready = effect.ready
        failures = 0
        while True:
            observed = self._seen.get(worker_id)
            well = observed is not None and await self._probe(observed, effect.path)
            if well and (not ready or failures or worker_id in self._suspects):
                ready, failures = True, 0
                self._suspects.discard(worker_id)
                self._emit(ev.WorkerHealthy(worker_id))
            elif not well and ready:
                failures += 1
                if failures == UNHEALTHY_AFTER:
                    self._emit(ev.WorkerUnhealthy(worker_id, failures))
            await self._pause(worker_id, hasty=not ready or failures > 0)

    async def _probe(self, observed: Observed, path: str) -> bool:
        well = await self._engine.healthy(observed, path, PROBE_TIMEOUT_S)
        return well and not self.rehearsal.fails(observed.worker_id)

    async def _pause(self, worker_id: str, *, hasty: bool) -> None:
        steps = 1 if hasty else int(READY_PROBE_PERIOD_S / STARTING_PROBE_PERIOD_S)
        for _ in range(steps):
            await asyncio.sleep(STARTING_PROBE_PERIOD_S)
            if worker_id in self._suspects:
                return

    def _changed(self, worker_id: str, ended: Exit | None) -> None:
        """Called by the engine in the event loop."""
        if ended is not None and worker_id:
            self._unwatch(worker_id)
            self._emit(ev.WorkerExited(worker_id, ended))
        else:
            self._relist_now.set()

    async def _run_patrol(self) -> None:
        while True:
            try:
                async with asyncio.timeout(RELIST_PERIOD_S):
                    await self._relist_now.wait()
            except TimeoutError:
                pass  # the period is over: list anyway
            self._relist_now.clear()
            self._emit(ev.EngineProbed(await self._engine.probe()))
            asked_ns = self._now()
            try:
                point("engine.list.before")
                observed = await self._engine.list_workers()
                point("engine.list.after")
            except EngineError as error:
                log.warning("listing workers: %s", error.message)
                await asyncio.sleep(1.0)
                continue
            for one in observed:
                if one.exit is None:
                    self._seen[one.worker_id] = one
            self._emit(ev.Relisted(tuple(observed), asked_ns))
