"""A whole gpudeck in virtual time: the real core, the real lanes, a host and callers made of a heap of instants.

Nothing here decides anything: events go in, `core.step` says what to do, and the effects are performed as
controller/loop.py performs them. So what a simulation shows is what the orchestrator does.

Ticks come as in the live system (`tick_s`), or, with None, only when something has happened or is due (due.py). In
between a live orchestrator would have looked and found nothing: the deck notes that it was awake, so that the core does
not take a quiet stretch for a sleep of the host.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.command import Command, Outcome, RefusalCode, Refused
from orchestrator.contract.snapshot import EngineKind, EngineView, GpuView, Snapshot
from orchestrator.controller.routes import Routes
from orchestrator.core import effects as fx
from orchestrator.core import events as ev
from orchestrator.core.lane import Slot
from orchestrator.core.observe import Surroundings, observe
from orchestrator.core.reconcile import earliest_wake_ns
from orchestrator.core.recovery import earliest_ns
from orchestrator.core.routing import RoutingTable
from orchestrator.core.state import Rules, State
from orchestrator.core.step import step
from orchestrator.core.workload import Observed
from orchestrator.core.writes import IntervalClosed, Write
from orchestrator.simulator.callers import Caller
from orchestrator.simulator.due import awake, due_ns
from orchestrator.simulator.fate import Fate
from orchestrator.simulator.floor import Floor
from orchestrator.simulator.host import Host, Struck
from orchestrator.simulator.memory_ledger import MemoryLedger
from orchestrator.simulator.timeline import Timeline

START_NS: Final = 1_795_500_000 * SECOND_NS
"""Every simulation begins at the same instant, in November 2026: no calendar of the host shows in it."""
ENGINE: Final = EngineView(kind=EngineKind.VIRTUAL, ok=True, detail="virtual")
TICK_NS: Final = SECOND_NS // 4
"""How late the live controller notices what nobody tells it."""
RELIST_PERIOD_S: Final = 10.0
NOWHERE: Final = Surroundings(1, 1, "0", "/home", "http://127.0.0.1:1", {}, {}, {})


@dataclass(slots=True)
class _Batch:
    """A transaction that waits for the disk, and what must not happen before it is written."""

    writes: tuple[Write, ...]
    then: list[fx.Effect] = field(default_factory=list)


class Deck(Timeline):
    """One host and its orchestrator. A crash ends the orchestrator; the host, the ledger and the time go on."""

    def __init__(
        self,
        gpus: Sequence[GpuView],
        rules: Rules,
        fate: Fate,
        *,
        ledger: MemoryLedger | None = None,
        tick_s: float | None = None,
        watchful: bool | None = None,
        start_ns: int = START_NS,
        mirror: Callable[[tuple[Write, ...]], object] | None = None,
    ) -> None:
        """`watchful`: the engine may not tell everything, so it is listed every ten seconds and heartbeats are written
        every five, as in the live system; else both are left out, for they would change nothing. None means watchful if
        it ticks. `mirror` is given every transaction too."""
        super().__init__(start_ns)
        self.began_ns = start_ns
        self.tick_s = tick_s
        self.watchful = tick_s is not None if watchful is None else watchful
        self.gpus = tuple(gpus)
        self.host = Host(self, fate, self.handle, self._doubt)
        self.host.ended = lambda worker_id: self.floor.cut(worker_id, self.table.routes.values())
        self.ledger = ledger or MemoryLedger()
        self.mirror = mirror
        self.decided: Callable[[fx.JournalDecision], None] = lambda effect: None
        self.engine = ENGINE
        """What a probe of the engine says."""
        self.gone = False
        """The orchestrator is away: nothing reaches it."""
        self.away: list[tuple[int, int, dict[str, int]]] = []
        """Every absence, with the idle time-outs (seconds) of the endpoints at its beginning."""
        self.asleep: list[tuple[int, int]] = []
        """Every sleep of the host that the orchestrator lived through."""
        self.closed_in: dict[str, int] = {}
        """In whose life each interval was closed on disk."""
        self._silences: list[tuple[int, int | None]] = []
        self._sleeps_known = 0
        """How many of them are on disk."""
        self.disk_problem: str | None = None
        """While there is one nothing is written: what has happened waits, in order."""
        self.answers: dict[str, Outcome] = {}
        self.left = False
        self._backlog: deque[_Batch] = deque()
        self._planned_ns: int | None = None
        self.state = State(rules=rules)
        self._boot(rules, self.host.list_workers())

    # --- life

    def _boot(self, rules: Rules, observed: tuple[Observed, ...] | None) -> None:
        self.floor = Floor(self, self.host, self)
        self.table = RoutingTable(in_flight=self.floor.in_flight)
        self.routes = Routes(self.table, self.nudge)
        self._planned_ns = None
        self._backlog.clear()
        self.state = State(rules=rules)
        self.handle(ev.Booted(self.ledger.saved(self.now_ns), observed, self.engine, self.gpus))
        self._patrol_later(self.host.life)
        self.tick()

    def crash(self, *, away_s: float = 0.0, engine_answers: bool = True, boot: str | None = None) -> None:
        """SIGKILL, `away_s` seconds in which workers run on, restart: requests are gone, the ledger remembers. `boot`
        names another boot of the host."""
        start_ns = min([self.now_ns, *(since_ns for since_ns, _ in self.asleep[self._sleeps_known :])])
        del self.asleep[self._sleeps_known :]  # it died before it could write that it woke: all of that is absence
        idle_s = {slug: e.spec.idle_timeout_s for slug, e in self.state.endpoints.items()}
        rules = self.state.rules if boot is None else replace(self.state.rules, boot_id=boot)
        self.host.life += 1
        self.gone = True
        self.floor.close(self.table.routes.values())
        self.advance(away_s)
        self.gone = False
        self.away.append((start_ns, self.now_ns, idle_s))
        if earliest_ns(self.ledger.saved(self.now_ns)) == 0 and self.host.skew_ns > 0:
            # Nothing runs: the wall clock is right again (clock.continued_now). Never back, for the onlooker's sake.
            self.now_ns, self.host.skew_ns = self.now_ns + self.host.skew_ns, 0
        try:
            self._boot(rules, self.host.list_workers() if engine_answers and self.engine.ok else None)
        except Struck:
            self._strike()

    def _strike(self) -> None:
        how, boot = self.host.fate.absence(), None
        if how.host_too:
            boot = f"boot-{self.host.life + 1}"
            self.host.go_down()
        self.crash(away_s=how.away_s, engine_answers=how.engine_answers, boot=boot)

    def suspend(self, seconds: float) -> None:
        """The host sleeps: time passes, nothing runs."""
        start_ns = self.now_ns
        self.now_ns += int(seconds * SECOND_NS)
        self.asleep.append((start_ns, self.now_ns))
        if not self.state.intervals and self._sleeps_known == len(self.asleep) - 1:
            self._sleeps_known += 1  # nothing is charged: there is nothing to write

    def act(self) -> None:
        try:
            super().act()
        except Struck:
            self._strike()

    def _pass(self, point: str) -> None:
        if self.host.fate.strikes(point, self.now_ns):
            raise Struck(point)

    # --- ticks and lists

    def nudge(self) -> None:
        """Something calls for a decision: tick in this instant, once, after everything else that happens in it."""
        self._tick_by(self.now_ns)

    def tick(self) -> None:
        if self.gone:
            return
        self.handle(ev.Ticked(self.routes.take_lanes(self.now_ns)))
        self._tick_by(self._next_ns())

    def relist(self) -> None:
        """The patrol's list: the whole truth of the engine."""
        self.handle(ev.Relisted(self.host.list_workers(), self.now_ns))

    def _next_ns(self) -> int | None:
        if self.tick_s is None:
            at_ns = due_ns(self.state, beats=self.watchful)
            return None if at_ns is None else at_ns if at_ns > self.now_ns else self.now_ns + TICK_NS
        grid_ns = self.now_ns + int(self.tick_s * SECOND_NS)
        wake_ns = earliest_wake_ns(self.state.endpoints.values())
        return grid_ns if wake_ns is None or wake_ns <= self.now_ns else min(grid_ns, wake_ns)

    def _tick_by(self, at_ns: int | None) -> None:
        """Plan a tick, unless one is planned that early."""
        if at_ns is None or (self._planned_ns is not None and self._planned_ns <= at_ns):
            return
        self._planned_ns = at_ns
        life = self.host.life

        def act() -> None:
            if self._planned_ns == at_ns and life == self.host.life:
                self._planned_ns = None
                self.tick()

        self.at(at_ns, act)

    def _patrol_later(self, life: int) -> None:
        def act() -> None:
            if life == self.host.life:
                self._patrol_later(life)
                if self.state.engine.ok:
                    self.relist()

        if self.watchful:
            self.later(RELIST_PERIOD_S, act)

    def _doubt(self) -> None:
        """The engine did not answer: list at once."""
        life = self.host.life
        self.later(0.0, lambda: self.relist() if life == self.host.life else None)

    def was_unwatched(self, at_ns: int) -> bool:
        """At that instant there was no orchestrator, or the engine did not answer it."""
        silent = any(since <= at_ns and (end is None or at_ns <= end) for since, end in self._silences)
        return silent or any(begin_ns <= at_ns <= back_ns for begin_ns, back_ns, _ in self.away)

    # --- events and effects

    def handle(self, event: ev.Happening) -> list[fx.Effect]:
        """One step of the core, its effects performed in order. May raise Struck."""
        if self.gone:
            return []
        if not self.watchful:
            self.state = awake(self.state, self.now_ns)
        self.state, effects = step(self.state, event, self.now_ns)
        waiting: list[fx.Effect] | None = None
        undone: str | None = None
        for effect in effects:
            if isinstance(effect, fx.Persist):
                waiting, undone = self._persist(effect)
            elif waiting is not None and isinstance(effect, fx.StartWorker | fx.RemoveWorker | fx.AnswerCommand):
                waiting.append(effect)
            else:
                self._perform(effect)
        if undone is not None:
            self._undo(undone)
        if not isinstance(event, ev.Ticked):
            self.nudge()
        self.stepped(event, effects)
        return effects

    def stepped(self, event: ev.Happening, effects: list[fx.Effect]) -> None:
        """Called after every step, for checks."""

    def _persist(self, effect: fx.Persist) -> tuple[list[fx.Effect] | None, str | None]:
        """Write the transaction; else where its followers wait, and the command that failed with it."""
        if self.disk_problem is None and not self._backlog:
            self.commit(effect.writes)
            return None, None
        if self.state.ledger_problem is None:
            self.later(0.0, self._report_disk)
        if effect.command_id is not None:
            return [], effect.command_id
        self._backlog.append(_Batch(effect.writes))
        return self._backlog[-1].then, None

    def commit(self, writes: tuple[Write, ...]) -> None:
        """One transaction reaches the disk. May raise Struck before or after."""
        self._pass("commit.before")
        self.ledger.apply(writes)
        for write in writes:
            if isinstance(write, IntervalClosed):
                self.closed_in[write.interval_id] = self.host.life
                if write.source == "suspend":
                    self._sleeps_known = len(self.asleep)
        if self.mirror is not None:
            self.mirror(writes)
        self._pass("commit.after")

    def _report_disk(self) -> None:
        if self.disk_problem is not None:
            self.handle(ev.LedgerChecked(self.disk_problem))

    def _undo(self, command_id: str) -> None:
        reason = self.disk_problem or "the ledger has not caught up"
        self.handle(ev.CommandUndone(command_id, reason))
        self.answers[command_id] = Refused(
            id=command_id, code=RefusalCode.LEDGER, message=f"nothing was changed: {reason}"
        )

    def see_gpus(self, gpus: tuple[GpuView, ...]) -> None:
        """A sample of the GPUs; workers on a lost one end, as CUDA programs do."""
        self.gpus = gpus
        lost = {g.uuid for g in gpus if g.state == "lost"}
        for worker in list(self.state.workers.values()):
            if worker.gpu.uuid in lost:
                self.host.kill(worker.id, code=1)
        self.handle(ev.GpusSampled(gpus))

    def see_engine(self, view: EngineView) -> None:
        """A probe of the engine; one that answers again is listed at once."""
        if self.engine.ok and not view.ok:
            self._silences.append((self.now_ns, None))
        elif view.ok and not self.engine.ok:
            self._silences[-1] = (self._silences[-1][0], self.now_ns)
        self.engine = view
        self.handle(ev.EngineProbed(view))
        if view.ok:
            self._doubt()

    def free_disk(self) -> None:
        """What waited is written. What an orchestrator had waiting that is gone by now is lost."""
        self.disk_problem = None
        if self.gone:
            return
        while self._backlog:
            batch = self._backlog[0]
            self.commit(batch.writes)
            self._backlog.popleft()
            for effect in batch.then:
                self._perform(effect)
        self.handle(ev.LedgerChecked(None))

    @property
    def caught_up(self) -> bool:
        """Nothing waits for the disk."""
        return not self._backlog

    def _perform(self, effect: fx.Effect) -> None:  # noqa: C901 - one line a case
        match effect:
            case fx.ApplyRoute(view):
                self.routes.apply(view)
            case fx.DropRoute(slug):
                self.routes.drop(slug)
            case fx.TrustWorker(slug, worker_id):
                self.routes.trust(slug, worker_id)
            case fx.GrantKey():
                self.routes.grant(effect)
            case fx.WithdrawKey(key_id):
                self.routes.withdraw(key_id)
            case fx.StartWorker(spec):
                self.host.start(spec)
            case fx.StopWorker(worker_id):
                self.host.stop(worker_id)
            case fx.RemoveWorker(worker_id):
                self.host.remove(worker_id)
            case fx.WatchHealth(worker_id):
                self.host.watch(worker_id)
            case fx.AnswerCommand(command_id, outcome):
                self.answers[command_id] = outcome
            case fx.JournalDecision():
                self.decided(effect)
            case fx.Leave():
                self.left = True
            case fx.SendMail():
                pass  # nobody reads mail here
            case fx.Persist():
                raise AssertionError("handled by the caller")

    # --- traffic

    def call(self, slug: str, service_ns: int) -> Caller:
        """A request arrives now. Raises KeyError for an endpoint without a route."""
        return self.floor.call(self.table.routes[slug], service_ns)

    @property
    def present(self) -> Collection[Caller]:
        """Callers without an outcome, in order of arrival."""
        return self.floor.present

    def claimed(self, slot: Slot) -> None:
        """Called for every request that a worker takes."""

    def traffic_changed(self, *, urgent: bool) -> None:
        """Policies want to see it at once that work begins or a worker is idle; the next tick of the live controller
        would see the rest."""
        if self.tick_s is None:
            self._tick_by(self.now_ns if urgent else max(self.now_ns, self.state.ticked_ns + TICK_NS))

    # --- what a user does

    def command(self, command: Command) -> Outcome:
        """The answer to `command`. A caller whose orchestrator dies asks again, under the same id."""
        mint = ev.Mint("abcd1234", b"d" * 32) if command.kind == "create_key" else None
        self.answers.pop(command.id, None)
        while command.id not in self.answers:
            try:
                self.handle(ev.CommandReceived(command, mint))
            except Struck:
                self._strike()
        return self.answers[command.id]

    def snapshot(self, around: Surroundings = NOWHERE) -> Snapshot:
        """The visible state now."""
        return observe(self.state, replace(around, lanes=self.routes.lanes_seen()), self.now_ns)
