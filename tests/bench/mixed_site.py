"""The whole data plane in virtual time: the real gateway with its asynchronous calls, before workers that the real core
starts, stops, replaces and bills (the simulator's deck), on a network in memory (tests/gateway/virtual_loop.py).

Nothing of the orchestrator is replaced but its edges: sockets, the event loop's clock, the engine and the disk of the
ledger. The queue of asynchronous calls is the real file, written at once instead of by a thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from random import Random
from typing import TypeVar

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.command import (
    Accepted,
    Command,
    CreateEndpoint,
    DeleteEndpoint,
    EnableEndpoint,
    UpdateEndpoint,
)
from orchestrator.contract.endpoint import EndpointChanges, EndpointSpec
from orchestrator.contract.snapshot import WorkerState
from orchestrator.core import effects as fx
from orchestrator.core import events as ev
from orchestrator.core.observe import live_balances_u
from orchestrator.core.routing import KeyGrant
from orchestrator.deferred.courier import Courier
from orchestrator.deferred.desk import DeferredDesk
from orchestrator.deferred.rules import Bounds
from orchestrator.deferred.store import DeferredStore, _Job
from orchestrator.deferred.webhook import read_allowance
from orchestrator.gateway.limits import Limits
from orchestrator.gateway.server import Gateway
from orchestrator.simulator.deck import START_NS, Deck
from orchestrator.simulator.fate import FairWeather
from orchestrator.simulator.host import gpu_views
from orchestrator.simulator.inspection import inspect, inspect_books
from orchestrator.simulator.memory_ledger import MemoryLedger
from orchestrator.simulator.timeline import Action
from tests.bench.faults import rules
from tests.bench.soak import Prover
from tests.gateway.rig import KEY
from tests.gateway.upstreams import Seen
from tests.gateway.virtual_loop import VirtualLoop

T = TypeVar("T")
SLUG = "sketch"
CREDIT_U = 10**12
TICK_S = 0.25
"""As the live controller ticks."""
PROBE_S = 0.1
COLD_S = (2.0, 8.0)
GPUS = "L40:7"
"""Six workers at most, and one that an update may start before another one goes."""
EVENTS = 8
EVENT_S = 0.05
CALM_S = 10.0
"""Longer than anything that was begun takes to end."""


class Worker(Prover):
    """A worker of the site: proves its answers, and may stop to answer at all."""

    hangs = False

    async def respond(self, seen: Seen, answer: bytes, writer: asyncio.StreamWriter) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if seen.target.startswith("/events"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            for n in range(EVENTS):
                event = b"data: %d %b\n\n" % (n, answer)
                writer.write(b"%x\r\n%b\r\n" % (len(event), event))
                await asyncio.sleep(EVENT_S)
            writer.write(b"0\r\n\r\n")
        elif seen.method == "HEAD":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 64\r\nx-proof: %b\r\n\r\n" % answer)
        else:
            await super().respond(seen, answer, writer)


class PromptStore(DeferredStore):
    """Does each job at once and in its caller's thread: a thread's work would take no virtual time at all."""

    def _submit(self, run: Callable[..., T]) -> Future[T]:
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        self._work([_Job(run, future)])
        return future


class Site(Deck):
    """The deck on the loop's time. Its workers listen on the loop's network, and its table is the gateway's."""

    def __init__(self, loop: VirtualLoop, seed: int) -> None:
        self.loop = loop
        self.chance = Random(f"site {seed}")
        self.workers: dict[str, Worker] = {}
        self.died_s = float("-inf")
        """When a worker last ended with whatever it had in hand."""
        self.deaths = self.hangs = self.rolls = self.changes = 0
        self._starting: set[asyncio.Task[object]] = set()
        self._probed: set[str] = set()
        self._armed: tuple[int, asyncio.TimerHandle] | None = None
        self._commands = 0
        weather = FairWeather(lambda _at_ns: self.chance.uniform(*COLD_S))
        ledger = MemoryLedger(balances_u={"local": CREDIT_U})
        super().__init__(gpu_views(GPUS), rules(), weather, ledger=ledger, tick_s=TICK_S)
        self.host.ended = self._worker_ended
        self.table.keys[hashlib.sha256(KEY.encode()).digest()] = KeyGrant("k1", "local")
        self.table.ready = True

    # --- the deck's time is the loop's

    @property
    def now_ns(self) -> int:
        return START_NS + round(self.loop.time() * SECOND_NS)

    @now_ns.setter
    def now_ns(self, value: int) -> None:
        """Time passes by itself."""

    def at(self, at_ns: int, action: Action) -> None:
        super().at(at_ns, action)
        self._arm()

    def _arm(self) -> None:
        due_ns = self._heap[0][0]
        if self._armed is not None:
            if self._armed[0] <= due_ns:
                return
            self._armed[1].cancel()
        self._armed = due_ns, self.loop.call_at((due_ns - START_NS) / SECOND_NS, self._act_due)

    def _act_due(self) -> None:
        self._armed = None
        now_ns = self.now_ns
        while self._heap and self._heap[0][0] <= now_ns:
            self.act()
        if self._heap:
            self._arm()

    # --- workers that listen

    def stepped(self, event: ev.Happening, effects: list[fx.Effect]) -> None:
        inspect(self.state)
        if isinstance(event, ev.WorkerLaunched):
            worker = self.workers[event.worker_id] = Worker(event.worker_id)
            task = self.loop.create_task(worker.start(event.observed.port))
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    def _worker_ended(self, worker_id: str) -> None:
        worker = self.workers.pop(worker_id, None)
        if worker is not None:
            if worker.hangs:
                self.died_s = self.loop.time()
            worker.kill()

    def tick(self) -> None:
        super().tick()
        self.table.balances_u.update(live_balances_u(self.state, self.now_ns))
        for worker_id in sorted(self.routes.suspects() - self._probed):
            self._probed.add(worker_id)
            self.later(PROBE_S, partial(self._probe, worker_id))

    def _probe(self, worker_id: str) -> None:
        """The gateway could not reach the worker: see for oneself."""
        self._probed.discard(worker_id)
        if worker_id in self.host.running:
            self.handle(ev.WorkerHealthy(worker_id))

    # --- what its owner does, and what befalls it

    def order(self, command: Command) -> None:
        outcome = self.command(command)
        assert isinstance(outcome, Accepted), outcome

    def new_id(self) -> str:
        self._commands += 1
        return f"site-{self._commands:06}"

    def ready(self) -> list[str]:
        return [w.id for w in self.state.workers.values() if w.state is WorkerState.READY]

    async def create(self) -> None:
        spec = EndpointSpec(
            slug=SLUG, model="echo", gpu_type="L40", baseline=2, maximum=6, concurrency=1, queue_limit=200,
            queue_timeout_s=10,
        )  # fmt: skip
        self.order(CreateEndpoint(id=self.new_id(), spec=spec))
        while len(self.ready()) < spec.baseline:
            await asyncio.sleep(TICK_S)

    async def be_troubled(self, every_s: float) -> None:
        """For ever: workers die or hang, the setup changes, updates roll; one of them after `every_s` on average."""
        while True:
            await asyncio.sleep(self.chance.expovariate(1 / every_s))
            what = self.chance.random()
            ready = self.ready()
            if what < 0.5 and ready:
                self.deaths += 1
                self.died_s = self.loop.time()
                self.host.kill(self.chance.choice(ready))
            elif what < 0.6 and ready:
                self.hangs += 1
                worker_id = self.chance.choice(ready)
                self.workers[worker_id].hangs = True
                self.host.hang(worker_id)
            elif what < 0.8:
                self.changes += 1
                changes = EndpointChanges(baseline=self.chance.randint(0, 3), maximum=self.chance.randint(4, 6))
                self.order(UpdateEndpoint(id=self.new_id(), slug=SLUG, changes=changes))
            else:
                self.rolls += 1
                changes = EndpointChanges(env={"ROUND": str(self.rolls)})
                self.order(UpdateEndpoint(id=self.new_id(), slug=SLUG, changes=changes))

    async def be_looked_after(self) -> None:
        """For ever: its owner enables it again after a crash loop."""
        while True:
            await asyncio.sleep(5)
            if self.state.endpoints[SLUG].wanted == "failed":
                self.order(EnableEndpoint(id=self.new_id(), slug=SLUG))

    async def close_down(self) -> None:
        """Delete the endpoint and wait until its last worker is gone and everything is on the ledger."""
        self.order(DeleteEndpoint(id=self.new_id(), slug=SLUG))
        while self.state.workers or self.state.intervals or not self.caught_up:
            await asyncio.sleep(TICK_S)
        inspect_books(self.state, self.ledger)

    @property
    def billed_u(self) -> int:
        return CREDIT_U - self.ledger.balances_u["local"]


