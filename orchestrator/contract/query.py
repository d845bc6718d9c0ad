"""Questions with an answer that does not belong into every snapshot. A query never changes anything."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from orchestrator.contract.base import Frozen, Received
from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.contract.limits import Slug
from orchestrator.contract.snapshot import Tier


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
    month: str | None = Field(default=None, pattern=r"^\d{4}-(0[1-9]|1[0-2])$")


class AskVerify(Frozen):
    """Recompute every amount of the ledger from its intervals."""

    kind: Literal["verify"] = "verify"


Query = Annotated[AskSnapshot | AskQuote | AskLogs | AskBill | AskVerify, Field(discriminator="kind")]


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


class Verification(Received):
    kind: Literal["verification"] = "verification"
    ok: bool
    intervals: int
    entries: int
    drift_u: int
    problems: tuple[str, ...]


class Unanswered(Received):
    """The question made sense but has no answer: an unknown slug, worker or account."""

    kind: Literal["unanswered"] = "unanswered"
    code: Literal["not_found", "invalid", "unavailable"]
    message: str
