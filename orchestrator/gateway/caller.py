"""What an Exchange needs of whoever it serves: the connection of a client, or a call whose caller has gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from orchestrator.gateway.answers import Refusal

if TYPE_CHECKING:
    from orchestrator.gateway.hub import Hub


class Caller(Protocol):
    """All calls happen in the event loop. An exchange ends with exactly one of `over`, `refuse` and `abort`."""

    hub: Hub
    peer_line: bytes
    """The `x-forwarded-for` line for the worker, or empty."""
    reply_status: int
    must_close: bool

    @property
    def body_bytes(self) -> int:
        """How much of the request's body has come in."""

    def write(self, data: bytes) -> None:
        """Bytes of the reply: the head whole, with or without the beginning of the body, then the rest."""

    def connection_line(self) -> bytes:
        """The Connection field of the reply that begins now, or empty."""

    def hold_for_buffer(self, held: bool) -> None:
        """Stop or go on handing in the body: what may wait is full."""

    def hold_for_worker(self, held: bool) -> None:
        """Stop or go on handing in the body: the worker takes it slower."""

    def over(self, now_ns: int) -> None:
        """The reply is complete."""

    def refuse(self, refusal: Refusal, request_id: bytes) -> None:
        """There is no reply of a worker."""

    def abort(self, refusal: Refusal) -> None:
        """The reply broke off after it had begun, for this reason."""
