"""Asynchronous calls (`POST /v2/{slug}`): their states, and how one is shown to its owner and to the operator.

QUEUED ──a worker took it──▶ PROCESSING ──▶ COMPLETED | FAILED
   ▲                             │
   └── the worker was lost, ─────┘
       attempts are left
QUEUED | PROCESSING ──▶ CANCELLED          QUEUED ──too old, endpoint deleted──▶ FAILED
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field

from orchestrator.contract.base import Frozen, Received
from orchestrator.contract.limits import CommandId, Slug

REQUEST_ID_PATTERN: Final = r"^[0-9a-f]{32}$"
RequestId = Annotated[str, Field(pattern=REQUEST_ID_PATTERN)]


class RequestState(StrEnum):
    """Upper case: that is how the states are spelt on the wire (design.md section 1, HTTP)."""

    QUEUED = "QUEUED"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def over(self) -> bool:
        return self not in (RequestState.QUEUED, RequestState.PROCESSING)


class WebhookView(Received):
    """What became of the notification. Of its URL only the origin is shown: paths of webhooks hold secrets."""

    origin: str
    state: Literal["waiting", "owed", "delivered", "given_up"]
    attempts: int
    problem: str | None = None


class RequestView(Received):
    """One asynchronous call. Instants are wall-clock nanoseconds, None while they have not come."""

    request_id: RequestId
    endpoint: str
    account: str
    key_id: str
    state: RequestState
    accepted_ns: int
    started_ns: int | None = None
    """When a worker took it, the last time."""
    ended_ns: int | None = None
    purged_ns: int | None = None
    """When its result goes; known once it is over."""
    attempts: int
    attempts_max: int
    body_bytes: int
    result_bytes: int = 0
    position: int | None = None
    """Its place in the endpoint's queue of asynchronous calls, from 1 on, while QUEUED."""
    worker_status: int | None = None
    """HTTP status of the worker's reply."""
    worker_id: str | None = None
    code: str | None = None
    """Why it is FAILED, for machines."""
    reason: str | None = None
    """The same as a sentence; while QUEUED, what it waits for besides its turn."""
    webhook: WebhookView | None = None


class AskRequests(Frozen):
    """The newest `limit` asynchronous calls, of an account, an endpoint, in some states; None means all."""

    kind: Literal["requests"] = "requests"
    account: str | None = None
    slug: Slug | None = None
    states: tuple[RequestState, ...] = ()
    limit: int = Field(default=100, ge=1, le=1_000)


class AskRequest(Frozen):
    """One asynchronous call. With an account, only if it is that account's."""

    kind: Literal["request"] = "request"
    request_id: RequestId
    account: str | None = None


class CancelRequest(Frozen):
    """End an asynchronous call that is not over. With an account, only if it is that account's."""

    kind: Literal["cancel_request"] = "cancel_request"
    id: CommandId
    request_id: RequestId
    account: str | None = None


class RotateWebhookSecret(Frozen):
    """A new secret to sign the webhooks of an account with; the answer carries it. The one before stays valid beside
    it for a day."""

    kind: Literal["rotate_webhook_secret"] = "rotate_webhook_secret"
    id: CommandId
    account: str = "local"


class RequestList(Received):
    kind: Literal["request_list"] = "request_list"
    requests: tuple[RequestView, ...]
    """Newest first."""
    counts: dict[RequestState, int] = Field(default_factory=dict)
    """Of all that match account and endpoint, not only of those listed."""


class RequestShown(Received):
    kind: Literal["request_shown"] = "request_shown"
    request: RequestView
