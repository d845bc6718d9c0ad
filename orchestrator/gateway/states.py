"""States of a client's connection, the reasons not to read from it, and what it asks of the request it serves."""

from __future__ import annotations

from typing import Final, Protocol

from orchestrator.gateway.answers import Refusal

# Plain integers, not an Enum: they are compared several times per request.

HEAD: Final = 0
"""Between requests, or a head is coming in."""
BODY: Final = 1
"""A request is being served and its body is coming in."""
BUSY: Final = 2
"""A request is being served, its body is complete."""
DISCARD: Final = 3
"""The request was answered before its body was complete: the rest is dropped."""
TUNNEL: Final = 4
"""No longer HTTP: bytes pass as they are."""
LINGER: Final = 5
"""Answered for the last time and half-closed: whatever comes is dropped."""
CLOSED: Final = 6

HOLD_BUFFER: Final = 1
"""Why the client is not read, as bits: the waiting body has filled its buffer,"""
HOLD_WORKER: Final = 2
"""the worker takes the body slower than it comes,"""
HOLD_PIPELINE: Final = 4
"""too many bytes of later requests are here already."""


class Task(Protocol):
    """What a connection needs of what it is serving: an Exchange or what may become one (Early, ModelCall), a Tunnel,
    or an asynchronous call on its way in or out (Waiting, Sending)."""

    def body(self, span: bytes) -> None: ...
    def body_end(self) -> None: ...
    def client_full(self, full: bool) -> None: ...
    def client_gone(self) -> None: ...
    def cut(self, refusal: Refusal, *, failed: bool) -> None: ...
    def sweep(self, now_ns: int) -> None: ...
