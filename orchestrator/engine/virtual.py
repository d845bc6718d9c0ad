"""The virtual engine: workers that exist only as values, under the clock it is given.

For tests; the simulator, whose workers need no tasks at all, has a host of its own (simulator/host.py). Deterministic:
nothing happens between calls, no task runs, no time is read but `now`. Its knobs are the fault menu of reliability.md
section 2 (L1): an answer lost after its effect, a refused start, an end without warning, a hung health check, an engine
that is down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.snapshot import EngineKind, EngineView
from orchestrator.core.catalogue import Model
from orchestrator.core.workload import Exit, ExitCause, Observed, WorkerSpec
from orchestrator.engine.ports import EngineError, EngineUnavailable, Fault

HOST: Final = "127.0.0.1"
OnChange = Callable[[str, Exit | None], None]


class Call(NamedTuple):
    """One call of the protocol: `verb` is the method's name, `worker_id` is "" where it has none."""

    verb: str
    worker_id: str
    at_ns: int


@dataclass(slots=True)
class VirtualWorker:
    """One worker of the world, as it is now."""

    spec: WorkerSpec
    observed: Observed
    cold_start_s: float
    log: list[str] = field(default_factory=list)
    hung: bool = False


@dataclass(slots=True)
class VirtualWorld:
    """What outlives an engine object: give the same world to the next one, as a restart of the orchestrator would."""

    workers: dict[str, VirtualWorker] = field(default_factory=dict)
    """By worker id, in order of their start; of every instance."""
    serial: int = 0
    watchers: list[OnChange] = field(default_factory=list)


def runs_anything(model: Model) -> bool:
    """A virtual engine has no image to pull and no program to find: any model that some engine can run will do."""
    return model.image is not None or model.process is not None