class Premises:
    """The site and the gateway before it."""

    def __init__(self, loop: VirtualLoop, seed: int, directory: Path) -> None:
        self.site = Site(loop, seed)
        now = partial(getattr, self.site, "now_ns")
        self.limits = Limits(spool_directory=str(directory))
        self.gateway = Gateway(self.site.table, now, self.limits)
        self.store = PromptStore(directory / "deferred.db", now)
        allowance = read_allowance([])
        courier = Courier(self.store, now, directory / "webhook.key", allowance)
        self.desk = DeferredDesk(self.store, self.gateway.hub, courier, Bounds(), allowance)

    async def open(self) -> None:
        await self.gateway.start("127.0.0.1", 0)
        await self.desk.start()
        await self.site.create()
        self._owner = self.site.loop.create_task(self.site.be_looked_after())
        self.lane = self.site.table.routes[SLUG].lane

    async def close(self) -> None:
        self._owner.cancel()
        await self.site.close_down()
        await self.desk.close()
        await self.gateway.close()
        self.store.close()

    def held(self) -> dict[str, int]:
        """What must all be 0 when nobody calls."""
        hub, lane = self.gateway.hub, self.lane
        return {
            "requests in flight": lane.running,
            "queued requests": lane.queued,
            "queued bytes": lane.queued_bytes,
            "client connections": len(hub.clients),
            "connections to workers": self.gateway.worker_connections,
            "attempts to connect": len(hub.tasks),
            "counted peers": len(hub.census._peers),
            "spooled bytes": self.limits.spool_bytes - hub.disk.left,
            "asynchronous calls": self.desk.runner.busy + self.desk.runner.queued(SLUG),
            "ends of connections": len(self.site.loop.open),
        }


def scratch() -> tempfile.TemporaryDirectory[str]:
    """In memory where that can be: the queue's file is forced to the disk at every commit."""
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(prefix="gpudeck-mixed-", dir=memory if memory.is_dir() else None)
