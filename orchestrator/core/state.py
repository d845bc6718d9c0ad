"""The whole state of the control plane, immutable, and the working copy a step edits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from orchestrator.contract.command import Outcome
from orchestrator.contract.snapshot import EngineKind, EngineView, EventView, GpuView, KeyView
from orchestrator.core.billing import Interval
from orchestrator.core.catalogue import Model
from orchestrator.core.effects import Effect, Persist, RouteView
from orchestrator.core.endpoint import Endpoint
from orchestrator.core.pricing import PriceBook, PriceSchedule
from orchestrator.core.worker import Worker
from orchestrator.core.writes import EventNoted, MailKey, MailQueued, Write

EVENTS_KEPT = 200
COMMANDS_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Rules:
    """Settings the core goes by; none of them changes while the process lives."""

    instance: str
    boot_id: str
    models: Mapping[str, Model]
    prices: PriceSchedule
    workers_max: int = 10
    shutdown_grace_s: int = 30
    suspend_grace_s: int = 5
    mails: bool = False
    """Whether crossings are told by mail too: a server is configured."""
    faults: bool = False
    """Whether faults may be done to workers on purpose (contract/faults.py)."""


@dataclass(frozen=True, slots=True)
class Account:
    """Credit of one owner. `balance_u` is what has been posted; what runs since then is accrued on top."""

    name: str
    balance_u: int
    today_u: int = 0
    month_u: int = 0
    burn_uh: int = 0
    """Smoothed over a minute."""
    warned: bool = False
    suspended: bool = False
    mail: str | None = None
    mail_problem: str | None = None
    warnings: int = 0
    """Downward crossings so far; numbers their mails."""
    suspensions: int = 0
    alerted_uh: int = 0
    """Burn of the warning that was told and is not re-armed yet; 0 when the next one may be told."""
    calm_since_ns: int | None = None
    """Since when the balance has been enough again, while the warning is not re-armed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command was answered, for replays."""

    digest: bytes
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Undo:
    """What a command replaced, until its transaction is certain. None means that there was nothing before."""

    endpoints: Mapping[str, Endpoint | None]
    credit_u: Mapping[str, int]
    accounts: tuple[str, ...]
    keys: Mapping[str, KeyView | None]
    mails: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class State:
    """Everything the core decides by. Mappings are never mutated: a step works on a `Draft`."""

    rules: Rules
    engine: EngineView = field(
        default_factory=lambda: EngineView(kind=EngineKind.VIRTUAL, ok=False, detail="not asked yet")
    )
    booted_ns: int = 0
    accounts: Mapping[str, Account] = field(default_factory=lambda: MappingProxyType({}))
    endpoints: Mapping[str, Endpoint] = field(default_factory=lambda: MappingProxyType({}))
    workers: Mapping[str, Worker] = field(default_factory=lambda: MappingProxyType({}))
    intervals: Mapping[str, Interval] = field(default_factory=lambda: MappingProxyType({}))
    keys: Mapping[str, KeyView] = field(default_factory=lambda: MappingProxyType({}))
    answers: Mapping[str, Answer] = field(default_factory=lambda: MappingProxyType({}))
    gpus: tuple[GpuView, ...] = ()
    events: tuple[EventView, ...] = ()
    routes: Mapping[str, RouteView] = field(default_factory=lambda: MappingProxyType({}))
    serial: int = 0
    event_seq: int = 0
    posted_ns: int = 0
    """When the last round of postings was made."""
    in_doubt: bool = False
    """The engine was silent and its list has not been read since: nobody knows which workers are alive."""
    seen_ns: int = 0
    """When the last round of heartbeats was."""
    listed_ns: int = 0
    """When the engine last told what it holds."""
    ticked_ns: int = 0
    woken_ns: int = 0
    """When the host last woke: the gap before it has been dealt with."""
    sampled_ns: int = 0
    balance_series_u: tuple[int, ...] = ()
    ledger_problem: str | None = None
    stopping: Literal["leave", "drain"] | None = None
    stop_command: str | None = None
    mails: Mapping[MailKey, MailQueued] = field(default_factory=lambda: MappingProxyType({}))
    """Not delivered yet."""
    undo: Mapping[str, Undo] = field(default_factory=lambda: MappingProxyType({}))
    """For the newest commands, whose transactions may still be refused."""


V = TypeVar("V")


class Workers(dict[str, Worker]):
    """Workers by id, and by endpoint. A step asks for those of an endpoint a dozen times for each one; going through
    all of them every time made a pause of 18 ms of a tick with 500. Changed by item and by `pop` only."""

    __slots__ = ("_of",)

    def __init__(self, workers: Mapping[str, Worker]) -> None:
        super().__init__(workers)
        self._of: dict[str, list[Worker]] = {}
        """Those of an endpoint by its slug, in ordinal order. A change forgets the ones of its endpoint."""

    def of(self, slug: str) -> list[Worker]:
        """Those of one endpoint, in ordinal order."""
        found = self._of.get(slug)
        if found is None:
            found = self._of[slug] = sorted((w for w in self.values() if w.endpoint == slug), key=_place)
        return found[:]

    def __setitem__(self, worker_id: str, worker: Worker) -> None:
        super().__setitem__(worker_id, worker)
        self._of.pop(worker.endpoint, None)

    def pop(self, worker_id: str, default: Any = None) -> Any:
        worker = super().pop(worker_id, default)
        if worker is not None:
            self._of.pop(worker.endpoint, None)
        return worker


def _place(worker: Worker) -> tuple[int, int]:
    return worker.place


class Draft:
    """The working copy of one step: plain dictionaries, the writes and effects so far.

    Writes are gathered and become one `Persist` placed before the effects that depend on it, so one step is one
    transaction.
    """

    def __init__(self, state: State, now_ns: int) -> None:
        self.rules = state.rules
        self.now_ns = now_ns
        self.accounts = dict(state.accounts)
        self.endpoints = dict(state.endpoints)
        self.workers = Workers(state.workers)
        self.intervals = dict(state.intervals)
        self.keys = dict(state.keys)
        self.answers = dict(state.answers)
        self.routes = dict(state.routes)
        self.writes: list[Write] = []
        self.command_id: str | None = None
        """The command whose answer depends on this step's transaction."""
        self._state = state
        self._changes: dict[str, Any] = {}
        self._seen: State | None = state
        self._effects: list[Effect] = []
        self._facts: tuple[Write, ...] = ()

    @property
    def book(self) -> PriceBook:
        """The prices in force now."""
        return self.rules.prices.book_at(self.now_ns)

    @property
    def state(self) -> State:
        """The fields of the state that are not copied: as they were, with this step's `assign`ments."""
        if self._seen is None:  # asked for many times between two assignments, and making it anew is dear
            self._seen = replace(self._state, **self._changes)
        return self._seen

    def assign(self, **fields: Any) -> None:
        """Change plain fields of the state."""
        self._changes.update(fields)
        self._seen = None

    def write(self, *writes: Write) -> None:
        self.writes.extend(writes)

    def set_apart(self) -> None:
        """Make what has been written so far a transaction of its own: it has happened, whatever becomes of the rest of
        this step. A command that fails must not take a sleep of the host with it."""
        self._facts, self.writes = tuple(self.writes), []

    def do(self, *effects: Effect) -> None:
        self._effects.extend(effects)

    def workers_of(self, slug: str) -> list[Worker]:
        """Workers of an endpoint that are not over yet, in ordinal order."""
        return self.workers.of(slug)

    def note(
        self,
        level: Literal["info", "good", "warning", "error"],
        text: str,
        *,
        endpoint: str | None = None,
        worker: str | None = None,
    ) -> None:
        """Append to the event log, on screen and on disk."""
        seq = self.state.event_seq + 1
        event = EventView(seq=seq, at_ns=self.now_ns, level=level, text=text, endpoint=endpoint, worker=worker)
        self.assign(event_seq=seq, events=(*self.state.events, event)[-EVENTS_KEPT:])
        self.write(EventNoted(event))

    def finish(self) -> tuple[State, list[Effect]]:
        """The new state and the effects, the transaction first."""
        effects = list(self._effects)
        if self.writes:
            effects.insert(0, Persist(tuple(self.writes), self.command_id))
        if self._facts:
            effects.insert(0, Persist(self._facts))
        state = replace(
            self._state,
            **self._changes,
            accounts=MappingProxyType(self.accounts),
            endpoints=MappingProxyType(self.endpoints),
            workers=MappingProxyType(self.workers),
            intervals=MappingProxyType(self.intervals),
            keys=MappingProxyType(self.keys),
            answers=MappingProxyType(self.answers),
            routes=MappingProxyType(self.routes),
        )
        return state, effects
