"""One seeded story of a gpudeck under faults: endpoints, traffic, commands, a storm, and the reckoning afterwards.

Everything follows from the seed. Invariants are checked after every step; when the weather has cleared, everything that
is wanted must come up, everybody must have been answered, nothing may be left running unbilled or billed unseen.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final

from orchestrator.contract.base import DOLLAR_U, SECOND_NS
from orchestrator.contract.command import (
    Command,
    CreateEndpoint,
    DeleteEndpoint,
    DisableEndpoint,
    EnableEndpoint,
    TopUp,
    UpdateEndpoint,
)
from orchestrator.contract.endpoint import (
    Auto,
    Concurrency,
    EndpointChanges,
    EndpointSpec,
    QueueDelay,
    RequestCount,
    ScalingPolicy,
)
from orchestrator.contract.snapshot import WorkerState
from orchestrator.core import effects as fx
from orchestrator.core import events as ev
from orchestrator.core.billing import POSTING_LAG_NS
from orchestrator.core.state import Rules
from orchestrator.core.writes import Write
from orchestrator.simulator.callers import Caller
from orchestrator.simulator.deck import Deck
from orchestrator.simulator.faults import Storm
from orchestrator.simulator.host import gpu_views
from orchestrator.simulator.inspection import inspect, inspect_books, inspect_tiers
from orchestrator.simulator.memory_ledger import MemoryLedger
from orchestrator.simulator.onlooker import examine, open_and_running_agree

ACCOUNT: Final = "local"
SLUGS: Final = ("one", "two", "three")
SETUPS: Final = ((0, 1), (0, 3), (1, 1), (1, 2), (2, 3))
POLICIES: Final[tuple[ScalingPolicy, ...]] = (
    QueueDelay(seconds=0.5), QueueDelay(), RequestCount(value=1), RequestCount(value=4), Concurrency(), Auto(),
)  # fmt: skip
CREDIT_U: Final = 2_000 * DOLLAR_U
STORM_S: Final = 150.0
INTENSITIES: Final = (1.0, 3.0, 3.0, 6.0)
"""Factors on how often everything on the menu comes."""
MEDDLING_S: Final = 20.0
"""Mean seconds between two commands of somebody."""
CALM_S: Final = 900.0
"""Enough for the longest back-off, start, execution and queue time-outs of a story, one after the other."""
CALM_STEP_S: Final = 20.0
"""More than a list takes to come."""
ENDING_S: Final = 120.0


class EpisodeFailed(AssertionError):
    """An invariant did not hold. `str(error)` tells the seed, the instant, and what came before."""


@dataclass(frozen=True, slots=True)
class Story:
    """What one seed came to."""

    seed: int
    digest: str
    """SHA-256 over all that was written."""
    steps: int
    crashes: int
    outcomes: Counter[str] = field(default_factory=Counter)
    told: tuple[str, ...] = ()
    """What went wrong by itself."""


class _Checked(Deck):
    """Looks at everything after every step."""

    def __init__(self, gpu_text: str, rules: Rules, storm: Storm) -> None:
        self.steps = 0
        self.hash = hashlib.sha256()
        ledger = MemoryLedger(balances_u={ACCOUNT: CREDIT_U})
        super().__init__(gpu_views(gpu_text), rules, storm, ledger=ledger, watchful=True)

    def commit(self, writes: tuple[Write, ...]) -> None:
        self.hash.update(repr(writes).encode())
        super().commit(writes)

    def stepped(self, event: ev.Happening, effects: list[fx.Effect]) -> None:
        self.steps += 1
        inspect(self.state)
        for effect in effects:
            if isinstance(effect, fx.StartWorker):
                self._check_start(effect.spec.endpoint)
        if self.caught_up and self.disk_problem is None:
            inspect_books(self.state, self.ledger)
        if isinstance(event, ev.Ticked):
            inspect_tiers(self.state)

    def _check_start(self, slug: str) -> None:
        """Rule R12: everything that is not over yet counts against the maximum."""
        held = sum(1 for w in self.state.workers.values() if w.endpoint == slug and not w.surge)
        assert held <= self.state.endpoints[slug].spec.maximum, f"{slug}: a start above its maximum"


class _Plot:
    """Draws the story of one seed and plays it."""

    def __init__(self, seed: int, rules: Rules, faults: Mapping[str, float]) -> None:
        self.dice = Random(f"plot/{seed}")  # noqa: S311 - a simulation's dice
        median_s = self.dice.choice((0.5, 3.0, 10.0))
        intensity = self.dice.choice(INTENSITIES)
        fiercer = {name: factor * intensity for name, factor in faults.items()}
        self.storm = Storm(f"storm/{seed}", fiercer, lambda _: self.dice.lognormvariate(0.0, 0.5) * median_s)
        self.gpus = self.dice.randint(2, 5)
        self.deck = _Checked(f"L40:{self.gpus},H100:1", rules, self.storm)
        self.callers: list[Caller] = []
        self.numbers = 0

    def play(self) -> None:
        deck, dice = self.deck, self.dice
        for slug in SLUGS[: dice.randint(1, 3)]:
            self._do(CreateEndpoint(id=self._id(), spec=self._spec(slug)))
            self._call_again_and_again(slug, dice.choice((0.02, 0.1, 0.5)), dice.choice((0.3, 2.0, 8.0)))
        deck.advance(dice.uniform(0.0, 15.0))
        self._meddle_again_and_again()
        self.storm.begin(deck)
        deck.advance(STORM_S)
        self.storm.end()

    # --- what people do

    def _id(self) -> str:
        self.numbers += 1
        return f"command-{self.numbers}"

    def _do(self, command: Command) -> None:
        if not self.deck.gone:
            self.deck.command(command)

    def _policy(self) -> ScalingPolicy:
        return self.dice.choice((QueueDelay(seconds=0.5), QueueDelay(), RequestCount(value=1), RequestCount(value=4)))

    def _spec(self, slug: str) -> EndpointSpec:
        dice = self.dice
        baseline, maximum = dice.choice(SETUPS)
        return EndpointSpec(
            slug=slug, model="echo", gpu_type="L40", baseline=baseline, maximum=maximum, policy=self._policy(),
            idle_timeout_s=dice.choice((1, 5, 30)), concurrency=dice.choice((1, 1, 3)),
            startup_deadline_s=dice.choice((10, 60)), execution_timeout_s=dice.choice((5, 60)),
            queue_timeout_s=dice.choice((20, 300)),
        )  # fmt: skip

    def _call_again_and_again(self, slug: str, rate_hz: float, mean_s: float) -> None:
        deck, dice = self.deck, self.dice
        end_ns = deck.now_ns + int((STORM_S + 10.0) * SECOND_NS)

        def call() -> None:
            if deck.now_ns > end_ns:
                return
            deck.later(dice.expovariate(rate_hz), call)
            for _ in range(dice.choice((1, 1, 1, 5))):
                service_ns = int(dice.expovariate(1 / mean_s) * SECOND_NS)
                if slug in deck.table.routes and not deck.gone:
                    self.callers.append(deck.call(slug, service_ns))

        deck.later(dice.expovariate(rate_hz), call)

    def _meddle_again_and_again(self) -> None:
        deck, dice = self.deck, self.dice
        end_ns = deck.now_ns + int(STORM_S * SECOND_NS)

        def meddle() -> None:
            if deck.now_ns > end_ns:
                return
            deck.later(dice.expovariate(1 / MEDDLING_S), meddle)
            self._do(self._some_command())

        deck.later(dice.expovariate(1 / MEDDLING_S), meddle)

    def _some_command(self) -> Command:
        dice, slug = self.dice, self.dice.choice(SLUGS)
        what = dice.choice(("create", "update", "update", "roll", "enable", "enable", "disable", "delete", "top up"))
        match what:
            case "create":
                return CreateEndpoint(id=self._id(), spec=self._spec(slug))
            case "update":
                baseline, maximum = dice.choice(SETUPS)
                changes = EndpointChanges(baseline=baseline, maximum=maximum, policy=self._policy())
                return UpdateEndpoint(id=self._id(), slug=slug, changes=changes)
            case "roll":
                changes = EndpointChanges(env={"ECHO_SEED": str(dice.randint(0, 9))})
                return UpdateEndpoint(id=self._id(), slug=slug, changes=changes)
            case "enable":
                return EnableEndpoint(id=self._id(), slug=slug)
            case "disable":
                return DisableEndpoint(id=self._id(), slug=slug)
            case "delete":
                return DeleteEndpoint(id=self._id(), slug=slug)
        return TopUp(id=self._id(), account=ACCOUNT, amount_u=dice.randint(1, 50) * DOLLAR_U)

    # --- the reckoning

    def reckon(self) -> None:
        """Fair weather: everything wanted comes up, everybody is answered, then nothing is left."""
        deck = self.deck
        self._do(TopUp(id=self._id(), account=ACCOUNT, amount_u=100_000 * DOLLAR_U))
        for slug, endpoint in list(deck.state.endpoints.items()):
            if not endpoint.removed:
                self._do(EnableEndpoint(id=self._id(), slug=slug))
        give_up_ns = deck.now_ns + int(CALM_S * SECOND_NS)
        while self._unquiet() and deck.now_ns < give_up_ns:
            deck.advance(CALM_STEP_S)
        assert not deck.present, f"{len(deck.present)} requests never had an outcome"
        assert not self._unsettled(), self._unsettled()
        assert open_and_running_agree(deck), "what runs is not what is charged"
        for slug in list(deck.state.endpoints):
            self._do(DeleteEndpoint(id=self._id(), slug=slug))
        give_up_ns = deck.now_ns + int(ENDING_S * SECOND_NS)
        while (deck.state.workers or deck.host.lives_on) and deck.now_ns < give_up_ns:
            deck.advance(CALM_STEP_S)
        assert deck.host.running == {}, f"orphans: {sorted(deck.host.running)}"
        assert deck.host.evidence == {}, f"never removed: {sorted(deck.host.evidence)}"
        assert dict(deck.state.workers) == {}, f"workers that nobody has: {sorted(deck.state.workers)}"
        assert deck.ledger.opened.keys() == deck.ledger.closed.keys(), "an interval was left open"
        examine(deck, late_ns=POSTING_LAG_NS if self.storm.delays else 0, skew_ns=self.storm.skew_ns)

    def _unquiet(self) -> bool:
        return bool(self.deck.present or self._unsettled() or not open_and_running_agree(self.deck))

    def _unsettled(self) -> list[tuple[str, str, list[WorkerState]]]:
        """Endpoints that do not have exactly what is wanted of them without traffic."""
        deck, found = self.deck, []
        for slug, endpoint in deck.state.endpoints.items():
            states = [w.state for w in deck.state.workers.values() if w.endpoint == slug]
            if states != [WorkerState.READY] * (endpoint.spec.baseline if endpoint.enabled else 0):
                found.append((slug, endpoint.spec.setup, states))
        return found


def live_through(seed: int, rules: Rules, faults: Mapping[str, float]) -> Story:
    """Play the story of `seed`. Raises EpisodeFailed."""
    plot = _Plot(seed, rules, faults)
    deck = plot.deck
    try:
        plot.play()
        plot.reckon()
    except Exception as error:
        told = "\n  ".join(plot.storm.told)
        text = f"seed {seed}, {(deck.now_ns - deck.began_ns) / SECOND_NS:.3f} s: {type(error).__name__}: {error}"
        raise EpisodeFailed(f"{text}\n  {told}") from error
    outcomes = Counter("served" if c.done_ns is not None else c.outcome or "open" for c in plot.callers)
    return Story(seed, deck.hash.hexdigest(), deck.steps, len(deck.away), outcomes, tuple(plot.storm.told))
