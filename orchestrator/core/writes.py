"""What the core asks the ledger to remember, as data. One tuple of writes is one transaction: all of it or nothing.

Amounts are micro-dollars, instants wall-clock nanoseconds. Posting a write twice is harmless: every one has a key
(worker id, interval id, `(interval_id, upto_ns)`, command id), and the ledger ignores an exact repetition.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from orchestrator.contract.command import Outcome
from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.contract.snapshot import EventView, Tier


@dataclass(frozen=True, slots=True)
class AccountOpened:
    account: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class MailSet:
    """Where the account's warnings go; None means the operator's address."""

    account: str
    mail: str | None


@dataclass(frozen=True, slots=True)
class CreditAdded:
    """Entries: +amount on customer:credit of the account, -amount on equity:topup."""

    account: str
    amount_u: int
    key: str
    memo: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class CreditRequired:
    """A condition inside the transaction: the account's posted balance must be at least `amount_u`, else nothing of the
    transaction happens and `CreditChanged` is raised. Makes the gate and the intent one atomic step."""

    account: str
    amount_u: int


@dataclass(frozen=True, slots=True)
class KeyAdded:
    key_id: str
    account: str
    name: str
    digest: bytes
    """SHA-256 of the whole key."""
    at_ns: int
    expires_ns: int | None
    endpoints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyRevoked:
    key_id: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class EndpointSaved:
    """Insert or replace the endpoint's row."""

    spec: EndpointSpec
    generation: int
    wanted: Literal["enabled", "disabled", "suspended", "failed"]
    problem: str | None
    at_ns: int


@dataclass(frozen=True, slots=True)
class EndpointRemoved:
    slug: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class WorkerIntended:
    """The intent: on disk before the engine is asked, so a crash can neither lose nor double a worker."""

    worker_id: str
    serial: int
    ordinal: int
    endpoint: str
    account: str
    generation: int
    model: str
    gpu_uuid: str
    gpu_type: str
    surge: bool
    at_ns: int


@dataclass(frozen=True, slots=True)
class WorkerStarted:
    worker_id: str
    engine_ref: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class WorkerReady:
    worker_id: str
    at_ns: int


Evidence = Literal["exit", "last_seen"]
"""What the end of a worker that ran rests on: what the engine tells of it, or the last heartbeat."""


@dataclass(frozen=True, slots=True)
class WorkerEnded:
    """`source` is void for one that never started."""

    worker_id: str
    at_ns: int
    source: Evidence | Literal["void"]
    cause: str
    detail: str


@dataclass(frozen=True, slots=True)
class IntervalOpened:
    """A worker begins to be charged at one tier and rate (micro-dollars per hour, frozen on the row)."""

    interval_id: str
    worker_id: str
    endpoint: str
    account: str
    gpu_type: str
    tier: Tier
    rate_uh: int
    price_book: str
    start_ns: int
    boot_id: str


@dataclass(frozen=True, slots=True)
class Posted:
    """A posting of an interval up to `upto_ns`: due(upto) minus what was posted before, never negative.

    Entries: `absorbed` False: -amount on customer:credit of the account, +amount on revenue:<tier>; True: -amount on
    platform:absorbed instead of the customer.
    """

    interval_id: str
    account: str
    tier: Tier
    amount_u: int
    upto_ns: int
    absorbed: bool
    at_ns: int


EndSource = Literal["exit", "last_seen", "tier_change", "price_change", "absence", "suspend"]
"""What the end of an interval rests on: evidence, the last heartbeat, a split at a change of tier or of prices, or the
edge of time that the platform bears: nobody could scale the worker down (B4), or the host slept (P5)."""


@dataclass(frozen=True, slots=True)
class IntervalClosed:
    interval_id: str
    end_ns: int
    source: EndSource
    absorbed: bool


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """`last_seen_ns` of open intervals, and the last use of keys. Not money."""

    interval_ids: tuple[str, ...]
    at_ns: int
    keys_used: tuple[tuple[str, int], ...] = ()
    idle: tuple[tuple[str, int], ...] = ()
    """Since when the worker of an interval has been idle; one that is not listed is busy or not ready (B4)."""


