"""The owner of a lab: a deck whose virtual time follows real time at a chosen speed.

Everything in it goes by the deck's clock, so nothing has to be scaled: time-outs, ticks, postings and warnings come
when their virtual instant does. On a machine too slow for the speed virtual time falls behind, and loses nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import replace
from typing import Final

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.command import Accepted, Command, CreateKey, Outcome, RefusalCode, Refused, Shutdown
from orchestrator.contract.deferred import CancelRequest, RotateWebhookSecret
from orchestrator.contract.faults import SLOW_START_S, FaultKind
from orchestrator.contract.lab import MARK, LabView, SetSpeed
from orchestrator.contract.snapshot import GpuView, Snapshot
from orchestrator.contract.steps import Steps
from orchestrator.controller.upkeep import Upkeep
from orchestrator.core import effects as fx
from orchestrator.core import events as ev
from orchestrator.core.observe import Surroundings
from orchestrator.core.queues import QueueDepths
from orchestrator.core.routing import RoutingTable
from orchestrator.core.state import Rules, State
from orchestrator.core.workload import ExitCause, WorkerSpec
from orchestrator.core.writes import CreditAdded, Write
from orchestrator.lab.traffic import Callers
from orchestrator.simulator.deck import Deck
from orchestrator.simulator.fate import FairWeather, Start
from orchestrator.simulator.host import KILLED, UNHEALTHY_AFTER_S
from orchestrator.simulator.setup import ColdStarts

log = logging.getLogger(__name__)

FRAME_S: Final = 0.05
LONGEST_FRAME_S: Final = 0.25
"""Real time that one frame may make up for, after the process was held up."""
WORK_S: Final = 0.04
"""Real time that the deck may take of a frame, so that the socket is answered."""
TICK_S: Final = 1.0
"""The dashboard's lanes have one sample a second."""
UNWRITTEN_MAX: Final = 400
"""Transactions on their way to the disk; with more of them virtual time waits."""
ABANDONED_S: Final = 120.0
"""A front end asks four times a second. One that was killed leaves a lab that is of no use to anybody."""
DRAIN_S: Final = 700.0
ABSENT: Final = (CreateKey, CancelRequest, RotateWebhookSecret)


class LabWeather(FairWeather):
    """Fair, but for starts that were made late on purpose."""

    def __init__(self, cold: Callable[[int], float]) -> None:
        super().__init__(cold)
        self.late: set[str] = set()
        """Endpoints whose next start is to be late."""

    def start(self, spec: WorkerSpec, at_ns: int) -> Start:
        how = super().start(spec, at_ns)
        if spec.endpoint not in self.late:
            return how
        self.late.discard(spec.endpoint)
        return replace(how, cold_s=how.cold_s + SLOW_START_S)


class LabDeck(Deck):
    """A deck in fair weather, with a history like that of a live orchestrator."""

    def __init__(
        self, gpus: Iterable[GpuView], rules: Rules, cold: ColdStarts, write: Callable[[tuple[Write, ...]], object]
    ) -> None:
        self.upkeep: Upkeep | None = None
        self.weather = LabWeather(lambda at_ns: cold.duration_ns(at_ns) / SECOND_NS)
        super().__init__(
            tuple(gpus), rules, self.weather, tick_s=TICK_S, watchful=False,
            mirror=lambda writes: write(tuple(_marked(each) for each in writes)),
        )  # fmt: skip
        self.depths = QueueDepths()

    def stepped(self, event: ev.Happening, effects: list[fx.Effect]) -> None:
        if self.upkeep is None or not isinstance(event, ev.Ticked):
            return
        self.upkeep.tick(self.now_ns, self.table, event.lanes, self.state)
        self.depths.sample(self.now_ns, self.table.routes)

    def _perform(self, effect: fx.Effect) -> None:
        if isinstance(effect, fx.BreakWorker):
            self._break(effect)
        elif isinstance(effect, fx.DropGpus):
            stale = tuple(gpu.model_copy(update={"state": "stale"}) for gpu in self.gpus)
            self._tell_later(0.0, ev.GpusSampled(stale))
            self._tell_later(effect.seconds, ev.GpusSampled(self.gpus))
        else:
            super()._perform(effect)

    def _tell_later(self, seconds: float, event: ev.Happening) -> None:
        def tell() -> None:
            self.handle(event)

        self.later(seconds, tell)

    def _break(self, effect: fx.BreakWorker) -> None:
        """The fault happens in this instant, but after the step that asked for it."""
        host, worker_id = self.host, effect.worker_id
        match effect.fault:
            case FaultKind.HANG:
                self.later(0.0, lambda: host.hang(worker_id))
            case FaultKind.FAIL_HEALTH:
                self._tell_later(UNHEALTHY_AFTER_S, ev.WorkerUnhealthy(worker_id, 3))
            case FaultKind.FILL_MEMORY:
                self.later(0.0, lambda: host.end(worker_id, ExitCause.OOM, KILLED, ("out of memory",)))
            case FaultKind.SLOW_START:
                self.weather.late.add(effect.endpoint)
                self.later(0.0, lambda: host.kill(worker_id))
            case _:
                self.later(0.0, lambda: host.kill(worker_id))


