"""The endpoint table and its cursor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.geometry import Region
from textual.message import Message
from textual.reactive import reactive

from app.present import endpoints
from app.present.text import Line
from app.widgets.panel import Panel
from orchestrator.contract.snapshot import EndpointView


class EndpointTable(Panel):
    """`view` is a tuple of `EndpointView`. The cursor names an endpoint, so it survives rows coming and going."""

    NUMBER = 1
    NAME = "Endpoints"
    EMPTY: ClassVar[str] = endpoints.NO_ENDPOINTS

    cursor: reactive[str | None] = reactive(None)
    filtered: reactive[bool] = reactive(False)

    @dataclass
    class Moved(Message):
        """Another endpoint is selected, or none."""

        slug: str | None

    @dataclass
    class Opened(Message):
        """The selected row was clicked again."""

        slug: str

    def paint(self, width: int, height: int) -> list[Line]:
        rows = self._endpoints()
        return endpoints.rows(rows, self.cursor, width) if rows else []

    def _extra(self) -> object:
        return self.cursor

    def _endpoints(self) -> tuple[EndpointView, ...]:
        return self.view if isinstance(self.view, tuple) else ()

    def _slugs(self) -> list[str]:
        return [endpoint.spec.slug for endpoint in self._endpoints()]

    def watch_view(self) -> None:
        slugs = self._slugs()
        if self.cursor not in slugs:
            self.cursor = slugs[0] if slugs else None
        super().watch_view()

    def watch_cursor(self, slug: str | None) -> None:
        self._repaint()
        self.post_message(self.Moved(slug))

    def action_move(self, step: int) -> None:
        slugs = self._slugs()
        if self.cursor in slugs:
            self._select(min(max(slugs.index(self.cursor) + step, 0), len(slugs) - 1))

    def action_move_to(self, index: int) -> None:
        if self._slugs():
            self._select(index % len(self._slugs()))

    def _select(self, index: int) -> None:
        self.cursor = self._slugs()[index]
        self.scroll_to_region(Region(0, index if index == 0 else index + 1, 1, 1), animate=False)

    def on_click(self, event: events.Click) -> None:
        # By the screen: the click bubbles up from the body, whose own offsets it carries.
        index = event.screen_offset.y - self.content_region.y + int(self.scroll_y) - 1
        if 0 <= index < len(self._slugs()):
            slug = self._slugs()[index]
            if slug == self.cursor and event.chain > 1:
                self.post_message(self.Opened(slug))
            self.cursor = slug