@dataclass(frozen=True, slots=True)
class CommandDone:
    """The answer of a command, kept for replays. `digest` tells a replay from another command (replay.py). The
    secret of a new key is never stored: the caller removes it first."""

    command_id: str
    digest: bytes
    outcome: Outcome
    at_ns: int


@dataclass(frozen=True, slots=True)
class EventNoted:
    event: EventView


MailKind = Literal["warning", "suspended"]


class MailKey(NamedTuple):
    """One mail for one downward crossing of one account, however often it is tried."""

    account: str
    kind: MailKind
    crossing_no: int


@dataclass(frozen=True, slots=True)
class CreditWatched:
    """How many crossings the account has had, and the burn of the warning that is not re-armed yet (0: it is)."""

    account: str
    warnings: int
    alerted_uh: int
    suspensions: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class MailQueued:
    """In the transaction of the crossing: neither can be on disk without the other."""

    key: MailKey
    subject: str
    body: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class MailTried:
    key: MailKey
    state: Literal["queued", "sent", "failed"]
    """After the attempt: queued is tried again."""
    attempts: int
    problem: str | None
    at_ns: int


Write = (
    AccountOpened
    | CreditAdded
    | CreditRequired
    | KeyAdded
    | KeyRevoked
    | EndpointSaved
    | EndpointRemoved
    | WorkerIntended
    | WorkerStarted
    | WorkerReady
    | WorkerEnded
    | IntervalOpened
    | Posted
    | IntervalClosed
    | Heartbeat
    | CommandDone
    | EventNoted
    | MailSet
    | CreditWatched
    | MailQueued
    | MailTried
)


@dataclass(frozen=True, slots=True)
class SavedWorker:
    """A worker without an end in the ledger, as read at start."""

    intent: WorkerIntended
    engine_ref: str | None
    started_ns: int | None
    ready_ns: int | None
    spent_u: int = 0
    """Micro-dollars billed for its intervals that are closed."""


@dataclass(frozen=True, slots=True)
class SavedInterval:
    """An interval without an end in the ledger, with what has been posted of it and when it was last seen alive."""

    opened: IntervalOpened
    posted_u: int
    last_seen_ns: int
    posted_to_ns: int = 0
    idle_since_ns: int | None = None
    """At the last heartbeat; None while it was busy or not ready."""


@dataclass(frozen=True, slots=True)
class SavedKey:
    key_id: str
    account: str
    name: str
    digest: bytes
    created_ns: int
    expires_ns: int | None
    revoked_ns: int | None
    last_used_ns: int | None
    endpoints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SavedWatch:
    """What is remembered of an account beside its money."""

    mail: str | None = None
    mail_problem: str | None = None
    warnings: int = 0
    alerted_uh: int = 0
    suspensions: int = 0


@dataclass(frozen=True, slots=True)
class Saved:
    """Everything the ledger remembers that the core needs to go on after a restart."""

    instance: str
    balances_u: dict[str, int]
    """Posted balance by account, in order of opening."""
    endpoints: tuple[EndpointSaved, ...]
    workers: tuple[SavedWorker, ...]
    intervals: tuple[SavedInterval, ...]
    keys: tuple[SavedKey, ...]
    commands: tuple[CommandDone, ...]
    """The newest 10,000, oldest first."""
    events: tuple[EventView, ...]
    """The newest 200, oldest first."""
    last_serial: int
    """The highest worker serial ever used."""
    spent_today_u: dict[str, int]
    """Billed (not absorbed) per endpoint since the last UTC midnight before `read_ns`."""
    spent_total_u: dict[str, int]
    absorbed_total_u: dict[str, int]
    spent_month_u: dict[str, int]
    """Billed per account since the first of the month, UTC."""
    account_today_u: dict[str, int]
    read_ns: int
    watches: dict[str, SavedWatch] = field(default_factory=dict)
    mails: tuple[MailQueued, ...] = ()
    """Not delivered yet, oldest first."""
