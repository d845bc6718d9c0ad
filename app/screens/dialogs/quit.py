"""Leaving: with everything running, or drained and stopped."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal

from app.present import closing
from app.screens.dialogs.dialog import DialogScreen
from app.screens.dialogs.fields import ActionButton, Lines
from orchestrator.contract.command import Accepted, Command, Refused, Shutdown


class QuitDialog(DialogScreen):
    """Ends the app with `leave` or `drain`.

    Leaving sends nothing: the orchestrator is a process of its own and goes on serving. Draining ends the app once the
    orchestrator has agreed; a refusal or silence keeps the dialog open.
    """

    HEADING: ClassVar[str] = "Quit gpudeck"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "leave", "Leave running"),
        Binding("s", "drain", "Drain and stop"),
        Binding("n,q", "cancel", "Stay", show=False),
        Binding("down,j", "focus_button(1)", "Next", show=False),
        Binding("up,k", "focus_button(-1)", "Previous", show=False),
    ]
    DEFAULT_CSS = """
    QuitDialog .way { height: auto; margin-top: 1; }
    QuitDialog .way ActionButton { width: 28; margin-left: 0; text-align: left; content-align: left middle; }
    QuitDialog .way Lines { padding-left: 2; }
    """

    def body(self) -> ComposeResult:
        yield Lines(id="running")
        with Horizontal(classes="way"):
            yield ActionButton("Leave running", "l", "leave")
            yield Lines(id="leaving")
        with Horizontal(classes="way"):
            yield ActionButton("Drain and stop", "s", "drain", danger=True)
            yield Lines(id="draining")

    def buttons(self) -> ComposeResult:
        yield ActionButton("Stay", "esc", "cancel")

    def begin(self) -> None:
        busy = closing.running(*self.seen.endpoints).workers
        self.query_one("#do-leave" if busy else "#do-drain").focus()

    def show(self) -> None:
        self.query_one("#running", Lines).paint(lambda room: closing.quitting(self.seen, room))
        self.query_one("#leaving", Lines).paint(lambda room: closing.leaving(self.seen, room))
        self.query_one("#draining", Lines).paint(lambda room: closing.draining(self.seen, room))

    def action_leave(self) -> None:
        self.gpudeck.exit("leave")

    def action_drain(self) -> None:
        self.send(lambda command_id: Shutdown(id=command_id, mode="drain"))

    def accepted(self, command: Command, outcome: Accepted) -> None:
        self.gpudeck.exit("drain")

    def refused(self, command: Command, outcome: Refused) -> None:
        super().refused(command, outcome)
        self.query_one("#do-leave").focus()
