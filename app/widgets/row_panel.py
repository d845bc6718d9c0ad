"""A panel of rows, one of which the cursor is on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.geometry import Region
from textual.message import Message
from textual.reactive import var

from app.widgets.panel import Panel


class RowPanel(Panel):
    """Subclasses say the key of each row in `row_keys`, in the order painted below `HEAD` lines.

    The cursor is a key and no number, so rows may come, go and be sorted anew under it.
    """

    HEAD: ClassVar[int] = 1
    cursor: var[str | None] = var(None)

    @dataclass
    class Moved(Message):
        """The cursor is on another row, or on none."""

        key: str | None

    @dataclass
    class Opened(Message):
        """The row under the cursor was clicked twice."""

        key: str

    def row_keys(self) -> list[str]:
        """A key for each row."""
        raise NotImplementedError

    @property
    def index(self) -> int:
        """Number of the row that the cursor is on, -1 when it is on none."""
        keys = self.row_keys()
        return keys.index(self.cursor) if self.cursor in keys else -1

    def _extra(self) -> object:
        return self.cursor

    def watch_view(self) -> None:
        keys = self.row_keys()
        if self.cursor not in keys:
            self.cursor = keys[0] if keys else None
        super().watch_view()

    def watch_cursor(self, key: str | None) -> None:
        self._repaint()
        self.post_message(self.Moved(key))

    def action_move(self, step: int) -> None:
        keys = self.row_keys()
        if self.cursor in keys:
            self.select(min(max(keys.index(self.cursor) + step, 0), len(keys) - 1))

    def action_move_to(self, index: int) -> None:
        if keys := self.row_keys():
            self.select(index % len(keys))

    def select(self, index: int) -> None:
        """Put the cursor on that row and bring it into view, the head with the first one."""
        self.cursor = self.row_keys()[index]
        self.scroll_to_region(Region(0, index and index + self.HEAD, 1, 1), animate=False)

    def on_click(self, event: events.Click) -> None:
        # By the screen: the click bubbles up from the body, whose own offsets it carries.
        index = event.screen_offset.y - self.content_region.y + int(self.scroll_y) - self.HEAD
        keys = self.row_keys()
        if 0 <= index < len(keys):
            if keys[index] == self.cursor and event.chain > 1:
                self.post_message(self.Opened(keys[index]))
            self.cursor = keys[index]
