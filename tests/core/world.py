"""A simulated gpudeck as tests like it: ticking like the live one, checked after every step, remembering everything.

The world itself is the product's (orchestrator/simulator/deck.py); here are the weather, the checks and shorthands.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

from orchestrator.assets import load_models, load_price_book
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.command import Accepted, Command, CreateEndpoint, Refused, TopUp
from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.contract.snapshot import WorkerState
from orchestrator.core import effects as fx
from orchestrator.core import events as ev
from orchestrator.core.lane import Slot
from orchestrator.core.pricing import PriceSchedule, always
from orchestrator.core.state import Rules
from orchestrator.core.worker import Worker
from orchestrator.core.workload import WorkerSpec
from orchestrator.core.writes import Saved, Write
from orchestrator.simulator.callers import Caller
from orchestrator.simulator.deck import ENGINE, START_NS, Deck
from orchestrator.simulator.fate import FairWeather, Refusal, Start
from orchestrator.simulator.host import gpu_views
from orchestrator.simulator.inspection import inspect
from orchestrator.simulator.memory_ledger import MemoryLedger

__all__ = ["BOOT", "ENGINE", "START_NS", "Caller", "World", "gpus"]

BOOT = "boot-1"
gpus = gpu_views


class Weather(FairWeather):
    """What a test sets counts from the next start on."""

    def __init__(self, cold_start_s: float) -> None:
        super().__init__(lambda _: self.cold_start_s)
        self.cold_start_s = cold_start_s
        self.start_delay_s = 0.2
        self.refuse: Refusal | None = None
        self.dies_after_start = False

    def start(self, spec: WorkerSpec, at_ns: int) -> Start:
        dies_after_s = 0.5 if self.dies_after_start else None
        return Start(self.start_delay_s, self.cold_start_s, self.refuse, dies_after_s=dies_after_s)


def part(owner: str, name: str) -> Any:
    """An attribute of a part of the world."""

    def read(self: World) -> Any:
        return getattr(getattr(self, owner), name)

    def write(self: World, value: Any) -> None:
        setattr(getattr(self, owner), name, value)

    return property(read, write)


class World(Deck):
    """One host with an account `local`. Everything the core did is in `effects` and `writes`."""

    cold_start_s = part("weather", "cold_start_s")
    start_delay_s = part("weather", "start_delay_s")
    refuse = part("weather", "refuse")
    dies_after_start = part("weather", "dies_after_start")
    healthy = part("host", "healthy")
    silent = part("host", "silent")
    skew_ns = part("host", "skew_ns")
    running = part("host", "running")
    lives = part("host", "lives")
    life = part("host", "life")

    def __init__(
        self,
        gpu_text: str = "L40:4",
        *,
        cold_start_s: float = 2.0,
        credit_u: int | None = 10_000_000_000,
        prices: PriceSchedule | None = None,
    ) -> None:
        self.weather = Weather(cold_start_s)
        self.effects: list[fx.Effect] = []
        self.writes: list[Write] = []
        self.served: list[str] = []
        self.most_workers: dict[str, int] = {}
        self._ids = itertools.count(1)
        rules = Rules(
            instance="f" * 32,
            boot_id=BOOT,
            models=load_models(None),
            prices=prices or always(load_price_book("2025-seed", None)),
        )
        ledger = MemoryLedger(balances_u={} if credit_u is None else {"local": credit_u})
        super().__init__(gpu_views(gpu_text), rules, self.weather, ledger=ledger, tick_s=0.25)

    def until(self, predicate: Callable[[], object], limit_s: float = 3_600.0, step_s: float = 0.05) -> float:
        """Advance until `predicate` is true; returns the seconds it took."""
        start = self.now_ns
        while not predicate():
            assert self.now_ns - start < limit_s * SECOND_NS, "the condition never came true"
            self.advance(step_s)
        return (self.now_ns - start) / SECOND_NS

    def spend(self, left_u: int) -> None:
        """Advance in long ticks, the first account's credit going down, until at most `left_u` of it is left."""
        usual_s, self.tick_s = self.tick_s, 20
        self.until(lambda: self.snapshot().accounts[0].balance_u <= left_u, limit_s=30 * 3_600, step_s=60)
        self.tick_s = usual_s

    # --- what is remembered and checked

    def stepped(self, event: ev.Happening, effects: list[fx.Effect]) -> None:
        self.effects.extend(effects)
        inspect(self.state)
        for slug in self.state.endpoints:
            held = sum(1 for w in self.state.workers.values() if w.endpoint == slug and not w.surge)
            self.most_workers[slug] = max(self.most_workers.get(slug, 0), held)

    def commit(self, writes: tuple[Write, ...]) -> None:
        self.writes.extend(writes)
        super().commit(writes)

    def claimed(self, slot: Slot) -> None:
        self.served.append(slot.label)

    # --- what happens

    def kill(self, worker_id: str, *, code: int = 137) -> None:
        self.host.kill(worker_id, code=code)

    def vanish(self, worker_id: str) -> None:
        self.host.vanish(worker_id)

    def lose_host(self) -> None:
        self.host.go_down()

    # --- what a user does

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
        return self.call(slug, int(service_s * SECOND_NS))

    # --- what is there

    def nothing_saved(self) -> Saved:
        return MemoryLedger().saved(self.now_ns)

    def workers(self, slug: str = "echo", *states: WorkerState) -> list[Worker]:
        found = [w for w in self.state.workers.values() if w.endpoint == slug and (not states or w.state in states)]
        return sorted(found, key=lambda w: w.ordinal)

    def ready(self, slug: str = "echo") -> int:
        return len(self.workers(slug, WorkerState.READY))

    def written(self, kind: type) -> list[object]:
        return [w for w in self.writes if isinstance(w, kind)]

    def notes(self) -> Iterable[str]:
        return [event.text for event in self.state.events]
