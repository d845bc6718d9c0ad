"""A whole gpudeck in virtual time: the real core, the real lanes, an engine and callers made of a heap of instants.

No clock, no sleep: `advance(seconds)` runs everything that is due. The state is checked after every step.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace

from orchestrator.assets import load_models, load_price_book
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.command import Accepted, Command, CreateEndpoint, Outcome, Refused, TopUp
from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.contract.snapshot import EngineKind, EngineView, GpuView, Snapshot, WorkerState
from orchestrator.controller.routes import Routes
from orchestrator.core import effects as fx
from orchestrator.core import events as ev
from orchestrator.core.lane import Closed, Slot
from orchestrator.core.observe import Surroundings, observe
from orchestrator.core.pricing import PriceSchedule, always
from orchestrator.core.recovery import earliest_ns
from orchestrator.core.routing import RoutingTable
from orchestrator.core.state import Rules, State
from orchestrator.core.step import step
from orchestrator.core.worker import Worker
from orchestrator.core.workload import Exit, ExitCause, Observed, WorkerSpec
from orchestrator.core.writes import Saved, Write
from tests.core.memory_ledger import MemoryLedger

START_NS = 1_795_500_000 * SECOND_NS
BOOT = "boot-1"
ENGINE = EngineView(kind=EngineKind.VIRTUAL, ok=True, detail="virtual")


def gpus(text: str) -> tuple[GpuView, ...]:
    """`L40:2,H100:1` as views."""
    kinds = [(kind, int(count)) for kind, count in (part.split(":") for part in text.split(","))]
    names = [(kind, n) for kind, count in kinds for n in range(count)]
    return tuple(
        GpuView(uuid=f"SIM-{kind}-{n}", index=i, type=kind, name=kind, simulated=True)
        for i, (kind, n) in enumerate(names)
    )


class Caller:
    """One request. `outcome` becomes the serving worker's label, or the code it was refused with."""

    def __init__(self, world: World, slug: str, service_s: float) -> None:
        self.arrived_ns = world.now_ns
        self.size_bytes = 100
        self.outcome: str | None = None
        self.waited_s: float | None = None
        self.done_ns: int | None = None
        self._world = world
        self._life = world.life
        self._lane = world.table.routes[slug].lane
        self._service_s = service_s

    def granted(self, slot: Slot) -> None:
        world = self._world
        self.outcome = slot.label
        self.waited_s = (world.now_ns - self.arrived_ns) / SECOND_NS
        if slot.first_byte_ns is None:
            slot.first_byte_ns = world.now_ns
        world.served.append(slot.label)
        world.later(self._service_s, lambda: self._finish(slot))

    def refused(self, closed: Closed) -> None:
        self.outcome = closed.code

    def _finish(self, slot: Slot) -> None:
        if self._life != self._world.life:
            return  # the connection ended with the orchestrator
        self.done_ns = self._world.now_ns
        self._lane.release(slot, self._world.now_ns)


