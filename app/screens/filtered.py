"""A screen with a list that a line of text filters."""

from __future__ import annotations

from typing import ClassVar

from textual import on

from app.screens.live import LiveScreen
from app.widgets.chrome import FilterBar
from app.widgets.panel import Panel


class FilteredScreen(LiveScreen):
    """`/` opens the filter line, and going back closes it before it leaves the screen.

    Subclasses compose a `FilterBar` and show what contains `needle`.
    """

    LISTED: ClassVar[type[Panel]]
    """What has the focus again once the line is left."""

    needle: str = ""
    """Empty: everything is shown."""

    def filter_note(self, otherwise: str) -> str:
        """What a panel says of the filter; `otherwise` while there is none."""
        return f"filter: {self.needle}" if self.needle else otherwise

    def action_filter(self) -> None:
        self.query_one(FilterBar).open()

    @on(FilterBar.Changed)
    def _filter(self, event: FilterBar.Changed) -> None:
        self.needle = event.needle
        self.show()
        self.refresh_bindings()

    @on(FilterBar.Left)
    def _leave_filter(self) -> None:
        self.query_one(self.LISTED).focus()

    def action_go_back(self) -> None:
        bar = self.query_one(FilterBar)
        if bar.is_open:
            bar.action_clear()
        else:
            super().action_go_back()
