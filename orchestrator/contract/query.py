"""Questions with an answer that does not belong into every snapshot. A query never changes anything."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from orchestrator.contract.base import Frozen, Received
from orchestrator.contract.decision import AskDecisions
from orchestrator.contract.deferred import AskRequest, AskRequests
from orchestrator.contract.ended import AskEnded
from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.contract.limits import Slug
from orchestrator.contract.routing import AskRouting
from orchestrator.contract.snapshot import Tier

MONTH: Final = r"^(19[7-9][0-9]|2[01][0-9]{2})-(0[1-9]|1[0-2])$"
"""YYYY-MM of a year whose end wall-clock nanoseconds can tell."""


class AskSnapshot(Frozen):
    kind: Literal["snapshot"] = "snapshot"


class AskQuote(Frozen):
    """Price and admission of an endpoint as it would be, for the create form and `endpoint create --dry-run`."""

    kind: Literal["quote"] = "quote"
    spec: EndpointSpec


class AskLogs(Frozen):
    """The newest `tail` lines of a worker (by id or label) or, with worker None, of each worker of the endpoint."""

    kind: Literal["logs"] = "logs"
    slug: Slug
    worker: str | None = None
    tail: int = Field(default=100, ge=1, le=5_000)


class AskBill(Frozen):
    """The bill of an account, by endpoint, worker and tier; `month` is YYYY-MM in UTC, None means everything."""

    kind: Literal["bill"] = "bill"
    account: str = "local"
    month: str | None = Field(default=None, pattern=MONTH)


class AskVerify(Frozen):
    """Recompute every amount of the ledger from its intervals, and every rate from the price book it names."""

    kind: Literal["verify"] = "verify"


class AskStatement(Frozen):
    """The statement of an account: sums, and `limit` of its lines after the first `after`, each with its evidence."""

    kind: Literal["statement"] = "statement"
    account: str = "local"
    month: str | None = Field(default=None, pattern=MONTH)
    after: int = Field(default=0, ge=0)
    limit: int = Field(default=2_000, ge=1, le=5_000)
    as_of_ns: int | None = Field(default=None, ge=0)
    """`taken_at_ns` of the first page, so that what runs is charged up to the same instant on all of them."""


class AskComparison(Frozen):
    """The same intervals priced under another book, side by side with what was charged."""

    kind: Literal["comparison"] = "comparison"
    account: str = "local"
    month: str | None = Field(default=None, pattern=MONTH)
    book: str = Field(min_length=1, max_length=64)


class AskJournal(Frozen):
    """Rows of the journal, oldest first or `newest` first, in pages: `cursor` is the `next` of the page before.

    `since_ns` and `until_ns` bound when a row was written (until is exclusive). `worker` is an id or, with an endpoint,
    a label such as w3.
    """

    kind: Literal["journal"] = "journal"
    account: str | None = None
    endpoint: Slug | None = None
    worker: str | None = Field(default=None, max_length=200)
    entry: Literal["topup", "posting", "absorbed"] | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    newest: bool = False
    cursor: int | None = Field(default=None, ge=0)
    limit: int = Field(default=1_000, ge=1, le=5_000)


class AskHistory(Frozen):
    """Traffic of an endpoint in steps of at least `step_s` seconds; the answer says which step it has."""

    kind: Literal["history"] = "history"
    slug: Slug
    since_ns: int = Field(ge=0)
    until_ns: int = Field(ge=0)
    step_s: int = Field(default=60, ge=60, le=366 * 86_400)


class AskBackup(Frozen):
    """Copy the ledger now. Nothing that the orchestrator decides by changes, so this is a question."""

    kind: Literal["backup"] = "backup"


Query = Annotated[
    AskSnapshot
    | AskQuote
    | AskLogs
    | AskBill
    | AskVerify
    | AskStatement
    | AskComparison
    | AskJournal
    | AskHistory
    | AskDecisions
    | AskRouting
    | AskEnded
    | AskBackup
    | AskRequests
    | AskRequest,
    Field(discriminator="kind"),
]


class Quote(Received):
    """All amounts in micro-dollars; `refusal` is None when a create or update with this spec would pass now."""

    kind: Literal["quote"] = "quote"
    baseline_per_hour_u: int
    autoscale_per_hour_each_u: int
    worst_case_per_hour_u: int
    gate_u: int
    """Balance needed: max($10, 24 h x baseline of all enabled endpoints of the account after the change)."""
    warning_at_u: int
    balance_u: int
    gpus_total: int
    gpus_free: int
    """GPUs of the type that are not reserved for baselines of other endpoints."""
    refusal: str | None = None
    refusal_field: str | None = None


class LogLines(Received):
    kind: Literal["logs"] = "logs"
    worker_id: str
    label: str
    lines: tuple[str, ...]


class Logs(Received):
    kind: Literal["logs_of"] = "logs_of"
    workers: tuple[LogLines, ...]


class BillLine(Received):
    """One billing interval: a worker at one tier and rate. amount_u = floor(rate_uh * duration / 1 h)."""

    interval_id: str
    endpoint: str
    worker_id: str
    label: str
    gpu_type: str
    tier: Tier
    rate_uh: int
    start_ns: int
    end_ns: int | None
    """None while it runs."""
    seconds: float
    amount_u: int
    absorbed: bool
    end_source: str | None = None


class Bill(Received):
    kind: Literal["bill"] = "bill"
    account: str
    month: str | None
    lines: tuple[BillLine, ...]
    total_u: int
    absorbed_u: int
    topped_up_u: int
    balance_u: int
    simulated: bool = False
    """The bill of a lab: nobody owes it."""


class AccountTotals(Received):
    """What the entries of one account add up to, in micro-dollars: topped_up_u - billed_u = balance_u."""

    account: str
    topped_up_u: int
    billed_u: int
    absorbed_u: int
    balance_u: int


class Verification(Received):
    """`ok` is False for any problem. `drift_u` adds up by how much postings differ from what is due."""

    kind: Literal["verification"] = "verification"
    ok: bool
    intervals: int
    entries: int
    drift_u: int
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What could not be compared, such as rates of a price book that is not installed. No problem of the ledger."""
    rates: int = 0
    """Intervals whose rate was compared with its price book."""
    totals: tuple[AccountTotals, ...] = ()
    head: int = 0
    """Number of the last row of the journal."""
    head_hash: str = ""
    """Its hash in hexadecimal: written down, it proves later that nothing before it was changed."""


class Unanswered(Received):
    """The question made sense but has no answer: an unknown slug, worker or account."""

    kind: Literal["unanswered"] = "unanswered"
    code: Literal["not_found", "invalid", "unavailable"]
    message: str