class World:
    """One host. Engine behaviour is set by attributes; everything the core did is in `effects` and `writes`."""

    def __init__(
        self,
        gpu_text: str = "L40:4",
        *,
        cold_start_s: float = 2.0,
        credit_u: int | None = 10_000_000_000,
        prices: PriceSchedule | None = None,
    ) -> None:
        self.now_ns = START_NS
        self.cold_start_s = cold_start_s
        self.start_delay_s = 0.2
        self.tick_s = 0.25
        self.refuse: tuple[str, str, bool] | None = None
        """(fault code, message, fatal) of every start."""
        self.dies_after_start = False
        self.running: dict[str, Observed] = {}
        self.evidence: dict[str, Observed] = {}
        """Ended workers that the engine still remembers."""
        self.lives: dict[str, list[int | None]] = {}
        """Start and end of every worker, as an onlooker's clock has them."""
        self.gone = False
        """The orchestrator is away: nothing reaches it."""
        self.away: list[tuple[int, int, dict[str, int]]] = []
        """Every absence, with the idle time-outs (seconds) of the endpoints at its beginning."""
        self.asleep: list[tuple[int, int]] = []
        self.skew_ns = 0
        """The wall clock, by which the engine goes, less the orchestrator's own clock."""
        self.watched: set[str] = set()
        self.healthy = True
        self.silent = False
        """Notifications of ends are lost: only a list tells."""
        self.effects: list[fx.Effect] = []
        self.writes: list[Write] = []
        self.ledger = MemoryLedger(balances_u={} if credit_u is None else {"local": credit_u})
        self.mirror: Callable[[tuple[Write, ...]], object] | None = None
        """Given every transaction too."""
        self.life = 1
        """Counts restarts: what an earlier life was waiting for reaches nobody."""
        self.served: list[str] = []
        self.most_workers: dict[str, int] = {}
        self.answers: dict[str, Outcome] = {}
        self.left = False
        self.table = RoutingTable()
        self.routes = Routes(self.table, self._nudge)
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._ids = itertools.count(1)
        self._nudged = False
        rules = Rules(
            instance="f" * 32,
            boot_id=BOOT,
            models=load_models(None),
            prices=prices or always(load_price_book("2025-seed", None)),
        )
        self.state = State(rules=rules)
        self._gpus = gpus(gpu_text)
        self.handle(ev.Booted(self.nothing_saved(credit_u), (), ENGINE, self._gpus))
        self._tick_forever(self.life)
        self.later(10.0, lambda life=self.life: self._patrol_forever(life))

    def nothing_saved(self, credit_u: int | None = None) -> Saved:
        balances = {} if credit_u is None else {"local": credit_u}
        return Saved("f" * 32, balances, (), (), (), (), (), (), 0, {}, {}, {}, {}, {}, self.now_ns)

    # --- time

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        at = self.now_ns + int(seconds * SECOND_NS)
        heapq.heappush(self._heap, (at, next(self._order), action))

    def advance(self, seconds: float) -> None:
        end = self.now_ns + int(seconds * SECOND_NS)
        while self._heap and self._heap[0][0] <= end:
            at, _, action = heapq.heappop(self._heap)
            self.now_ns = max(self.now_ns, at)
            action()
        self.now_ns = end

    def until(self, predicate: Callable[[], object], limit_s: float = 3_600.0, step_s: float = 0.05) -> float:
        """Advance until `predicate` is true; returns the seconds it took."""
        start = self.now_ns
        while not predicate():
            assert self.now_ns - start < limit_s * SECOND_NS, "the condition never came true"
            self.advance(step_s)
        return (self.now_ns - start) / SECOND_NS

    def suspend(self, seconds: float) -> None:
        """The host sleeps: time passes, nothing runs."""
        start = self.now_ns
        self.now_ns += int(seconds * SECOND_NS)
        self.asleep.append((start, self.now_ns))

    def _tick_forever(self, life: int) -> None:
        if life == self.life:
            self.tick()
            self.later(self.tick_s, lambda: self._tick_forever(life))

    def _patrol_forever(self, life: int) -> None:
        if life == self.life:
            if self.state.engine.ok:
                self.relist()
            self.later(10.0, lambda: self._patrol_forever(life))

    def _nudge(self) -> None:
        if not self._nudged:
            self._nudged = True
            self.later(0.0, self._nudged_tick)

    def _nudged_tick(self) -> None:
        self._nudged = False
        self.tick()

    def tick(self) -> None:
        if self.gone:
            return
        self.handle(ev.Ticked(self.routes.lanes_seen()))

    # --- events and effects

    def handle(self, event: ev.Happening) -> list[fx.Effect]:
        if self.gone:
            return []
        self.state, effects = step(self.state, event, self.now_ns)
        self.effects.extend(effects)
        for effect in effects:
            self._perform(effect)
        self._check()
        return effects

    def _perform(self, effect: fx.Effect) -> None:
        match effect:
            case fx.Persist(writes):
                self.writes.extend(writes)
                self.ledger.apply(writes)
                if self.mirror is not None:
                    self.mirror(writes)
            case fx.ApplyRoute(view):
                self.routes.apply(view)
            case fx.DropRoute(slug):
                self.routes.drop(slug)
            case fx.TrustWorker(slug, worker_id):
                self.routes.trust(slug, worker_id)
            case fx.StartWorker(spec):
                life = self.life
                self.later(self.start_delay_s, lambda: self._start(spec, life))
            case fx.StopWorker(worker_id):
                self.later(0.1, lambda: self._stop(worker_id))
            case fx.AnswerCommand(command_id, outcome):
                self.answers[command_id] = outcome
            case fx.WatchHealth(worker_id):
                self.watched.add(worker_id)
                self.later(self.cold_start_s, lambda: self._probe(worker_id))
            case fx.RemoveWorker(worker_id):
                self.evidence.pop(worker_id, None)
            case fx.Leave():
                self.left = True
            case _:
                pass  # keys have no counterpart in this world

    def _start(self, spec: WorkerSpec, life: int) -> None:
        if life != self.life:
            return  # the call was never made
        if self.refuse is not None:
            code, message, fatal = self.refuse
            self.handle(ev.LaunchRefused(spec.worker_id, code, message, fatal, code == "engine_missing"))
            return
        seen = Observed(
            spec.worker_id, f"ref-{spec.worker_id}", spec.endpoint, spec.interval_id, "127.0.0.1", 9_000,
            self.now_ns + self.skew_ns, self.now_ns + self.skew_ns, None,
        )  # fmt: skip
        self.running[spec.worker_id] = seen
        self.lives[spec.worker_id] = [self.now_ns, None]
        self.handle(ev.WorkerLaunched(spec.worker_id, seen))
        if self.dies_after_start:
            self.later(0.5, lambda: self.kill(spec.worker_id, code=1))

    def _stop(self, worker_id: str) -> None:
        self._end(worker_id, ExitCause.CLEAN, 0, ())

    def _end(self, worker_id: str, cause: ExitCause, code: int, log: tuple[str, ...]) -> None:
        seen = self.running.pop(worker_id, None)
        if seen is None:
            return
        self.lives.setdefault(worker_id, [None, None])[1] = self.now_ns
        exit_ = Exit(cause, code, self.now_ns + self.skew_ns, f"exit code {code}", log)
        self.evidence[worker_id] = replace(seen, exit=exit_)
        if not self.silent:
            self.handle(ev.WorkerExited(worker_id, exit_))

    def vanish(self, worker_id: str) -> None:
        """Somebody removes the worker, and its evidence with it."""
        del self.running[worker_id]
        self.lives[worker_id][1] = self.now_ns

    def _probe(self, worker_id: str) -> None:
        if self.healthy and worker_id in self.running:
            self.handle(ev.WorkerHealthy(worker_id))

    def kill(self, worker_id: str, *, code: int = 137) -> None:
        """The worker ends by itself."""
        self._end(worker_id, ExitCause.ERROR, code, ("loading", "boom"))

    def lose_host(self) -> None:
        """The host goes down: workers end now, Docker writes 255 and the time of its own return."""
        for worker_id, seen in list(self.running.items()):
            self.lives[worker_id][1] = self.now_ns
            lie = Exit(ExitCause.ERROR, 255, None, "exit code 255")
            self.evidence[worker_id] = replace(seen, exit=lie)
        self.running.clear()

    def crash(self, *, away_s: float = 0.0, engine_answers: bool = True, boot: str | None = None) -> None:
        """SIGKILL, `away_s` seconds in which workers run on, restart: requests are gone, the ledger remembers."""
        start = self.now_ns
        idle_s = {slug: e.spec.idle_timeout_s for slug, e in self.state.endpoints.items()}
        self.life += 1
        self.gone = True
        self.advance(away_s)
        self.gone = False
        self.away.append((start, self.now_ns, idle_s))
        self.table = RoutingTable()
        self.routes = Routes(self.table, self._nudge)
        self._nudged = False
        rules = self.state.rules if boot is None else replace(self.state.rules, boot_id=boot)
        self.state = State(rules=rules)
        saved = self.ledger.saved(self.now_ns)
        if earliest_ns(saved) == 0 and self.skew_ns > 0:
            # Nothing runs: the wall clock is right again (clock.continued_now). Never back, for the onlooker's sake.
            self.now_ns, self.skew_ns = self.now_ns + self.skew_ns, 0
        observed = (*self.running.values(), *self.evidence.values()) if engine_answers else None
        self.handle(ev.Booted(saved, observed, ENGINE, self._gpus))
        self._tick_forever(self.life)
        self.later(10.0, lambda life=self.life: self._patrol_forever(life))

    def relist(self) -> None:
        """The patrol's list: the whole truth of the engine."""
        self.handle(ev.Relisted((*self.running.values(), *self.evidence.values()), self.now_ns))

    def _check(self) -> None:
        """Invariants of every instant (features.md R12; reliability.md I4)."""
        for slug in self.state.endpoints:
            workers = [w for w in self.state.workers.values() if w.endpoint == slug]
            surge = sum(1 for w in workers if w.surge)
            self.most_workers[slug] = max(self.most_workers.get(slug, 0), len(workers) - surge)
            assert surge <= 1
        gpus_held = [w.gpu.uuid for w in self.state.workers.values()]
        assert len(gpus_held) == len(set(gpus_held)), "two workers on one GPU"
        holders = [w.interval_id for w in self.state.workers.values() if w.interval_id is not None]
        assert sorted(holders) == sorted(self.state.intervals), "an open interval without a worker, or two"

    # --- what a user does

    def command(self, command: Command) -> Outcome:
        digest = hashlib.sha256(command.model_dump_json(exclude={"id"}).encode()).digest()
        mint = ev.Mint("abcd1234", b"d" * 32) if command.kind == "create_key" else None
        self.handle(ev.CommandReceived(command, digest, mint))
        self._nudge()
        return self.answers[command.id]

    def id(self) -> str:
        return f"command-{next(self._ids)}"

    def create(self, slug: str = "echo", setup: str = "1-2", **fields: object) -> EndpointSpec:
        baseline, maximum = (int(part) for part in setup.split("-"))
        spec = EndpointSpec.model_validate(
            {"slug": slug, "model": "echo", "gpu_type": "L40", "baseline": baseline, "maximum": maximum,
             "concurrency": 1, **fields}
        )  # fmt: skip
        outcome = self.command(CreateEndpoint(id=self.id(), spec=spec))
        assert isinstance(outcome, Accepted), outcome
        return spec

    def refused(self, command: Command) -> Refused:
        outcome = self.command(command)
        assert isinstance(outcome, Refused), outcome
        return outcome

    def top_up(self, amount_u: int) -> None:
        assert isinstance(self.command(TopUp(id=self.id(), account="local", amount_u=amount_u)), Accepted)

    def request(self, slug: str = "echo", service_s: float = 1.0) -> Caller:
        caller = Caller(self, slug, service_s)
        lane = self.table.routes[slug].lane
        if lane.closed is not None:
            caller.refused(lane.closed)
            return caller
        slot = lane.claim()
        if slot is not None:
            caller.granted(slot)
        elif not lane.enqueue(caller):
            caller.outcome = "queue_full"
        return caller

    def workers(self, slug: str = "echo", *states: WorkerState) -> list[Worker]:
        found = [w for w in self.state.workers.values() if w.endpoint == slug and (not states or w.state in states)]
        return sorted(found, key=lambda w: w.ordinal)

    def ready(self, slug: str = "echo") -> int:
        return len(self.workers(slug, WorkerState.READY))

    def snapshot(self) -> Snapshot:
        around = Surroundings(1, 1, "0", "/home", "http://127.0.0.1:1", self.routes.lanes_seen(), {}, {})
        return observe(self.state, around, self.now_ns)

    def written(self, kind: type) -> list[object]:
        return [w for w in self.writes if isinstance(w, kind)]

    def notes(self) -> Iterable[str]:
        return [event.text for event in self.state.events]
