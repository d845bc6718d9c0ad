"""Several of several: the endpoints that a key may call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.reactive import reactive

from app.present import keys
from app.present.text import Span, Tone
from app.screens.dialogs.fields import ListChoice
from orchestrator.contract.snapshot import EndpointView

ALL = ""
"""The first row: no list of slugs, which holds for endpoints that are made later too."""


class ScopeChoice(ListChoice):
    """Rows to tick. A ticked endpoint stays in the list when it disappears: without it the key would open more."""

    WHEELED = True
    BINDINGS: ClassVar[list[BindingType]] = [Binding("space", "tick", "Tick", show=False)]

    ticked: reactive[frozenset[str]] = reactive(frozenset())

    @dataclass
    class Ticked(Message):
        """The user ticked something in `choice`, or took a tick away."""

        choice: ScopeChoice

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.chosen = ALL

    @property
    def scope(self) -> tuple[str, ...]:
        """The slugs; none means all."""
        return tuple(sorted(self.ticked))

    def offer_endpoints(self, endpoints: Sequence[EndpointView], account: str) -> None:
        """The endpoints that `account` may call, as they are now."""
        rows = keys.scope_rows(endpoints, account, self.ticked)
        self.offer([ALL, *(row.slug for row in rows)], lambda room: [keys.all_row(), *(row.text for row in rows)])
        if self.chosen not in self.keys:
            self.chosen = ALL

    def toggle(self, key: str) -> None:
        """Tick `key`, or take its tick away; ALL takes every tick away."""
        self.chosen = key
        self.ticked = frozenset() if key == ALL else self.ticked ^ {key}
        self.post_message(self.Ticked(self))

    def action_tick(self) -> None:
        self.toggle(self.chosen or ALL)

    def on_click(self, event: events.Click) -> None:
        event.prevent_default()  # a click of the list below only moves the cursor
        offset = event.get_content_offset(self)
        if offset is not None and 0 <= self._top + offset.y < len(self.keys):
            self.toggle(self.keys[self._top + offset.y])

    def _mark(self, key: str) -> Span:
        ticked = key in self.ticked if key != ALL else not self.ticked
        return Span("■ ", Tone.ACCENT) if ticked else Span("□ ", Tone.FAINT)
