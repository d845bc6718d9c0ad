"""Requests that come while the state of an earlier life is still being read: a restart must not fail them.

Neither keys nor endpoints are known yet, so nothing can be said about the request; it waits, its body unread beyond
what has come already, and is admitted as if it came when everything is there. That takes a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from orchestrator.contract.base import SECOND_NS
from orchestrator.gateway.answers import Refusal
from orchestrator.gateway.head import RequestHead
from orchestrator.gateway.states import Task

if TYPE_CHECKING:
    from orchestrator.gateway.inbound import ClientConnection

PATIENCE_NS: Final = 30 * SECOND_NS
"""Longer than any start that succeeds: 503 after it."""


class Early:
    """One such request. `admit` is what would have been done with it at once."""

    __slots__ = ("_admit", "_client", "_complete", "_head", "_intake", "_request_id", "_since_ns", "_spans")

    def __init__(
        self,
        client: ClientConnection,
        head: RequestHead,
        request_id: bytes,
        admit: Callable[[ClientConnection, RequestHead], None],
    ) -> None:
        self._client = client
        self._head = head
        self._request_id = request_id
        self._admit = admit
        self._intake = client.intake
        self._since_ns = client.hub.now()
        self._spans: list[bytes] = []
        self._complete = False

    def body(self, span: bytes) -> None:
        self._spans.append(span)
        self._client.hold_for_buffer(True)

    def body_end(self) -> None:
        self._complete = True

    def sweep(self, now_ns: int) -> None:
        """Go on once everything is known."""
        if not self._client.hub.table.restoring:
            self._go_on()
        elif now_ns - self._since_ns > PATIENCE_NS:
            self.cut(Refusal(503, "starting", "The orchestrator is starting.", retry_after_s=1), failed=True)

    def _go_on(self) -> None:
        client = self._client
        client.request = None
        try:
            self._admit(client, self._head)
        except Refusal as refusal:
            client.refuse(refusal, self._request_id)
        client.hold_for_buffer(False)
        for span in self._spans:
            request = self._successor()
            if request is not None:
                request.body(span)
        request = self._successor()
        if request is not None and self._complete:
            request.body_end()

    def _successor(self) -> Task | None:
        """What the request has become; None once it has been answered. A request that was pipelined behind it is served
        as soon as it is answered: given the body of this one, it would hand it to a worker as a request of its own."""
        client = self._client
        return client.request if client.intake is self._intake else None

    def client_full(self, full: bool) -> None:
        """Nothing is being written yet."""

    def client_gone(self) -> None:
        """Nothing was begun yet."""

    def cut(self, refusal: Refusal, *, failed: bool) -> None:
        self._client.refuse(refusal, self._request_id)