class VirtualEngine:
    """Implements WorkerEngine. A worker is healthy once `cold_start_s` seconds have passed since its start.

    `serve` maps a worker to the address of a real server, for tests that send requests; without it the port is 0.
    """

    def __init__(
        self,
        instance: str,
        now: Callable[[], int],
        *,
        cold_start_s: float | Callable[[WorkerSpec], float] = 0.0,
        serve: Callable[[WorkerSpec], tuple[str, int]] | None = None,
        supports: Callable[[Model], bool] = runs_anything,
        world: VirtualWorld | None = None,
    ) -> None:
        self.world = VirtualWorld() if world is None else world
        self.calls: list[Call] = []
        """Every call of the protocol, oldest first, refused ones included."""
        self._instance = instance
        self._now = now
        self._cold_start_s = cold_start_s
        self._serve = serve
        self._supports = supports
        self._on_change: OnChange | None = None
        self._faults: list[Fault] = []
        self._answers_to_lose = 0
        self._down = False

    # The protocol

    @property
    def kind(self) -> EngineKind:
        return EngineKind.VIRTUAL

    async def open(self, on_change: OnChange) -> None:
        self._called("open")
        self._on_change = on_change
        self.world.watchers.append(on_change)

    async def probe(self) -> EngineView:
        self._note("probe", "")
        detail = "switched off by the test" if self._down else "workers without processes"
        return EngineView(kind=EngineKind.VIRTUAL, ok=not self._down, detail=detail)

    async def start(self, spec: WorkerSpec) -> Observed:
        """Instantaneous. Raises EngineError as `fail_next` ordered, or MODEL_UNSUPPORTED."""
        self._called("start", spec.worker_id)
        found = self._find(spec.worker_id)
        if found is None:
            if self._faults:
                fault = self._faults.pop(0)
                if fault is Fault.ENGINE_MISSING:
                    raise EngineUnavailable("the virtual engine was told not to answer")
                raise EngineError(fault, f"the virtual engine was told to refuse: {fault.value}")
            if not self._supports(spec.model):
                raise EngineError(Fault.MODEL_UNSUPPORTED, f"model {spec.model.name}: this engine cannot run it")
            found = self._begin(spec)
        self._answer()
        return found.observed

    async def healthy(self, worker: Observed, path: str, timeout_s: float) -> bool:
        self._note("healthy", worker.worker_id)
        found = self._find(worker.worker_id)
        if self._down or found is None or found.hung or found.observed.paused or found.observed.exit is not None:
            return False
        started_ns = found.observed.started_ns
        assert started_ns is not None
        return self._now() - started_ns >= round(found.cold_start_s * SECOND_NS)

    async def inspect(self, worker_id: str) -> Observed | None:
        self._called("inspect", worker_id)
        found = self._find(worker_id)
        return None if found is None else found.observed

    async def list_workers(self) -> list[Observed]:
        self._called("list_workers")
        return [w.observed for w in self.world.workers.values() if w.spec.instance == self._instance]

    async def stop(self, worker_id: str, grace_s: float) -> Exit | None:
        """Instantaneous, whatever the grace."""
        self._called("stop", worker_id)
        found = self._find(worker_id)
        if found is not None and found.observed.exit is None:
            self.exit(worker_id, Exit(ExitCause.CLEAN, 0, self._now(), "stopped on request; exited with code 0"))
        self._answer()
        return None if found is None else found.observed.exit

    async def remove(self, worker_id: str) -> None:
        """Raises EngineError (REFUSED) while the worker runs."""
        self._called("remove", worker_id)
        found = self._find(worker_id)
        if found is not None:
            if found.observed.exit is None:
                raise EngineError(Fault.REFUSED, f"worker {worker_id} is running; stop it before removing it")
            del self.world.workers[worker_id]
        self._answer()

    async def logs(self, worker_id: str, tail: int) -> list[str]:
        self._called("logs", worker_id)
        found = self._find(worker_id)
        if found is None:
            raise KeyError(worker_id)
        return found.log[-tail:] if tail > 0 else []

    async def kill(self, worker_id: str) -> None:
        self._called("kill", worker_id)
        self._living(worker_id)
        self.exit(worker_id, Exit(ExitCause.SIGNAL, 137, self._now(), "killed by signal 9"))

    async def freeze(self, worker_id: str, *, on: bool) -> None:
        self._called("freeze", worker_id)
        self._living(worker_id)
        self.pause(worker_id, on)

    async def squeeze(self, worker_id: str) -> None:
        self._called("squeeze", worker_id)
        self._living(worker_id)
        self.exit(worker_id, Exit(ExitCause.OOM, 137, self._now(), "killed above its memory limit"))

    async def close(self) -> None:
        self._note("close", "")
        if self._on_change in self.world.watchers:
            self.world.watchers.remove(self._on_change)
        self._on_change = None

    # Knobs

    def fail_next(self, fault: Fault, times: int = 1) -> None:
        """The next `times` starts of new workers are refused; ENGINE_MISSING is raised as EngineUnavailable."""
        self._faults += [fault] * times

    def lose_next_answer(self, times: int = 1) -> None:
        """The next `times` starts, stops or removals take effect, but their caller gets EngineUnavailable."""
        self._answers_to_lose += times

    def down(self, on: bool) -> None:
        """While on, every call raises EngineUnavailable without effect, and no worker is healthy."""
        self._down = on

    def exit(self, worker_id: str, end: Exit) -> None:
        """The worker ends now. Watchers are told before this returns. Raises KeyError for an unknown one and
        ValueError for one that has ended already: a test that kills twice is wrong about its own story."""
        worker = self.world.workers[worker_id]
        if worker.observed.exit is not None:
            raise ValueError(f"worker {worker_id} has ended already: {worker.observed.exit.detail}")
        worker.log.append(end.detail)
        worker.observed = replace(worker.observed, exit=end if end.log else replace(end, log=tuple(worker.log[-50:])))
        self._tell(worker)

    def vanish(self, worker_id: str) -> None:
        """The worker and all evidence of it are gone, as after `docker rm -f` by hand. Raises KeyError."""
        worker = self.world.workers.pop(worker_id)
        worker.observed = replace(worker.observed, exit=Exit(ExitCause.VANISHED, None, None, "removed by hand"))
        self._tell(worker)

    def pause(self, worker_id: str, on: bool = True) -> None:
        """Freeze a worker, or let it go on: it is listed as paused and not healthy. Raises KeyError."""
        worker = self.world.workers[worker_id]
        worker.observed = replace(worker.observed, paused=on)

    def hang_health(self, worker_id: str, on: bool = True) -> None:
        """Its health check fails while everything else looks right. Raises KeyError."""
        self.world.workers[worker_id].hung = on

    def say(self, worker_id: str, line: str) -> None:
        """Add a line to its log. Raises KeyError."""
        self.world.workers[worker_id].log.append(line)

    @property
    def running(self) -> tuple[str, ...]:
        """Ids of this instance's living workers, in order of their start."""
        return tuple(
            worker_id
            for worker_id, worker in self.world.workers.items()
            if worker.observed.exit is None and worker.spec.instance == self._instance
        )

    # Inside

    def _note(self, verb: str, worker_id: str) -> None:
        self.calls.append(Call(verb, worker_id, self._now()))

    def _called(self, verb: str, worker_id: str = "") -> None:
        self._note(verb, worker_id)
        if self._down:
            raise EngineUnavailable("the virtual engine is switched off")

    def _answer(self) -> None:
        """The effect has happened; does its caller hear of it?"""
        if self._answers_to_lose:
            self._answers_to_lose -= 1
            raise EngineUnavailable("the virtual engine's answer was lost")

    def _find(self, worker_id: str) -> VirtualWorker | None:
        found = self.world.workers.get(worker_id)
        return found if found is not None and found.spec.instance == self._instance else None

    def _living(self, worker_id: str) -> VirtualWorker:
        found = self._find(worker_id)
        if found is None or found.observed.exit is not None:
            raise KeyError(worker_id)
        return found

    def _begin(self, spec: WorkerSpec) -> VirtualWorker:
        self.world.serial += 1
        now_ns = self._now()
        host, port = (HOST, 0) if self._serve is None else self._serve(spec)
        seconds = self._cold_start_s(spec) if callable(self._cold_start_s) else self._cold_start_s
        worker = VirtualWorker(
            spec=spec,
            observed=Observed(
                worker_id=spec.worker_id,
                engine_ref=f"virtual-{self.world.serial}",
                endpoint=spec.endpoint,
                interval_id=spec.interval_id,
                host=host,
                port=port,
                created_ns=now_ns,
                started_ns=now_ns,
                exit=None,
            ),
            cold_start_s=seconds,
            log=[f"{spec.model.name} on {spec.gpu.type} {spec.gpu.uuid}"],
        )
        self.world.workers[spec.worker_id] = worker
        return worker

    def _tell(self, worker: VirtualWorker) -> None:
        if worker.spec.instance == self._instance:
            for watcher in list(self.world.watchers):
                watcher(worker.spec.worker_id, worker.observed.exit)
