"""Commands: what may be asked of the orchestrator, and its two possible answers.

A command carries an id made by the caller. Sending the same id again returns the first answer and does nothing
(at-most-once effect over an at-least-once road); the same id with another body is refused as `id_reused`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from orchestrator.contract.base import Frozen
from orchestrator.contract.deferred import CancelRequest, RotateWebhookSecret
from orchestrator.contract.endpoint import EndpointChanges, EndpointSpec
from orchestrator.contract.faults import InjectFault
from orchestrator.contract.lab import SetSpeed
from orchestrator.contract.limits import KEY_ENDPOINTS_MAX, CommandId, MailAddress, Name, Slug


class CreateEndpoint(Frozen):
    kind: Literal["create_endpoint"] = "create_endpoint"
    id: CommandId
    spec: EndpointSpec


class UpdateEndpoint(Frozen):
    kind: Literal["update_endpoint"] = "update_endpoint"
    id: CommandId
    slug: Slug
    changes: EndpointChanges


class EnableEndpoint(Frozen):
    """Start a disabled, suspended or failed endpoint; passes the credit gate again."""

    kind: Literal["enable_endpoint"] = "enable_endpoint"
    id: CommandId
    slug: Slug


class DisableEndpoint(Frozen):
    """Stop admitting, drain, stop all workers; the endpoint stays listed."""

    kind: Literal["disable_endpoint"] = "disable_endpoint"
    id: CommandId
    slug: Slug


class DeleteEndpoint(Frozen):
    """Drain, stop all workers, forget the endpoint (its bill stays)."""

    kind: Literal["delete_endpoint"] = "delete_endpoint"
    id: CommandId
    slug: Slug


class CreateAccount(Frozen):
    kind: Literal["create_account"] = "create_account"
    id: CommandId
    name: Name
    mail: MailAddress | None = None
    """Where its warnings go; None means the operator's address (`mail_to` of the settings)."""


class SetMail(Frozen):
    """Where the warnings of an account go from now on; None means the operator's address."""

    kind: Literal["set_mail"] = "set_mail"
    id: CommandId
    account: str
    mail: MailAddress | None


class TopUp(Frozen):
    """Add credit. The command id is the idempotency key of the posting."""

    kind: Literal["top_up"] = "top_up"
    id: CommandId
    account: str
    amount_u: int = Field(gt=0, le=1_000_000_000_000)
    memo: str = Field(default="top-up", max_length=200)


class CreateKey(Frozen):
    """A new API key. Its secret is in the answer, once, and nowhere else."""

    kind: Literal["create_key"] = "create_key"
    id: CommandId
    account: str = "local"
    name: Name
    ttl_s: int | None = Field(default=None, ge=1, le=10 * 365 * 86_400)
    endpoints: tuple[Slug, ...] = Field(default=(), max_length=KEY_ENDPOINTS_MAX)
    """The only endpoints it may call; empty means all that its account may."""


class RevokeKey(Frozen):
    kind: Literal["revoke_key"] = "revoke_key"
    id: CommandId
    key_id: str


class Shutdown(Frozen):
    """Stop the orchestrator. `leave` keeps workers running (and billing) for the next one to adopt; `drain` lets
    requests finish, stops every worker and closes every interval."""

    kind: Literal["shutdown"] = "shutdown"
    id: CommandId
    mode: Literal["leave", "drain"]


Command = Annotated[
    CreateEndpoint
    | UpdateEndpoint
    | EnableEndpoint
    | DisableEndpoint
    | DeleteEndpoint
    | CreateAccount
    | SetMail
    | TopUp
    | CreateKey
    | RevokeKey
    | Shutdown
    | CancelRequest
    | RotateWebhookSecret
    | SetSpeed
    | InjectFault,
    Field(discriminator="kind"),
]


class RefusalCode(StrEnum):
    """Why a command changed nothing. Stable: scripts branch on it."""

    INVALID = "invalid"
    NOT_FOUND = "not_found"
    EXISTS = "exists"
    LIMIT = "limit"
    CREDIT = "credit"
    GPU = "gpu"
    STATE = "state"
    ID_REUSED = "id_reused"
    STOPPING = "stopping"
    LEDGER = "ledger"


class Accepted(Frozen):
    """The command took effect and is on disk."""

    kind: Literal["accepted"] = "accepted"
    id: CommandId
    message: str
    key_id: str | None = None
    secret: str | None = Field(default=None, repr=False)
    """Only in the first answer to CreateKey (a replay of the same id has None here), and to RotateWebhookSecret."""


class Refused(Frozen):
    """The command changed nothing. `message` is a sentence that names the field and the limit."""

    kind: Literal["refused"] = "refused"
    id: CommandId
    code: RefusalCode
    message: str
    field: str | None = None
    needed_u: int | None = None
    available_u: int | None = None


Outcome = Annotated[Accepted | Refused, Field(discriminator="kind")]
