"""One endpoint's traffic through the full core in virtual time, and what came of it."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from typing import Final

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.command import Accepted, CreateEndpoint
from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.contract.snapshot import Tier, WorkerState
from orchestrator.core import effects as fx
from orchestrator.core import events as ev
from orchestrator.core.billing import due_u
from orchestrator.core.state import Rules
from orchestrator.core.writes import Write
from orchestrator.simulator.callers import Caller, Unheard
from orchestrator.simulator.deck import START_NS, Deck
from orchestrator.simulator.fate import FairWeather, Fate
from orchestrator.simulator.faults import Storm
from orchestrator.simulator.host import gpu_views
from orchestrator.simulator.inspection import inspect, inspect_books
from orchestrator.simulator.light import ColdStarts
from orchestrator.simulator.memory_ledger import MemoryLedger
from orchestrator.simulator.traces import Trace

CREDIT_U: Final = 10**15
"""A billion dollars: credit plays no part, unless it is given."""
TAIL_S: Final = 3_600.0
"""How long after the last answer a run may go on at most, for what is kept warm."""
WARM_UP_S: Final = 7_200.0
INSTANCE: Final = "f" * 32


class PlayError(Exception):
    """The run cannot begin. `str(error)` is a sentence for the user."""


@dataclass(frozen=True, slots=True)
class Played:
    """Instants are nanoseconds since the beginning of the trace. Money is micro-dollars."""

    callers: list[Caller | Unheard]
    began_ns: int
    """The trace's beginning, on the deck's clock."""
    ended_ns: int
    steps: list[tuple[int, int]]
    """When the number of live workers (starting ones count) changed, and what it became."""
    baseline_u: int
    autoscaled_u: int
    absorbed_u: int
    """Borne by the platform: failed starts, absences."""
    autoscaled_s: float
    cold_starts: int
    """Starts of autoscaled workers, and of replacements, that became ready."""
    failed_starts: int
    digest: str
    """SHA-256 over all that was written, in order: equal for equal runs."""
    notes: list[str]

    @property
    def waits_s(self) -> list[float]:
        """Of requests that a worker took, ascending."""
        return sorted(c.waited_s for c in self.callers if c.waited_s is not None)

    @property
    def outcomes(self) -> Counter[str]:
        """`served`, or the code of what went wrong, and how often."""
        return Counter("served" if c.done_ns is not None else c.outcome or "open" for c in self.callers)

    def wait_s(self, percent: float) -> float:
        """Nearest-rank percentile of the waits; 0 without one."""
        waits = self.waits_s
        rank = min(max(int(-(-len(waits) * percent // 100)), 1), len(waits)) if waits else 0
        return waits[rank - 1] if waits else 0.0

    def workers_at(self, at_ns: int) -> int:
        """Live workers at an instant."""
        place = bisect_right(self.steps, at_ns, key=lambda step: step[0])
        return self.steps[place - 1][1] if place else 0


@dataclass(slots=True)
class Luck:
    """Cold starts by the trace's time (fate.Span): what happens before it begins must not change what happens in it."""

    cold: ColdStarts
    began_ns: int = START_NS

    def __call__(self, at_ns: int) -> float:
        return self.cold.duration_ns(at_ns - self.began_ns) / SECOND_NS


class Witness(Deck):
    """A deck that remembers what `Played` tells."""

    def __init__(self, gpu_text: str, rules: Rules, fate: Fate, *, credit_u: int, watchful: bool) -> None:
        self.steps: list[tuple[int, int]] = []
        self._hash = hashlib.sha256()
        ledger = MemoryLedger(balances_u={"local": credit_u})
        super().__init__(gpu_views(gpu_text), rules, fate, ledger=ledger, watchful=watchful)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def commit(self, writes: tuple[Write, ...]) -> None:
        super().commit(writes)
        self._hash.update(repr(writes).encode())

    def stepped(self, event: ev.Happening, effects: list[fx.Effect]) -> None:
        if not effects:
            return
        inspect(self.state)
        live = sum(1 for w in self.state.workers.values() if w.live)
        if not self.steps or self.steps[-1][1] != live:
            self.steps.append((self.now_ns, live))