def _marked(write: Write) -> Write:
    """Credit that was given in a lab says so in its journal, wherever that is read."""
    return replace(write, memo=f"{MARK} {write.memo}") if isinstance(write, CreditAdded) else write


class Lab:
    """Implements controller.desk.Owner, and Teller for its workers that do not exist."""

    def __init__(
        self, deck: LabDeck, facts: Surroundings, unwritten: deque[Future[None]], *, speed: int, seed: int
    ) -> None:
        self.deck = deck
        self.speed = speed
        self.left = asyncio.Event()
        """Set when somebody has asked the lab to stop."""
        self._facts = facts
        self._unwritten = unwritten
        self._callers = Callers(deck, seed)
        self._seq = 0
        self._asked = True
        """Somebody has looked, or wanted something, since this was last set to False."""

    @property
    def state(self) -> State:
        return self.deck.state

    @property
    def engine(self) -> Lab:
        return self

    @property
    def table(self) -> RoutingTable:
        return self.deck.table

    async def run(self) -> None:
        """Let virtual time follow real time until the lab is told to stop, or nobody has looked at it for long."""
        loop = asyncio.get_running_loop()
        before_s = asked_s = loop.time()
        while not self.left.is_set():
            try:
                async with asyncio.timeout(FRAME_S):
                    await self.left.wait()
            except TimeoutError:
                now_s = loop.time()
                self.advance(min(now_s - before_s, LONGEST_FRAME_S), loop.time)
                before_s = now_s
                asked_s, self._asked = now_s if self._asked else asked_s, False
                if now_s - asked_s > ABANDONED_S:
                    log.warning("nobody has looked at the lab for %.0f s: it ends", ABANDONED_S)
                    self._stop(Shutdown(id="abandoned-lab", mode="drain"))

    def advance(self, seconds: float, stopwatch: Callable[[], float]) -> None:
        """Let `seconds` of real time pass on the deck, as far as `stopwatch` (seconds) and the disk allow."""
        deck, end_s = self.deck, stopwatch() + WORK_S
        target_ns = deck.now_ns + int(seconds * self.speed * SECOND_NS)
        while deck.next_ns is not None and deck.next_ns <= target_ns:
            if stopwatch() > end_s or self._behind():
                return
            deck.act()
            self._callers.look()
        deck.run_to(target_ns)

    def _behind(self) -> bool:
        while self._unwritten and self._unwritten[0].done():
            self._unwritten.popleft().result()  # a ledger that refuses what the deck did ends the lab
        return len(self._unwritten) > UNWRITTEN_MAX

    async def submit(self, command: Command) -> Outcome:
        self._asked = True
        match command:
            case SetSpeed(speed=speed):
                self.speed = speed
                return Accepted(id=command.id, message=f"the lab's clock runs at {speed}×")
            case Shutdown():
                return self._stop(command)
            case _ if isinstance(command, ABSENT):
                text = "a lab has no gateway: there is nobody to call it but its own traffic"
                return Refused(id=command.id, code=RefusalCode.STATE, message=text)
        outcome = self.deck.command(command)
        self._callers.look()
        return outcome

    def snapshot(self) -> Snapshot:
        """The visible state at the deck's own time."""
        deck = self.deck
        self._seq += 1
        self._asked = True
        around = replace(
            self._facts,
            seq=self._seq,
            traffic={slug: route.meter.view(deck.now_ns) for slug, route in deck.table.routes.items()},
            queued_series=deck.depths.series(),
        )
        return deck.snapshot(around).model_copy(update={"lab": LabView(speed=self.speed)})

    def observing(self) -> Steps[Snapshot]:
        """All at once: no gateway waits for it."""
        yield
        return self.snapshot()

    async def logs(self, worker_id: str, tail: int) -> list[str]:
        """There is no program whose words these could be. Raises KeyError for an unknown worker."""
        if worker_id not in self.deck.state.workers:
            raise KeyError(worker_id)
        return [f"{MARK}: {worker_id} is a worker of a lab; nothing runs that could say anything"][:tail]

    async def journalled(self) -> None:
        if self.deck.upkeep is not None:
            await self.deck.upkeep.written()

    def _stop(self, command: Shutdown) -> Outcome:
        """Drain in no time: what is left of virtual time passes at once, and every interval is closed."""
        outcome = self.deck.command(command.model_copy(update={"mode": "drain"}))
        end_ns = self.deck.now_ns + int(DRAIN_S * SECOND_NS)
        while not self.deck.left and self.deck.next_ns is not None and self.deck.next_ns <= end_ns:
            self.deck.act()
        asyncio.get_running_loop().call_soon(self.left.set)
        return outcome
