"""Changing an endpoint."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult

from app.present import form, offer
from app.present.form import Change, Texts
from app.present.text import BLANK, Line, Tone, wrap
from app.screens.dialogs.dialog import DialogScreen
from app.screens.dialogs.endpoint_form import EndpointForm
from app.screens.dialogs.fields import ActionButton, Lines
from orchestrator.contract.command import Command, UpdateEndpoint
from orchestrator.contract.endpoint import EndpointChanges, EndpointSpec
from orchestrator.contract.snapshot import Snapshot


class EditDialog(EndpointForm):
    """The same form, filled in. Shows what changes and what that does to the workers; sends the changed fields only.

    `changes` are filled in already, as if they had been typed; they count when the user saves. Raises LookupError when
    the snapshot has no endpoint of that slug.
    """

    HEADING: ClassVar[str] = "Edit"

    def __init__(self, snapshot: Snapshot, slug: str | None, changes: EndpointChanges | None = None) -> None:
        self._offered = changes  # before the form asks for its initial texts
        super().__init__(snapshot, slug)

    @property
    def heading(self) -> str:
        return f"Edit {self.slug}"

    def edited(self) -> EndpointSpec:
        for endpoint in self.seen.endpoints:
            if endpoint.spec.slug == self.slug:
                return endpoint.spec
        raise LookupError(f"no endpoint {self.slug}")

    def initial(self) -> Texts:
        spec = self.edited()
        return Texts.of(spec if self._offered is None else self._offered.apply(spec))

    def buttons(self) -> ComposeResult:
        yield ActionButton("Cancel", "esc", "cancel")
        yield ActionButton("Save changes", "^s", "submit", main=True)

    def begin(self) -> None:
        self.rows.go_to("baseline")

    @property
    def changes(self) -> tuple[Change, ...]:
        """What is different from the beginning; nothing while the form is not right."""
        if self.reading.spec is None or self.original is None:
            return ()
        return form.diff(self.original, self.reading.spec)

    def more_price(self, room: int) -> list[Line]:
        if self.reading.spec is None:
            return []
        compact = self.has_class("-compact")
        head = [] if compact else [BLANK, offer.heading("Changes", "", room)]
        return [*head, *offer.diff_rows(self.changes, room, compact=compact)]

    def submit(self, spec: EndpointSpec) -> None:
        if self.changes:
            super().submit(spec)
        else:
            self.say("Nothing has changed yet; esc leaves it as it is.")

    def make(self, command_id: str, spec: EndpointSpec) -> Command:
        assert self.original is not None, "an edit has an original"
        return UpdateEndpoint(id=command_id, slug=spec.slug, changes=form.update(self.original, spec))


class GoneDialog(DialogScreen):
    """Says that the endpoint was deleted between the key press and the dialog."""

    HEADING: ClassVar[str] = "Nothing to edit"

    def body(self) -> ComposeResult:
        yield Lines(lambda room: wrap(f"{self.slug} no longer exists.", room, Tone.MUTED))

    def buttons(self) -> ComposeResult:
        yield ActionButton("Close", "esc", "cancel")


def open_edit(snapshot: Snapshot, slug: str | None, changes: EndpointChanges | None = None) -> DialogScreen:
    """The edit dialog for `slug` with `changes` filled in, or one that says it is gone."""
    try:
        return EditDialog(snapshot, slug, changes)
    except LookupError:
        return GoneDialog(snapshot, slug)
