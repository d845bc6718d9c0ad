"""Every message that crosses a screen, in one place.

Two directions. Widgets and screens ask by posting (`CommandRequested`, `QuestionAsked`, `DialogWanted` …); these bubble
to the app, which alone holds the client. The app answers by posting (`CommandAnswered`, `QuestionAnswered` …) to the
screens on its stack. The feed (`SnapshotArrived`, `FeedLost`) reaches only the app, which keeps the newest snapshot;
screens watch that.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from textual.message import Message

from orchestrator.contract.accounting import Statement, StatementLine
from orchestrator.contract.command import Accepted, Command, Refused
from orchestrator.contract.endpoint import EndpointChanges
from orchestrator.contract.query import Query
from orchestrator.contract.snapshot import Snapshot


@dataclass
class SnapshotArrived(Message):
    """The orchestrator sent a whole new state. Newest wins: a slow terminal skips frames, it never lags behind."""

    snapshot: Snapshot

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, SnapshotArrived)


@dataclass
class FeedLost(Message):
    """The feed broke or could not be opened. The app tries again by itself."""

    reason: str


@dataclass
class CommandRequested(Message):
    """Somebody wants `command` run. Its id makes it safe to post the same object again.

    `quiet`: no toast when it took effect, because the user did not ask for it (a screen tidying up after itself).
    """

    command: Command
    quiet: bool = False


@dataclass
class CommandAnswered(Message):
    """The orchestrator answered `command`. Posted to the active screen; bubbles.

    A screen that shows the outcome itself (a form putting a refusal beside its field, the dialog that shows a new key)
    calls `event.stop()`; otherwise the app shows a toast.
    """

    command: Command
    outcome: Accepted | Refused
    quiet: bool = False


@dataclass
class CommandUnanswered(Message):
    """The orchestrator could not be reached, so it is unknown whether `command` ran. Posted like `CommandAnswered`.

    Posting the same command object again is safe: its id makes a second run return the first answer.
    """

    command: Command
    reason: str


@dataclass
class QuestionAsked(Message):
    """A screen wants the answer to `query`."""

    query: Query


@dataclass
class QuestionAnswered(Message, bubble=False):
    """The answer to `QuestionAsked(query)`, of the type that the contract names for it, or a `problem`."""

    query: Query
    answer: Any
    problem: str | None = None


@dataclass
class StatementWanted(Message):
    """A screen wants the whole statement of an account over a month, or over all time (None)."""

    account: str
    month: str | None


@dataclass
class StatementArrived(Message, bubble=False):
    """The answer to `StatementWanted(account, month)`: the statement with all its lines, or a `problem`."""

    account: str
    month: str | None
    statement: Statement | None = None
    lines: tuple[StatementLine, ...] = ()
    problem: str | None = None


class Dialog(StrEnum):
    """The modal dialogs a screen can ask for; `app.screens.dialogs.DIALOGS` says which class each one is."""

    CREATE = "create"
    EDIT = "edit"
    DELETE = "delete"
    DISABLE = "disable"
    KEYS = "keys"
    TOP_UP = "top_up"
    ACCOUNTS = "accounts"
    QUIT = "quit"


@dataclass
class DialogWanted(Message):
    """Open `dialog`, about the endpoint `slug` where the dialog is about one.

    EDIT opens with `changes` filled in, for the user to look at and save.
    """

    dialog: Dialog
    slug: str | None = None
    changes: EndpointChanges | None = None
