"""Asking before something is stopped, deleted or revoked."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from app.present import closing
from app.present.text import Line, Tone, wrap
from app.screens.dialogs.dialog import DialogScreen
from app.screens.dialogs.fields import ActionButton, Lines
from orchestrator.contract.command import Command, DeleteEndpoint, DisableEndpoint
from orchestrator.contract.snapshot import EndpointView


class ConfirmDialog(DialogScreen):
    """Says what will happen, with the figures of this moment. The focus starts on the button that changes nothing."""

    VERB: ClassVar[str]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "confirm", "Yes"),
        Binding("n", "cancel", "No"),
    ]
    DEFAULT_CSS = """
    ConfirmDialog #frame { border: round $tone-failed; border-title-color: $tone-failed; }
    """

    def make(self, command_id: str) -> Command:
        """The command that yes sends."""
        raise NotImplementedError

    def consequences(self, room: int) -> list[Line]:
        """What yes does."""
        raise NotImplementedError

    def body(self) -> ComposeResult:
        yield Lines(self.consequences, id="consequences")

    def buttons(self) -> ComposeResult:
        yield ActionButton("No, keep it", "n", "cancel")
        yield ActionButton(f"Yes, {self.VERB.lower()}", "y", "confirm", danger=True)

    def begin(self) -> None:
        self.query_one("#do-cancel").focus()

    def show(self) -> None:
        self.query_one("#consequences", Lines).paint(self.consequences)

    def action_confirm(self) -> None:
        self.send(self.make)


class EndpointConfirm(ConfirmDialog):
    """About the endpoint `slug`."""

    FORGETS: ClassVar[bool]

    @property
    def heading(self) -> str:
        return f"{self.VERB} {self.slug}?"

    @property
    def endpoint(self) -> EndpointView | None:
        """The endpoint as it is now; None when it is gone."""
        return next((each for each in self.seen.endpoints if each.spec.slug == self.slug), None)

    def consequences(self, room: int) -> list[Line]:
        if self.endpoint is None:
            return wrap(f"{self.slug} no longer exists.", room, Tone.MUTED)
        return closing.stopping(self.endpoint, room, forget=self.FORGETS)


class DeleteDialog(EndpointConfirm):
    """Drain and forget."""

    VERB = "Delete"
    FORGETS = True

    def make(self, command_id: str) -> Command:
        return DeleteEndpoint(id=command_id, slug=self.slug or "")


class DisableDialog(EndpointConfirm):
    """Drain and stop; it stays listed."""

    VERB = "Disable"
    FORGETS = False

    def make(self, command_id: str) -> Command:
        return DisableEndpoint(id=command_id, slug=self.slug or "")
