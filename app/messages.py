"""Every message that crosses a screen, in one place.

Two directions. Widgets and screens ask by posting (`CommandRequested`, `QuoteWanted`, `LogsWanted`, `DialogWanted`);
these bubble to the app, which alone holds the client. The app answers by posting (`CommandAnswered`, `QuoteArrived`,
`LogsArrived`) to the screens on its stack. The feed (`SnapshotArrived`, `FeedLost`) reaches only the app, which keeps
the newest snapshot; screens watch that.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from textual.message import Message

from orchestrator.contract.command import Accepted, Command, Refused
from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.contract.query import Logs, Quote
from orchestrator.contract.snapshot import Snapshot


@dataclass
class SnapshotArrived(Message):
    """The orchestrator sent a whole new state. Newest wins: a slow terminal skips frames, it never lags behind."""

    snapshot: Snapshot

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, SnapshotArrived)


@dataclass
class FeedLost(Message):
    """The feed broke or could not be opened. The app tries again by itself; `retry_s` seconds from now."""

    reason: str
    retry_s: float


@dataclass
class CommandRequested(Message):
    """Somebody wants `command` run. Its id makes it safe to post the same object again."""

    command: Command


@dataclass
class CommandAnswered(Message):
    """The orchestrator answered `command`. Posted to the active screen; bubbles.

    A screen that shows the outcome itself (a form putting a refusal beside its field, the dialog that shows a new key)
    calls `event.stop()`; otherwise the app shows a toast.
    """

    command: Command
    outcome: Accepted | Refused


@dataclass
class CommandUnanswered(Message):
    """The orchestrator could not be reached, so it is unknown whether `command` ran. Posted like `CommandAnswered`.

    Posting the same command object again is safe: its id makes a second run return the first answer.
    """

    command: Command
    reason: str


@dataclass
class QuoteWanted(Message):
    """A form wants price and admission for `spec`."""

    spec: EndpointSpec


@dataclass
class QuoteArrived(Message, bubble=False):
    """The answer to `QuoteWanted(spec)`: either `quote` or, when there is none, a `problem` for the user to read."""

    spec: EndpointSpec
    quote: Quote | None
    problem: str | None = None


@dataclass
class LogsWanted(Message):
    """A screen wants the newest `tail` log lines of one worker, or of every worker of the endpoint (worker None)."""

    slug: str
    worker: str | None = None
    tail: int = 400


@dataclass
class LogsArrived(Message, bubble=False):
    """The answer to `LogsWanted(slug, worker)`: either `logs` or, when there are none, a `problem`."""

    slug: str
    worker: str | None
    logs: Logs | None
    problem: str | None = None


class Dialog(StrEnum):
    """The modal dialogs a screen can ask for; `app.screens.dialogs.DIALOGS` says which class each one is."""

    CREATE = "create"
    EDIT = "edit"
    DELETE = "delete"
    DISABLE = "disable"
    KEYS = "keys"
    TOP_UP = "top_up"
    QUIT = "quit"


@dataclass
class DialogWanted(Message):
    """Open `dialog`, about the endpoint `slug` where the dialog is about one."""

    dialog: Dialog
    slug: str | None = None
