"""Frames on the Unix socket: one JSON object a line, UTF-8, at most FRAME_BYTES_MAX bytes.

The server speaks first (`Hello`); the client answers with its own `Hello`, then sends requests. `Subscribe` turns on
the feed: a whole `Feed` at once, and after each `More` of the client a `Changed`, made from the state at that moment.
So the newest wins (a slow reader skips states, it never delays the orchestrator), and nothing is lost in between.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field, TypeAdapter

from orchestrator.contract.accounting import BackupMade, Comparison, JournalPage, Statement
from orchestrator.contract.base import Frozen, Received
from orchestrator.contract.command import Command, Outcome
from orchestrator.contract.decision import Decisions
from orchestrator.contract.deferred import RequestList, RequestShown
from orchestrator.contract.ended import EndedWorkers
from orchestrator.contract.history import History
from orchestrator.contract.query import Bill, Logs, Query, Quote, Unanswered, Verification
from orchestrator.contract.routing import Routing
from orchestrator.contract.snapshot import Snapshot

FRAME_BYTES_MAX: Final = 16 * 1024 * 1024


class Hello(Received):
    """Handshake. A peer with another `protocol` gets an `Error` with code `version` and is closed."""

    kind: Literal["hello"] = "hello"
    protocol: int
    version: str
    pid: int
    instance: str = ""


class Subscribe(Frozen):
    kind: Literal["subscribe"] = "subscribe"
    per_second: float = Field(default=4.0, gt=0.0, le=20.0)


class More(Frozen):
    """The frame of the feed before has been taken: the next one may come, no sooner than `per_second` allows."""

    kind: Literal["more"] = "more"


class Send(Frozen):
    """A command; the answer is `Sent` with the same tag."""

    kind: Literal["send"] = "send"
    tag: int
    command: Command


class Ask(Frozen):
    kind: Literal["ask"] = "ask"
    tag: int
    query: Query


ClientFrame = Annotated[Hello | Subscribe | More | Send | Ask, Field(discriminator="kind")]


class Feed(Received):
    kind: Literal["feed"] = "feed"
    snapshot: Snapshot


class Changed(Received):
    """What is different in the next snapshot of the feed (contract/feed.py)."""

    kind: Literal["changed"] = "changed"
    since: int
    """`seq` of the snapshot before, to which the changes belong."""
    changes: dict[str, Any]


class Sent(Received):
    kind: Literal["sent"] = "sent"
    tag: int
    outcome: Outcome


class SnapshotAnswer(Received):
    kind: Literal["snapshot_answer"] = "snapshot_answer"
    snapshot: Snapshot


Answer = Annotated[
    SnapshotAnswer
    | Quote
    | Logs
    | Bill
    | Verification
    | Statement
    | Comparison
    | JournalPage
    | History
    | Decisions
    | Routing
    | EndedWorkers
    | BackupMade
    | RequestList
    | RequestShown
    | Unanswered,
    Field(discriminator="kind"),
]


class Answered(Received):
    kind: Literal["answered"] = "answered"
    tag: int
    answer: Answer


class Error(Received):
    """The connection is closed after it, except with a tag: then only that request failed."""

    kind: Literal["error"] = "error"
    code: Literal["version", "frame", "peer", "internal"]
    message: str
    tag: int | None = None


ServerFrame = Annotated[Hello | Feed | Changed | Sent | Answered | Error, Field(discriminator="kind")]

CLIENT_FRAMES: Final[TypeAdapter[ClientFrame]] = TypeAdapter(ClientFrame)
SERVER_FRAMES: Final[TypeAdapter[ServerFrame]] = TypeAdapter(ServerFrame)
