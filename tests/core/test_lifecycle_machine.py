"""Everything that can happen to endpoints and workers, in any order, against a dictionary ledger that checks the money.

Invariants after every step are in `World._check` and `MemoryLedger`; those that need quiet are checked at the end.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.command import (
    CreateEndpoint,
    DeleteEndpoint,
    DisableEndpoint,
    EnableEndpoint,
    TopUp,
    UpdateEndpoint,
)
from orchestrator.contract.endpoint import EndpointChanges, EndpointSpec, QueueDelay, RequestCount
from orchestrator.contract.snapshot import EngineKind, EngineView, Tier
from orchestrator.core import events as ev
from orchestrator.core.billing import POSTING_LAG_NS
from orchestrator.core.pricing import Price, PriceBook, PriceSchedule
from orchestrator.core.workload import Exit, ExitCause
from orchestrator.core.writes import AccountOpened, CreditAdded
from orchestrator.ledger.store import SqliteLedger
from orchestrator.simulator.onlooker import examine, open_and_running_agree
from tests.core.world import ENGINE, START_NS, Caller, World
from tests.ledger.memory import MEMORY

RATES = {"L40": 2_670_000, "H100": 8_900_000}
SWITCHES_S = (0, 90, 400, 3_000)
PRICES = PriceSchedule(
    (0, *(START_NS + seconds * SECOND_NS for seconds in SWITCHES_S[1:])),
    tuple(
        PriceBook(
            name=f"book-{n}",
            prices={kind: Price(baseline_uh=uh + n, autoscale_uh=5 * uh - n) for kind, uh in RATES.items()},
        )
        for n in range(len(SWITCHES_S))
    ),
)
GONE = Exit(ExitCause.ERROR, 1, START_NS, "told again")
GPUS = 4
MOSTLY = st.sampled_from([True, True, True, False])
SLUGS = st.sampled_from(["one", "two", "three"])
SETUPS = st.sampled_from([(0, 1), (0, 3), (1, 1), (1, 2), (2, 3)])
POLICIES = st.sampled_from([QueueDelay(seconds=0.5), QueueDelay(), RequestCount(value=1), RequestCount(value=4)])


class Lifecycle(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World(f"L40:{GPUS},H100:1", credit_u=2_000_000_000, prices=PRICES)
        self.callers: list[Caller] = []
        self.late_ns = 0
        """How late an end may have been noticed, or how far off its time may be."""

    @initialize(setup=SETUPS, policy=POLICIES, idle_s=st.integers(1, 30))
    def begin(self, setup: tuple[int, int], policy: Any, idle_s: int) -> None:
        """Something runs from the first step on: an empty host hides everything."""
        self.create("one", setup, policy, idle_s)
        self.call("one", 3, 5.0)
        self.world.advance(4)

    @rule(slug=SLUGS, setup=SETUPS, policy=POLICIES, idle_s=st.integers(1, 30))
    def create(self, slug: str, setup: tuple[int, int], policy: Any, idle_s: int) -> None:
        spec = EndpointSpec(
            slug=slug, model="echo", gpu_type="L40", baseline=setup[0], maximum=setup[1], policy=policy,
            idle_timeout_s=idle_s, concurrency=1, startup_deadline_s=20, execution_timeout_s=30,
        )  # fmt: skip
        self.world.command(CreateEndpoint(id=self.world.id(), spec=spec))

    @rule(slug=SLUGS, setup=SETUPS, seed=st.none() | st.integers(0, 3))
    def update(self, slug: str, setup: tuple[int, int], seed: int | None) -> None:
        env = None if seed is None else {"ECHO_SEED": str(seed)}
        changes = EndpointChanges(baseline=setup[0], maximum=setup[1], env=env)
        self.world.command(UpdateEndpoint(id=self.world.id(), slug=slug, changes=changes))

    @rule(slug=SLUGS, kind=st.sampled_from([EnableEndpoint, DisableEndpoint, DeleteEndpoint]))
    def switch(self, slug: str, kind: Any) -> None:
        self.world.command(kind(id=self.world.id(), slug=slug))

    @rule(slug=SLUGS, count=st.integers(1, 8), service_s=st.floats(0.01, 12))
    def call(self, slug: str, count: int, service_s: float) -> None:
        if slug in self.world.table.routes:
            self.callers += [self.world.request(slug, service_s) for _ in range(count)]

    @rule(seconds=st.floats(0.05, 40))
    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)

    @precondition(lambda self: self.world.running)
    @rule(data=st.data())
    def kill(self, data: Any) -> None:
        self.world.kill(data.draw(st.sampled_from(sorted(self.world.running))))

    @precondition(lambda self: self.world.running)
    @rule(data=st.data())
    def remove_behind_our_back(self, data: Any) -> None:
        self.world.vanish(data.draw(st.sampled_from(sorted(self.world.running))))
        self.world.relist()

    @precondition(lambda self: self.world.state.workers)
    @rule(data=st.data())
    def fail_health(self, data: Any) -> None:
        self.world.handle(ev.WorkerUnhealthy(data.draw(st.sampled_from(sorted(self.world.state.workers))), 3))

    @rule(healthy=MOSTLY, dies=MOSTLY.map(lambda usual: not usual), cold_s=st.floats(0.1, 30))
    def weather(self, healthy: bool, dies: bool, cold_s: float) -> None:
        self.world.healthy, self.world.dies_after_start, self.world.cold_start_s = healthy, dies, cold_s

    @rule(up=MOSTLY)
    def engine(self, up: bool) -> None:
        self.world.handle(
            ev.EngineProbed(ENGINE if up else EngineView(kind=EngineKind.VIRTUAL, ok=False, detail="gone"))
        )
        self.world.refuse = None if up else ("engine_missing", "no engine", False)

    @rule(problem=st.sampled_from([None, None, None, "disk full"]))
    def disk(self, problem: str | None) -> None:
        self.world.handle(ev.LedgerChecked(problem))

    @rule(answers=st.booleans(), away_s=st.floats(0, 90), reboot=MOSTLY.map(lambda usual: not usual))
    def crash(self, answers: bool, away_s: float, reboot: bool) -> None:
        """SIGKILL; a host that reboots takes its workers with it, and Docker lies about when."""
        boot = f"boot-{self.world.life}" if reboot else None
        if reboot:
            self.world.lose_host()
        self.world.crash(away_s=away_s, engine_answers=answers, boot=boot)
        if not answers:
            self.world.relist()

    @rule(seconds=st.floats(31, 4_000))
    def sleep(self, seconds: float) -> None:
        self.world.suspend(seconds)

    @rule(seconds=st.floats(-4_000, 4_000))
    def set_the_wall_clock(self, seconds: float) -> None:
        self.world.skew_ns += int(seconds * SECOND_NS)
        self.late_ns = max(self.late_ns, POSTING_LAG_NS)

    @rule(silent=MOSTLY.map(lambda usual: not usual))
    def lose_notifications(self, silent: bool) -> None:
        """Ends are noticed by the next list only."""
        self.world.silent = silent
        self.late_ns = max(self.late_ns, POSTING_LAG_NS)

    @precondition(lambda self: self.world.lives)
    @rule(data=st.data())
    def repeat(self, data: Any) -> None:
        """I7: what is told twice, or late, changes nothing that it should not."""
        worker_id = data.draw(st.sampled_from(sorted(self.world.lives)))
        if worker_id in self.world.running:
            self.world.handle(ev.WorkerLaunched(worker_id, self.world.running[worker_id]))
        elif worker_id not in self.world.state.workers:
            self.world.handle(ev.WorkerExited(worker_id, GONE))
            self.world.handle(ev.WorkerHealthy(worker_id))

    @rule()
    def list_twice(self) -> None:
        self.world.relist()
        before = self.world.ledger.balances_u, dict(self.world.ledger.closed)
        self.world.relist()
        assert before == (self.world.ledger.balances_u, dict(self.world.ledger.closed))

    @rule(amount=st.integers(1, 50_000_000))
    def top_up(self, amount: int) -> None:
        self.world.command(TopUp(id=self.world.id(), account="local", amount_u=amount))

    @invariant()
    def the_books_agree(self) -> None:
        world = self.world
        assert world.state.accounts["local"].balance_u == world.ledger.balances_u["local"]
        open_ids = {i for i in world.ledger.opened if i not in world.ledger.closed}
        assert open_ids == set(world.state.intervals)

    @invariant()
    def tiers_are_exact_after_a_tick(self) -> None:
        self.world.tick()
        if self.world.state.in_doubt:
            return  # no tier changes while nobody knows who runs
        for slug, endpoint in self.world.state.endpoints.items():
            tiers = [i.opened.tier for i in self.world.state.intervals.values() if i.opened.endpoint == slug]
            assert tiers.count(Tier.BASELINE) == min(len(tiers), endpoint.spec.baseline)

    def teardown(self) -> None:
        """Fair weather: everything wanted comes up, everybody is answered, then nothing is left."""
        world = self.world
        world.healthy, world.dies_after_start, world.cold_start_s, world.refuse = True, False, 1.0, None
        world.silent = False
        world.handle(ev.LedgerChecked(None))
        world.handle(ev.EngineProbed(ENGINE))
        world.top_up(10_000_000_000)
        for slug in list(world.state.endpoints):
            if not world.state.endpoints[slug].removed:
                world.command(EnableEndpoint(id=world.id(), slug=slug))
        world.relist()
        world.tick_s = 1.0
        world.advance(400)
        for _ in range(20):
            if any(route.lane.queued for route in world.table.routes.values()):
                world.advance(100)
        reserved = sum(e.spec.baseline for e in world.state.endpoints.values() if e.enabled)
        for slug, endpoint in world.state.endpoints.items():
            if endpoint.enabled:
                assert world.ready(slug) >= endpoint.spec.baseline, (slug, endpoint, world.workers(slug))
                hopeless = endpoint.spec.baseline == 0 and reserved >= GPUS
                assert hopeless or world.table.routes[slug].lane.queued == 0, "somebody waits for ever"
                assert world.ready(slug) == len(world.workers(slug)) == endpoint.spec.baseline
        assert open_and_running_agree(world)
        for slug in list(world.state.endpoints):
            world.command(DeleteEndpoint(id=world.id(), slug=slug))
        world.advance(60)
        world.relist()
        world.advance(5)
        assert world.running == {}, "an orphan"
        assert dict(world.state.workers) == {}
        assert set(world.ledger.opened) == set(world.ledger.closed), "an interval was left open"
        examine(world, late_ns=self.late_ns)


class LifecycleOnDisk(Lifecycle):
    """The same, with every transaction given to the SQLite ledger too: what the dictionary takes, the file takes, and
    it gives back the same after a crash."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="gpudeck-", dir=MEMORY))
        self.file = SqliteLedger(self.directory / "ledger.db", lambda: self.world.now_ns)
        credit = CreditAdded("local", self.world.ledger.balances_u["local"], "first", "first", self.world.now_ns)
        self.file.write((AccountOpened("local", self.world.now_ns), credit)).result()
        self.world.mirror = lambda writes: self.file.write(writes).result()

    def compare(self) -> None:
        on_disk = self.file.load().result()
        in_memory = self.world.ledger.saved(self.world.now_ns)
        for name in ("balances_u", "endpoints", "events", "last_serial"):
            assert getattr(on_disk, name) == getattr(in_memory, name), name
        assert sorted(on_disk.workers, key=str) == sorted(in_memory.workers, key=str)
        assert sorted(on_disk.intervals, key=str) == sorted(in_memory.intervals, key=str)

    @precondition(lambda self: self.world.life > 1)
    @rule()
    def read_back(self) -> None:
        self.compare()

    def teardown(self) -> None:
        try:
            super().teardown()
            self.compare()
            verification = self.file.verify().result()
            assert verification.ok, verification.problems
            assert verification.drift_u == 0
        finally:
            self.file.close()
            shutil.rmtree(self.directory)


EXAMPLES = int(os.environ.get("GPUDECK_EXAMPLES", "40"))
"""More for a longer search: GPUDECK_EXAMPLES=2000 pytest tests/core/test_lifecycle_machine.py"""

PROFILE = settings(
    max_examples=EXAMPLES,
    stateful_step_count=50,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestLifecycle = Lifecycle.TestCase
TestLifecycle.settings = PROFILE
TestLifecycleOnDisk = LifecycleOnDisk.TestCase
TestLifecycleOnDisk.settings = settings(PROFILE, max_examples=max(5, EXAMPLES // 8))