def play(
    trace: Trace,
    spec: EndpointSpec,
    rules: Rules,
    *,
    cold: ColdStarts | None = None,
    weather: Fate | None = None,
    storm: Storm | None = None,
    credit_u: int = CREDIT_U,
) -> Played:
    """Run `trace` against an endpoint like `spec`, on a host with GPUs for all its workers, from the moment when its
    baseline is ready. Starts take as long as `cold` says, or `weather` decides everything, or a `storm` rages from
    then to the last arrival.

    Raises PlayError; AssertionError if an invariant of the lifecycle or the ledger does not hold.
    """
    luck = Luck(cold or ColdStarts())
    fate = storm or weather or FairWeather(luck, start_delay_s=0.0, stop_delay_s=0.0)
    watchful = storm is not None
    deck = Witness(f"{spec.gpu_type}:{spec.maximum}", rules, fate, credit_u=credit_u, watchful=watchful)
    outcome = deck.command(CreateEndpoint(id="simulation-create", spec=spec))
    if not isinstance(outcome, Accepted):
        raise PlayError(outcome.message)
    _warm_up(deck, spec)
    began_ns = luck.began_ns = deck.now_ns
    callers: list[Caller | Unheard] = []
    if storm is not None:
        storm.begin(deck)
    _feed(deck, spec.slug, trace, began_ns, callers)
    while len(callers) < len(trace) and deck.next_ns is not None:
        deck.act()
    if storm is not None:
        storm.end()
    _run_out(deck, spec)
    return _played(deck, began_ns, callers)


def _warm_up(deck: Deck, spec: EndpointSpec) -> None:
    def ready() -> int:
        return sum(1 for w in deck.state.workers.values() if w.state is WorkerState.READY)

    give_up_ns = deck.now_ns + int(WARM_UP_S * SECOND_NS)
    while ready() < spec.baseline:
        if deck.now_ns >= give_up_ns or deck.state.endpoints[spec.slug].wanted != "enabled":
            problem = deck.state.endpoints[spec.slug].problem
            why = problem.message if problem is not None else f"not ready within {WARM_UP_S:.0f} s"
            raise PlayError(f"the baseline never came up: {why}")
        deck.advance(1.0)


def _feed(deck: Deck, slug: str, trace: Trace, began_ns: int, callers: list[Caller | Unheard]) -> None:
    """Arrivals plan one another: a heap of a whole trace would cost more than the simulation."""
    requests = zip(trace.arrival_ns, trace.service_ns, strict=True)

    def plan() -> None:
        following = next(requests, None)
        if following is not None:
            arrival_ns, service_ns = following
            deck.at(began_ns + arrival_ns, lambda: arrive(service_ns))

    def arrive(service_ns: int) -> None:
        plan()
        if slug in deck.table.routes and not deck.gone:
            callers.append(deck.call(slug, service_ns))
        else:
            callers.append(Unheard(deck.now_ns))

    plan()


def _run_out(deck: Witness, spec: EndpointSpec) -> None:
    """Until every request has its answer and nothing autoscaled is left."""
    while deck.present and deck.next_ns is not None:
        deck.act()
    limit_ns = deck.now_ns + int(TAIL_S * SECOND_NS)
    while len(deck.state.workers) > spec.baseline or not deck.caught_up:
        if deck.next_ns is None or deck.next_ns > limit_ns:
            break
        deck.act()
    if deck.caught_up:
        inspect_books(deck.state, deck.ledger)


def _played(deck: Witness, began_ns: int, callers: list[Caller | Unheard]) -> Played:
    answered_ns = max((c.done_ns for c in callers if c.done_ns is not None), default=deck.now_ns)
    baseline_u = autoscaled_u = absorbed_u = autoscaled_ns = 0
    for key, opened in deck.ledger.opened.items():
        closed = deck.ledger.closed.get(key)
        end_ns = closed.end_ns if closed is not None else deck.now_ns
        baseline = opened.tier is Tier.BASELINE
        since_ns = max(opened.start_ns, began_ns)
        until_ns = max(since_ns, min(end_ns, answered_ns) if baseline else end_ns)
        amount_u = due_u(opened.rate_uh, until_ns - opened.start_ns) - due_u(opened.rate_uh, since_ns - opened.start_ns)
        if closed is not None and closed.absorbed:
            absorbed_u += amount_u
        elif baseline:
            baseline_u += amount_u
        else:
            autoscaled_u += amount_u
            autoscaled_ns += until_ns - since_ns
    started = [row for row in deck.ledger.workers.values() if row.intent.at_ns >= began_ns]
    ready = sum(1 for row in started if row.ready_ns is not None)
    return Played(
        callers=callers,
        began_ns=began_ns,
        ended_ns=deck.now_ns - began_ns,
        steps=_since(deck.steps, began_ns),
        baseline_u=baseline_u,
        autoscaled_u=autoscaled_u,
        absorbed_u=absorbed_u,
        autoscaled_s=autoscaled_ns / SECOND_NS,
        cold_starts=ready,
        failed_starts=len(started) - ready,
        digest=deck.digest,
        notes=[event.text for event in deck.state.events],
    )


def _since(steps: list[tuple[int, int]], began_ns: int) -> list[tuple[int, int]]:
    """The steps from `began_ns` on, counted from there."""
    before = [live for at_ns, live in steps if at_ns <= began_ns]
    return [(0, before[-1] if before else 0), *((at_ns - began_ns, live) for at_ns, live in steps if at_ns > began_ns)]
