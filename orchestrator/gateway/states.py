"""States of a client's connection, the reasons not to read from it, and what it asks of the request it serves."""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol

from orchestrator.gateway.answers import Refusal


class State(IntEnum):
    HEAD = 0
    BODY = 1
    BUSY = 2
    DISCARD = 3
    LINGER = 4
    CLOSED = 5


class Hold(IntEnum):
    """Reasons not to read from the client, as bits."""

    BUFFER = 1
    WORKER = 2
    PIPELINE = 4


class Task(Protocol):
    """What a connection needs of the request it is serving (an Exchange, or a ModelCall on its way to be one)."""

    def body(self, span: bytes) -> None: ...
    def body_end(self) -> None: ...
    def client_full(self, full: bool) -> None: ...
    def client_gone(self) -> None: ...
    def cut(self, refusal: Refusal, *, failed: bool) -> None: ...
    def sweep(self, now_ns: int) -> None: ...
