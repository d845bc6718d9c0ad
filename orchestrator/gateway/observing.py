"""What may be known of a request that is over, and the port of whoever wants to know it (access log, traces)."""

from __future__ import annotations

import re
from typing import Final, NamedTuple, Protocol

from orchestrator.gateway.head import RequestHead

_TRACEPARENT: Final = re.compile(
    rb"[Tt][Rr][Aa][Cc][Ee][Pp][Aa][Rr][Ee][Nn][Tt]:[ \t]*"
    rb"((?!ff|00.{53}-)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[!-~]*)?)[ \t]*"
).fullmatch
"""Only versions after 00 may say more than the four parts that we know (W3C Trace Context 3.2.2.3 and 4)."""
LEFT: Final = 499
"""The client left before its reply was complete: nginx's number for it."""


class Ended(NamedTuple):
    """A request that is over. Instants and spans are nanoseconds, sizes those of bodies."""

    at_ns: int
    request_id: bytes
    head: RequestHead
    slug: str
    account: str
    key_id: str
    worker_id: str | None
    status: int
    queue_ns: int
    total_ns: int
    bytes_in: int
    bytes_out: int
    cold: bool


class Observer(Protocol):
    """Called on the request path: hand over and return."""

    def admitted(self, head: RequestHead) -> RequestHead:
        """The request goes to an endpoint. The head to go on with: this one, or a copy with other fields (heads are
        remembered by their bytes, so none may be changed)."""

    def ended(self, request: Ended) -> None:
        """It is over, whether a worker answered or not."""

    def answered(self, head: RequestHead | None, request_id: bytes, status: int, bytes_out: int) -> None:
        """The gateway answered by itself, or its client left before that (LEFT); `head` is None when it could not be
        read."""


def traceparent_of(kept: list[bytes]) -> bytes | None:
    """The value of a valid `traceparent` (W3C Trace Context) among the field lines. Several make none valid."""
    found = [match[1] for line in kept if line[:1] in b"tT" and (match := _TRACEPARENT(line)) is not None]
    return found[0] if len(found) == 1 else None
