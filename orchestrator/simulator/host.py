"""The host of a simulation: an engine whose workers are records, and who hears of them. Virtual time, no chance.

It plays the engine and the crew (controller/crew.py) in one: calls arrive after a while, may be lost before or after
their effect, and what an orchestrator that has died was waiting for reaches nobody. What the host itself knows
(`lives`) is what an onlooker with a watch would have seen, whatever anybody was told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from orchestrator.contract.snapshot import GpuView
from orchestrator.core import events as ev
from orchestrator.core.workload import Exit, ExitCause, Observed, WorkerSpec
from orchestrator.simulator.fate import Fate, Start
from orchestrator.simulator.timeline import Timeline

UNHEALTHY_AFTER_S = 9.3
"""From a worker's hanging to its third failed probe: half a period of 5 s, three time-outs of 2 s, and pauses."""
PROBE_AGAIN_S = 1.0
REFUSED_PROBES_S = 0.3
"""Three probes of a worker that refuses connections."""
PORTS = range(9_000, 30_000)
"""Workers listen on one each, as live ones do: whoever connects must be able to tell them apart."""
KILLED = 137
"""Exit code of SIGKILL."""


GONE = Exit(ExitCause.VANISHED, None, None, "it was gone already")


def gpu_views(text: str) -> tuple[GpuView, ...]:
    """`L40:2,H100:1` as simulated GPUs."""
    kinds = [(kind, int(count)) for kind, count in (part.split(":") for part in text.split(","))]
    names = [(kind, n) for kind, count in kinds for n in range(count)]
    return tuple(
        GpuView(uuid=f"SIM-{kind}-{n}", index=i, type=kind, name=kind, simulated=True)
        for i, (kind, n) in enumerate(names)
    )


class Struck(Exception):
    """The orchestrator is killed at this point of its work."""


