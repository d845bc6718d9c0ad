"""One owner, one loop: events in, `core.step`, effects out."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any

from orchestrator.clock import Now
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.command import Accepted, Command, CreateKey, Outcome, RefusalCode, Refused
from orchestrator.contract.snapshot import Snapshot, TrafficView
from orchestrator.contract.steps import Steps
from orchestrator.controller.crew import Crew
from orchestrator.controller.journal import Journal
from orchestrator.controller.routes import Routes
from orchestrator.controller.upkeep import Upkeep
from orchestrator.core import effects as fx
from orchestrator.core import events as ev
from orchestrator.core.decisions import Decided
from orchestrator.core.observe import Surroundings, live_balances_u, observe, observing
from orchestrator.core.queues import QueueDepths
from orchestrator.core.reconcile import earliest_wake_ns
from orchestrator.core.routing import RoutingTable
from orchestrator.core.state import State
from orchestrator.core.step import step
from orchestrator.core.traffic import Glances
from orchestrator.core.workload import Observed
from orchestrator.crash import point
from orchestrator.engine.ports import EngineError, WorkerEngine
from orchestrator.ledger.metrics import MetricsStore
from orchestrator.ledger.ports import CreditChanged, Ledger, LedgerError

log = logging.getLogger(__name__)

TICK_S = 0.25
NUDGE_PERIOD_S = 0.02
KEYS_USED_PERIOD_NS = 5 * SECOND_NS
KEY_PREFIX = "gd"


class Controller:
    """Owns the state. `handle` is synchronous: nothing interleaves with a step and the routing effects of it."""

    def __init__(
        self,
        state: State,
        *,
        engine: WorkerEngine,
        ledger: Ledger,
        table: RoutingTable,
        now: Now,
        facts: Surroundings,
        metrics: MetricsStore | None = None,
        post: Callable[[fx.SendMail], None] | None = None,
        decided: Callable[[Decided], None] = lambda entry: None,
        drop_gpus: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """`post` hands a mail to whoever delivers it; without one, the rules say that there are none. `decided` is told
        of every scaling decision, for whoever counts them. `drop_gpus` keeps the readings of GPUs away for so many
        seconds."""
        self.state = state
        self.left = asyncio.Event()
        """Set when the core says that the orchestrator may exit."""
        self.engine = engine
        self._facts = facts
        self._now = now
        self._table = table
        self._routes = Routes(table, self._nudge)
        self._crew = Crew(engine, self.emit, now)
        self._journal = Journal(ledger, lambda problem: self.emit(ev.LedgerChecked(problem)))
        self._upkeep = (
            None
            if metrics is None
            else Upkeep(metrics, ledger, now(), lambda problem: self.emit(ev.LedgerChecked(problem)))
        )
        self._post = post
        self._decided = decided
        self._drop_gpus = drop_gpus
        self._events: deque[ev.Happening] = deque()
        self._nudged = False
        self._wake: asyncio.TimerHandle | None = None
        self._answers: dict[str, asyncio.Future[Outcome]] = {}
        self._replies: set[asyncio.Task[None]] = set()
        self._secrets: dict[str, str] = {}
        self._seq = 0
        self._depths = QueueDepths()
        self._glances = Glances()
        self._keys_taken_ns = 0
        self._ticked_ns = 0
        self._nothing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._nothing.set_result(None)

    @property
    def table(self) -> RoutingTable:
        """What the data plane goes by."""
        return self._table

    async def boot(self, event: ev.Booted) -> None:
        """Restore what the ledger and the engine remember, then watch the engine."""
        self._journal.start()
        for observed in event.observed or ():
            self._crew.know(observed)
        self.handle(event)
        await self._crew.open()

    async def run(self) -> None:
        """Tick until the core lets go."""
        self._table.ready = True
        while not self.left.is_set():
            self.tick()
            try:
                async with asyncio.timeout(TICK_S):
                    await self.left.wait()
            except TimeoutError:
                continue  # the next tick is due

    async def close(self) -> None:
        """Stop watching and write what is left. Workers go on."""
        self._table.ready = False
        if self._wake is not None:
            self._wake.cancel()
        await self._crew.close()
        if self._replies:
            await asyncio.wait(self._replies, timeout=5.0)
        if self._upkeep is not None:
            await self._upkeep.close()
        await self._journal.close()

    def emit(self, event: ev.Happening) -> None:
        """Hand in an event, from the event loop; it is handled in this turn or the next one."""
        self._events.append(event)
        if len(self._events) == 1:
            asyncio.get_running_loop().call_soon(self._drain)

    def handle(self, event: ev.Happening) -> None:
        """Apply one event and perform its effects in order."""
        self.state, effects = step(self.state, event, self._now())
        after = self._nothing
        for effect in effects:
            if isinstance(effect, fx.Persist):
                after = self._persist(effect)
            else:
                self._perform(effect, after)

    def tick(self) -> None:
        """Read the traffic and decide, in one turn of the loop: a stale read can gate nothing."""
        now_ns = self._now()
        keys_used: tuple[tuple[str, int], ...] = ()
        if now_ns - self._keys_taken_ns >= KEYS_USED_PERIOD_NS:
            self._keys_taken_ns = now_ns
            keys_used = self._routes.take_keys_used()
        self._ticked_ns = now_ns
        self._crew.suspect(self._routes.suspects())
        lanes = self._routes.take_lanes(now_ns)
        self.handle(ev.Ticked(lanes, keys_used))
        self._wake_in_time(now_ns)
        if self._upkeep is not None:
            self._upkeep.tick(now_ns, self._table, lanes, self.state)
        self._depths.sample(now_ns, self._table.routes)
        self._table.balances_u.update(live_balances_u(self.state, now_ns))

    async def submit(self, command: Command) -> Outcome:
        """Run a command; returns when its effect is on disk. The caller may repeat it with the same id."""
        waiting = self._answers.get(command.id)
        if waiting is not None:
            return await asyncio.shield(waiting)
        mint = self._mint(command.id) if isinstance(command, CreateKey) else None
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._answers[command.id] = answer
        try:
            self.handle(ev.CommandReceived(command, mint))
            self._nudge()
            return await asyncio.shield(answer)
        finally:
            self._answers.pop(command.id, None)
            self._secrets.pop(command.id, None)

    async def journalled(self) -> None:
        """Returns when every decision so far is in the decision journal, or cannot be written there."""
        if self._upkeep is not None:
            await self._upkeep.written()

    def snapshot(self) -> Snapshot:
        """The visible state now."""
        now_ns = self._now()
        traffic = {slug: route.meter.view(now_ns) for slug, route in self._table.routes.items()}
        return observe(self.state, self._around(traffic), now_ns)

    def observing(self) -> Steps[Snapshot]:
        """The visible state as it is at the first step, its traffic as of this second."""
        now_ns, state, routes = self._now(), self.state, dict(self._table.routes)
        traffic: dict[str, TrafficView] = {}
        around = self._around(traffic)
        self._glances.forget(routes)
        for slug, route in routes.items():
            traffic[slug] = self._glances.view(slug, route.meter, now_ns)
            yield
        return (yield from observing(state, around, now_ns))

    def _around(self, traffic: Mapping[str, TrafficView]) -> Surroundings:
        self._seq += 1
        return replace(
            self._facts,
            seq=self._seq,
            lanes=self._routes.lanes_seen(),
            traffic=traffic,
            queued_series=self._depths.series(),
        )

    def _mint(self, command_id: str) -> ev.Mint:
        """256 bits of secret; the core and the ledger see only the SHA-256 of the whole key."""
        key_id = secrets.token_hex(4)
        key = f"{KEY_PREFIX}_{key_id}_{secrets.token_urlsafe(32)}"
        self._secrets[command_id] = key
        return ev.Mint(key_id, hashlib.sha256(key.encode()).digest())

    def _persist(self, effect: fx.Persist) -> asyncio.Future[None]:
        done = self._journal.submit(effect.writes, effect.command_id)
        if effect.command_id is not None:
            done.add_done_callback(lambda future: self._settled(effect.command_id or "", future))
        else:
            done.add_done_callback(_retrieve)
        return done

    def _settled(self, command_id: str, future: asyncio.Future[None]) -> None:
        error = None if future.cancelled() else future.exception()
        if error is None:
            return
        self.handle(ev.CommandUndone(command_id, str(error)))
        code = RefusalCode.CREDIT if isinstance(error, CreditChanged) else RefusalCode.LEDGER
        text = f"nothing was changed: {error}"
        self._answer(command_id, Refused(id=command_id, code=code, message=text))

    def _perform(self, effect: fx.Effect, after: asyncio.Future[None]) -> None:  # noqa: C901 - one line a case
        match effect:
            case fx.ApplyRoute(view):
                self._routes.apply(view)
            case fx.DropRoute(slug):
                self._routes.drop(slug)
            case fx.TrustWorker(slug, worker_id):
                self._routes.trust(slug, worker_id)
            case fx.GrantKey():
                self._routes.grant(effect)
            case fx.WithdrawKey(key_id):
                self._routes.withdraw(key_id)
            case fx.StartWorker():
                self._crew.start(effect, after)
            case fx.StopWorker():
                # Not after the transaction: a full disk must not keep workers running that nobody wants any more.
                self._crew.stop(effect, self._nothing)
            case fx.RemoveWorker():
                self._crew.remove(effect, after)
            case fx.WatchHealth():
                self._crew.watch(effect)
            case fx.BreakWorker():
                self._crew.rehearsal.begin(effect, after)
            case fx.DropGpus(seconds):
                self._drop_gpus(seconds)
            case fx.AnswerCommand():
                self._later(self._answer_after(effect, after))
            case fx.SendMail():
                self._later(self._post_after(effect, after))
            case fx.JournalDecision(entry):
                self._decided(entry)
                if self._upkeep is not None:
                    self._upkeep.decided(entry)
            case fx.Leave():
                self._later(self._leave())
            case fx.Persist():
                raise AssertionError("handled by the caller")

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._replies.add(task)
        task.add_done_callback(self._replies.discard)

    async def _answer_after(self, effect: fx.AnswerCommand, after: asyncio.Future[None]) -> None:
        try:
            await after
        except LedgerError:
            return  # `_settled` has answered
        outcome = effect.outcome
        secret = self._secrets.get(effect.command_id)
        if secret is not None and isinstance(outcome, Accepted):
            outcome = outcome.model_copy(update={"secret": secret})
        self._answer(effect.command_id, outcome)

    async def _post_after(self, effect: fx.SendMail, after: asyncio.Future[None]) -> None:
        try:
            await after
        except LedgerError:
            return  # the command that asked for it was refused
        if self._post is not None:
            self._post(effect)

    async def _leave(self) -> None:
        """Not after the transaction either: `close` gives the journal its last chance, for a bounded time."""
        await asyncio.sleep(0)  # answers of the same step go out first
        self.left.set()

    def _answer(self, command_id: str, outcome: Outcome) -> None:
        waiting = self._answers.get(command_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(outcome)

    def _drain(self) -> None:
        while self._events:
            self.handle(self._events.popleft())
        self._nudge()  # what happened may call for a decision; decisions need a fresh reading

    def _nudge(self) -> None:
        """Ask for a tick soon: many nudges make one tick, and busy traffic at most one each NUDGE_PERIOD_S."""
        if not self._nudged:
            self._nudged = True
            since_s = (self._now() - self._ticked_ns) / SECOND_NS
            asyncio.get_running_loop().call_later(max(0.0, NUDGE_PERIOD_S - since_s), self._nudged_tick)

    def _nudged_tick(self) -> None:
        self._nudged = False
        if not self.left.is_set():
            self.tick()

    def _wake_in_time(self, now_ns: int) -> None:
        """A policy's wish, or the end of an idle worker's time, that falls between two ticks gets a tick of its own."""
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        wake_ns = earliest_wake_ns(self.state.endpoints.values())
        if wake_ns is not None and wake_ns < now_ns + TICK_S * SECOND_NS:
            delay_s = max(NUDGE_PERIOD_S, (wake_ns - now_ns) / SECOND_NS)
            self._wake = asyncio.get_running_loop().call_later(delay_s, self._nudge)


def _retrieve(future: asyncio.Future[None]) -> None:
    """A batch that is no command's never fails (the journal keeps it); at shutdown it may be cancelled."""
    if not future.cancelled():
        future.exception()


async def list_observed(engine: WorkerEngine) -> tuple[Observed, ...] | None:
    """The engine's workers at boot; None when it does not answer, so that nothing is concluded from silence."""
    try:
        point("engine.list.before")
        observed = tuple(await engine.list_workers())
        point("engine.list.after")
    except EngineError as error:
        log.warning("the engine does not answer at start: %s", error.message)
        return None
    return observed
