"""The process engine: model servers as child processes of this host, one supervisor (shim.py) each.

It needs nothing installed and gives no isolation beyond a process: no file system of its own, no network of its own.
Everything it knows is on disk below its directory, so adoption after a restart is a plain `list_workers` (design.md
section 2; reliability.md O2, O3, O7).

No worker is left behind: the model dies with its supervisor (PDEATHSIG), and the supervisor ends it when no
orchestrator has held the `lease` for `lease_grace_s` seconds. The orchestrator must hold an exclusive flock on that
file for as long as it lives. While nobody holds it, a supervisor's look takes a shared lock for an instant, so whoever
takes the lease should try for about a second before concluding that another holds it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.contract.snapshot import EngineKind, EngineView
from orchestrator.core.workload import Exit, ExitCause, Observed, WorkerSpec
from orchestrator.engine import process_faults
from orchestrator.engine.arguments import filled_in
from orchestrator.engine.health import http_healthy
from orchestrator.engine.ports import EngineError, EngineUnavailable, Fault
from orchestrator.engine.process_files import Directory
from orchestrator.engine.process_launch import PACKAGE_ROOT, LaunchFailed, LaunchUnknown, Plan, free_port, launch
from orchestrator.engine.process_record import (
    HOST,
    WORKER_ID_PATTERN,
    ExitRecord,
    RecordInvalid,
    ShimRecord,
    address_in_use,
    model_environment,
    observed,
    recorded_exit,
    spec_record,
    vanished,
)
from orchestrator.engine.process_table import ExitWatch, is_paused, is_supervised, send_signal, sweep
from orchestrator.engine.shim import boot_id

LOG: Final = logging.getLogger(__name__)
PORT_TRIES: Final = 3
SETTLE_S: Final = 0.5
"""How long `start` looks for an immediate end (a port taken meanwhile); it returns earlier once the port listens."""
SETTLE_STEP_S: Final = 0.02
EXIT_LOG_LINES: Final = 50
STOP_MARGIN_S: Final = 10.0
"""Beyond the grace: for the supervisor to kill, collect and write its evidence on a busy host."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """One look at a record and at the processes it names."""

    worker: Observed
    shim: ShimRecord | None


class ProcessEngine:
    """Implements WorkerEngine. `directory` holds the records (0700), `now` is wall-clock nanoseconds, `python` runs the
    supervisors and replaces `{python}` in a model's argv."""

    def __init__(
        self,
        instance: str,
        now: Callable[[], int],
        directory: Path,
        lease: Path,
        python: str = sys.executable,
        *,
        lease_grace_s: float = 120.0,
    ) -> None:
        self._instance = instance
        self._now = now
        self._files = Directory(directory.absolute())
        self._lease = lease.absolute()
        self._lease_grace_s = lease_grace_s
        self._python = python
        self._boot_id = boot_id()
        self._on_change: Callable[[str, Exit | None], None] | None = None
        self._watch = ExitWatch(self._ended)
        self._tasks: set[asyncio.Task[None]] = set()
        self._locks: dict[str, asyncio.Lock] = {}
        self._ports: dict[str, int] = {}
        self._problems: dict[str, str] = {}
        self._starting: set[str] = set()
        """Workers whose record is being made: it is incomplete, not abandoned."""
        self._ended_ns: dict[str, int] = {}
        """When the supervisor of a worker was seen to end, until the worker is removed."""

    @property
    def kind(self) -> EngineKind:
        return EngineKind.PROCESS

    async def open(self, on_change: Callable[[str, Exit | None], None]) -> None:
        """Watch every worker of this instance, those of an earlier orchestrator included. Raises EngineUnavailable."""
        self._on_change = on_change
        try:
            await asyncio.to_thread(self._files.prepare)
        except OSError as error:
            raise EngineUnavailable(self._unusable(error)) from error
        await self.list_workers()

    async def probe(self) -> EngineView:
        try:
            await asyncio.to_thread(self._files.prepare)
            ok = os.access(self._files.root, os.R_OK | os.W_OK | os.X_OK)
            problem = "" if ok else f"{self._files.root} cannot be written by this user"
        except OSError as error:
            problem = self._unusable(error)
        detail = problem or "processes of this host, not isolated from each other"
        for worker_id, text in sorted(self._problems.items()):
            detail += f"; record {worker_id} is damaged ({text})"
        return EngineView(kind=EngineKind.PROCESS, ok=not problem, detail=detail)

    async def start(self, spec: WorkerSpec) -> Observed:
        """Create the record and start. Raises EngineError: MODEL_UNSUPPORTED for a model without a `process` or with a
        secret in it, PORT_TAKEN, NO_SPACE, NAME_CONFLICT for a damaged record of that id, REFUSED for a program that
        cannot run or lacks a variable."""
        process = spec.model.process
        if not WORKER_ID_PATTERN.fullmatch(spec.worker_id) or spec.instance != self._instance:
            raise EngineError(Fault.REFUSED, f"worker {spec.worker_id!a} is not one of instance {self._instance}")
        async with self._lock(spec.worker_id):
            found = await self._look(spec.worker_id)
            if found is not None:
                return found.worker
            if self._files.has(spec.worker_id):
                where = self._files.path(spec.worker_id)
                raise EngineError(Fault.NAME_CONFLICT, f"{where} holds something that is no record of ours; remove it")
            if process is None:
                raise EngineError(
                    Fault.MODEL_UNSUPPORTED,
                    f"model {spec.model.name}: only Docker can run it (its entry has no `process`)",
                )
            return await self._start(spec, process)

    async def healthy(self, worker: Observed, path: str, timeout_s: float) -> bool:
        if worker.host is None or worker.port is None:
            return False
        return await http_healthy(worker.host, worker.port, path, timeout_s)

    async def inspect(self, worker_id: str) -> Observed | None:
        found = await self._look(worker_id)
        return None if found is None else found.worker

    async def list_workers(self) -> list[Observed]:
        """A damaged record is left out, logged once, and shown by `probe` until it is removed."""
        try:
            names = await asyncio.to_thread(self._files.ids)
        except OSError as error:
            raise EngineUnavailable(self._unusable(error)) from error
        self._problems = {name: text for name, text in self._problems.items() if name in names}
        found = [await self._look(name) for name in names]
        return [seen.worker for seen in found if seen is not None]

    async def stop(self, worker_id: str, grace_s: float) -> Exit | None:
        """SIGTERM to the model's group, SIGKILL after `grace_s`: both by the supervisor, which then leaves evidence."""
        async with self._lock(worker_id):
            found = await self._look(worker_id)
        if found is None or found.worker.exit is not None:
            return None if found is None else found.worker.exit
        shim = found.shim
        if shim is not None:
            await asyncio.to_thread(self._request_stop, worker_id, shim, grace_s)
            if not await self._watch.wait(worker_id, grace_s + STOP_MARGIN_S):
                await asyncio.to_thread(self._force, worker_id, shim)
        found = await self._look(worker_id)
        return None if found is None else found.worker.exit

    async def remove(self, worker_id: str) -> None:
        """Delete the record. Raises EngineError (REFUSED) while the worker runs: its evidence would be lost."""
        async with self._lock(worker_id):
            found = await self._look(worker_id)
            if found is not None and found.worker.exit is None:
                raise EngineError(Fault.REFUSED, f"worker {worker_id} is running; stop it before removing it")
            if found is not None or worker_id in self._problems:
                await asyncio.to_thread(self._files.delete, worker_id)
        self._locks.pop(worker_id, None)
        self._ports.pop(worker_id, None)
        self._problems.pop(worker_id, None)
        self._ended_ns.pop(worker_id, None)

    async def logs(self, worker_id: str, tail: int) -> list[str]:
        if await self._look(worker_id) is None:
            raise KeyError(worker_id)
        return list(await asyncio.to_thread(self._files.tail, worker_id, tail))

    async def kill(self, worker_id: str) -> None:
        await self._break(worker_id, process_faults.kill)

    async def freeze(self, worker_id: str, *, on: bool) -> None:
        await self._break(worker_id, lambda shim: process_faults.freeze(shim, on=on))

    async def squeeze(self, worker_id: str) -> None:
        await self._break(worker_id, lambda shim: process_faults.squeeze(self._files.path(worker_id)))

    async def _break(self, worker_id: str, how: Callable[[ShimRecord], bool]) -> None:
        found = await self._look(worker_id)
        if found is None or found.shim is None or found.worker.exit is not None:
            raise KeyError(worker_id)
        try:
            if not await asyncio.to_thread(how, found.shim):
                raise KeyError(worker_id)
        except OSError as error:
            raise EngineError(Fault.REFUSED, f"worker {worker_id}: {error.strerror}") from error

    async def close(self) -> None:
        self._on_change = None
        self._watch.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _lock(self, worker_id: str) -> asyncio.Lock:
        return self._locks.setdefault(worker_id, asyncio.Lock())

    def _unusable(self, error: OSError) -> str:
        return f"{self._files.root} cannot be used for the records of workers: {error.strerror}"

    async def _start(self, spec: WorkerSpec, process: tuple[str, ...]) -> Observed:
        for _ in range(PORT_TRIES):
            port = free_port(self._ports.values())
            self._ports[spec.worker_id] = port
            self._starting.add(spec.worker_id)
            await asyncio.to_thread(self._launch, spec, process, port)
            seen = await self._settled(spec.worker_id, port)
            if seen.exit is None or not address_in_use(seen.exit.log):
                return seen
            await asyncio.to_thread(self._files.delete, spec.worker_id)
            del self._ports[spec.worker_id]
        raise EngineError(
            Fault.PORT_TAKEN,
            f"model {spec.model.name}: could not listen on the port it was given, {PORT_TRIES} times in a row, each "
            "time another one; its log said that the address is in use",
        )

    def _launch(self, spec: WorkerSpec, process: tuple[str, ...], port: int) -> None:
        """In a thread. Leaves no record behind when it is certain that nothing was started."""
        env = model_environment(spec, os.environ, PACKAGE_ROOT)
        try:
            plan = Plan(
                argv=filled_in(process, spec.model.name, env, {"python": self._python, "host": HOST, "port": port}),
                env=env,
                memory_bytes=spec.model.memory_bytes,
                stop_grace_s=spec.model.stop_grace_s,
                lease=str(self._lease),
                lease_grace_s=self._lease_grace_s,
            )
            directory = self._files.create(spec_record(spec, port, self._now()))
            launch(self._python, directory, plan, self._now)
        except LaunchUnknown as unknown:
            raise EngineUnavailable(f"model {spec.model.name}: {unknown}") from unknown
        except LaunchFailed as failure:
            self._files.delete(spec.worker_id)
            raise EngineError(Fault.REFUSED, f"model {spec.model.name}: {failure}") from failure
        except OSError as error:
            self._files.delete(spec.worker_id)
            full = error.errno in {errno.ENOSPC, errno.EDQUOT}
            raise EngineError(Fault.NO_SPACE if full else Fault.REFUSED, self._unusable(error)) from error
        finally:
            self._starting.discard(spec.worker_id)  # here, not in the caller: it may be cancelled, a thread is not

    async def _settled(self, worker_id: str, port: int) -> Observed:
        """The new worker, once it has listened, ended, or lived for SETTLE_S."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + SETTLE_S
        while True:
            seen = await asyncio.to_thread(self._see, worker_id)
            if seen is None:
                raise EngineUnavailable(f"the record of worker {worker_id} was removed while it started")
            if seen.worker.exit is None and loop.time() < deadline_s and not await _listens(port):
                await asyncio.sleep(SETTLE_STEP_S)
                continue
            if seen.worker.exit is None or not address_in_use(seen.worker.exit.log):
                self._keep_watching(seen)
            return seen.worker

    async def _look(self, worker_id: str) -> _Seen | None:
        """The truth about one worker, watched from now on if it runs."""
        if not self._files.has(worker_id):
            return None
        seen = await asyncio.to_thread(self._see, worker_id)
        if seen is not None and seen.worker.exit is None:
            self._keep_watching(seen)
        return seen

    def _keep_watching(self, seen: _Seen) -> None:
        worker_id = seen.worker.worker_id
        self._ports[worker_id] = seen.worker.port or 0
        if seen.shim is not None:
            self._watch.add(worker_id, seen.shim.shim_pid, seen.shim.shim_ticks)

    def _see(self, worker_id: str) -> _Seen | None:
        """In a thread. None for no record, a damaged one (noted) or one of another instance."""
        try:
            spec = self._files.spec(worker_id)
        except RecordInvalid as error:
            self._note(worker_id, error)
            return None
        if spec is None or spec.instance != self._instance:
            if spec is None and self._files.has(worker_id):
                self._note(worker_id, RecordInvalid("SpecRecord document: there is none"))
            return None
        try:
            shim = self._files.shim(worker_id)
        except RecordInvalid as error:
            self._note(worker_id, error)
            shim = None
        # In this order: evidence is written before the supervisor ends, so whoever is gone has left what it will leave.
        supervised = shim is not None and is_supervised(shim, self._boot_id)
        ended = self._evidence(worker_id)
        if ended is None and not supervised and worker_id not in self._starting:
            ended = self._conclude(worker_id, shim)
        paused = ended is None and shim is not None and is_paused(shim.model_pid)
        return _Seen(observed(spec, shim, ended, paused=paused), shim)

    def _evidence(self, worker_id: str) -> Exit | None:
        try:
            record = self._files.exit(worker_id)
        except RecordInvalid as error:
            self._note(worker_id, error)
            return None
        return None if record is None else recorded_exit(record, self._files.tail(worker_id, EXIT_LOG_LINES))

    def _note(self, worker_id: str, error: RecordInvalid) -> None:
        if worker_id not in self._problems:
            LOG.warning("record %s is damaged: %s", self._files.path(worker_id), error)
        self._problems[worker_id] = str(error)

    def _conclude(self, worker_id: str, shim: ShimRecord | None) -> Exit:
        """In a thread: no supervisor and no evidence. Makes sure that nothing runs, then settles the end for good."""
        killed = sweep(self._instance, worker_id)
        if killed:
            LOG.warning("worker %s lost its supervisor; killed what it left running: %s", worker_id, killed)
        end = vanished(shim, self._boot_id, self._ended_ns.get(worker_id), self._files.tail(worker_id, EXIT_LOG_LINES))
        self._settle(worker_id, ExitRecord(cause=end.cause, code=end.code, at_ns=end.at_ns, detail=end.detail))
        return self._evidence(worker_id) or end

    def _settle(self, worker_id: str, record: ExitRecord) -> None:
        try:
            self._files.write_exit(worker_id, record)
        except OSError as error:
            LOG.warning("worker %s: its end cannot be recorded: %s", worker_id, error)

    def _request_stop(self, worker_id: str, shim: ShimRecord, grace_s: float) -> None:
        try:
            self._files.write_stop(worker_id, grace_s)
        except OSError as error:
            LOG.warning("worker %s: its model's own grace applies, not %g s: %s", worker_id, grace_s, error)
        send_signal(shim.shim_pid, shim.shim_ticks, signal.SIGTERM)

    def _force(self, worker_id: str, shim: ShimRecord) -> None:
        """In a thread: the supervisor does not do its part. The model dies with it."""
        detail = "killed; its supervisor did not answer and was killed with it"
        self._settle(worker_id, ExitRecord(cause=ExitCause.SIGNAL, code=-9, at_ns=self._now(), detail=detail))
        send_signal(shim.shim_pid, shim.shim_ticks, signal.SIGKILL)
        sweep(self._instance, worker_id)

    def _ended(self, worker_id: str) -> None:
        """In the event loop: the supervisor of a worker has ended."""
        self._ended_ns[worker_id] = self._now()
        task = asyncio.get_running_loop().create_task(self._report(worker_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _report(self, worker_id: str) -> None:
        seen = await asyncio.to_thread(self._see, worker_id)
        if self._on_change is not None:
            self._on_change(worker_id, None if seen is None else seen.worker.exit)


async def _listens(port: int) -> bool:
    """Does something accept connections on `port` of this host?"""
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.transport.abort()
    return True