class Host:
    """Workers that run, and evidence of those that ended. `tell` hands an event to the orchestrator that lives now."""

    def __init__(
        self, time: Timeline, fate: Fate, tell: Callable[[ev.Happening], object], doubt: Callable[[], None]
    ) -> None:
        self.fate = fate
        self.running: dict[str, Observed] = {}
        self.evidence: dict[str, Observed] = {}
        """Ended workers that the engine still remembers."""
        self.lives: dict[str, list[int | None]] = {}
        """Start and end of every worker, as an onlooker's clock has them."""
        self.ended_in: dict[str, int] = {}
        """In whose life each worker ended."""
        self.hung: set[str] = set()
        """Workers that neither answer probes nor finish anything."""
        self.healthy = True
        """False: no worker that starts becomes healthy."""
        self.silent = False
        """Notifications of ends are lost: only a list tells."""
        self.skew_ns = 0
        """The wall clock, by which the engine goes, less the orchestrator's own clock."""
        self.life = 1
        """Counts orchestrators: what an earlier one was waiting for reaches nobody."""
        self.ended: Callable[[str], None] = lambda worker_id: None
        """Called at the end of every worker: its connections are gone."""
        self._time = time
        self._tell = tell
        self._doubt = doubt
        self._well_ns: dict[str, int] = {}
        """From when on a worker answers its probes."""

    # --- engine calls

    def start(self, spec: WorkerSpec) -> None:
        how, life = self.fate.start(spec, self._time.now_ns), self.life
        self._time.later(how.delay_s, lambda: self._start(spec, how, life))

    def _start(self, spec: WorkerSpec, how: Start, life: int) -> None:
        heard, worker_id = life == self.life, spec.worker_id
        if not heard and not how.outlives_us:
            return  # the call was never made
        self._pass("engine.start.before", heard)
        if how.refused is not None:
            code, message, fatal = how.refused
            if heard:
                self._tell(ev.LaunchRefused(worker_id, code, message, fatal, code == "engine_missing"))
            return
        if how.lost != "before":
            self._begin(spec, how)
        self._pass("engine.start.after", heard)
        if not heard:
            return
        if how.lost is None:
            self._tell(ev.WorkerLaunched(worker_id, self.running[worker_id]))
        else:
            self._tell(ev.LaunchUnknown(worker_id, "the engine did not answer in time"))
            self._doubt()

    def _begin(self, spec: WorkerSpec, how: Start) -> None:
        worker_id, now_ns = spec.worker_id, self._time.now_ns
        wall_ns = now_ns + self.skew_ns
        port = PORTS[len(self.lives) % len(PORTS)]
        self.running[worker_id] = Observed(
            worker_id, f"ref-{worker_id}", spec.endpoint, spec.interval_id, "127.0.0.1", port, wall_ns, wall_ns, None
        )
        self.lives[worker_id] = [now_ns, None]
        self._well_ns[worker_id] = now_ns + round(how.cold_s * 1e9)
        if how.dies_after_s is not None:
            self._time.later(how.dies_after_s, lambda: self.kill(worker_id, code=1))

    def stop(self, worker_id: str) -> None:
        how, life = self.fate.stop(worker_id, self._time.now_ns), self.life

        def arrive() -> None:
            heard = life == self.life
            if not heard and not how.outlives_us:
                return
            self._pass("engine.stop.before", heard)
            if how.lost != "before":
                self.end(worker_id, ExitCause.CLEAN, 0, (), told=False)
            self._pass("engine.stop.after", heard)
            if not heard:
                return
            if how.lost is None:
                seen = self.evidence.get(worker_id)
                self._tell(ev.WorkerExited(worker_id, GONE if seen is None or seen.exit is None else seen.exit))
            else:
                self._tell(ev.StopUnknown(worker_id, "the engine did not confirm the stop"))
                self._doubt()

        self._time.later(how.delay_s, arrive)

    def remove(self, worker_id: str) -> None:
        self._pass("engine.remove.before")
        if not self.fate.removal_is_lost(worker_id, self._time.now_ns):
            self.evidence.pop(worker_id, None)
        self._pass("engine.remove.after")

    def watch(self, worker_id: str) -> None:
        """Probe the worker: it is reported once it answers, or once a ready one does not any more."""
        life = self.life

        def probe() -> None:
            if life != self.life or worker_id not in self.running:
                return
            if worker_id in self.hung:
                self._time.later(UNHEALTHY_AFTER_S, lambda: self._report_hang(worker_id, life))
            elif self.healthy:
                self._tell(ev.WorkerHealthy(worker_id))
            else:
                self._time.later(PROBE_AGAIN_S, probe)

        self._time.at(max(self._time.now_ns, self._well_ns.get(worker_id, 0)), probe)

    def refuse(self, worker_id: str) -> None:
        """A request found nobody there: the worker is probed at once, and reported."""
        life = self.life

        def report() -> None:
            if life == self.life:
                self._tell(ev.WorkerUnhealthy(worker_id, 3))

        self._time.later(REFUSED_PROBES_S, report)

    def list_workers(self) -> tuple[Observed, ...]:
        """The whole truth of the engine."""
        self._pass("engine.list.after")
        return (*self.running.values(), *self.evidence.values())

    @property
    def lives_on(self) -> bool:
        """Something of a worker is left: it runs, or the engine remembers it."""
        return bool(self.running or self.evidence)

    def _pass(self, point: str, heard: bool = True) -> None:
        """An orchestrator that waits for the call may be killed here."""
        if heard and self.fate.strikes(point, self._time.now_ns):
            raise Struck(point)

    # --- what happens by itself

    def kill(self, worker_id: str, *, code: int = KILLED) -> None:
        """The worker ends by itself. Nothing, if it does not run."""
        self.end(worker_id, ExitCause.ERROR, code, ("loading", "boom"))

    def end(self, worker_id: str, cause: ExitCause, code: int, log: tuple[str, ...], *, told: bool = True) -> None:
        """The worker ends, and leaves evidence; `told`: the orchestrator hears of it at once."""
        seen = self.running.pop(worker_id, None)
        if seen is None:
            return
        self._gone(worker_id)
        exit_ = Exit(cause, code, self._time.now_ns + self.skew_ns, f"exit code {code}", log)
        self.evidence[worker_id] = replace(seen, exit=exit_)
        if told and not self.silent and not self.fate.end_is_lost(worker_id, self._time.now_ns):
            self._tell(ev.WorkerExited(worker_id, exit_))

    def vanish(self, worker_id: str) -> None:
        """Somebody removes the worker, and its evidence with it. Raises KeyError."""
        del self.running[worker_id]
        self._gone(worker_id)

    def hang(self, worker_id: str) -> None:
        """From now on the worker answers nothing; if it was ready, its probes tell after a while."""
        life = self.life
        self.hung.add(worker_id)
        self._time.later(UNHEALTHY_AFTER_S, lambda: self._report_hang(worker_id, life))

    def go_down(self) -> None:
        """The host crashes: workers end now, and Docker writes 255 and the time of its own return."""
        for worker_id, seen in list(self.running.items()):
            lie = Exit(ExitCause.ERROR, 255, None, "exit code 255")
            self.evidence[worker_id] = replace(seen, exit=lie)
            del self.running[worker_id]
            self._gone(worker_id)

    def _gone(self, worker_id: str) -> None:
        self.lives.setdefault(worker_id, [None, None])[1] = self._time.now_ns
        self.ended_in[worker_id] = self.life
        self.hung.discard(worker_id)
        self._well_ns.pop(worker_id, None)
        self.ended(worker_id)

    def _report_hang(self, worker_id: str, life: int) -> None:
        if life == self.life and worker_id in self.hung:
            self._tell(ev.WorkerUnhealthy(worker_id, 3))
