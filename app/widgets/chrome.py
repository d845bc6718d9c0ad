"""What surrounds the panels: title bar, banner, filter line, and the note that the terminal is too small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from textual import on
from textual.app import ComposeResult, RenderResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import Input, Label, Static

from app.present import header
from app.present.condition import FeedState
from app.present.text import BLANK, Line, Span, Tone
from app.widgets.content import to_content
from orchestrator.contract.snapshot import Snapshot

SMALLEST: Final = (60, 20)


class TitleBar(Widget):
    """One line: product, engine, badge, address; connection at the right."""

    DEFAULT_CSS = """
    TitleBar { height: 1; background: $panel; text-wrap: nowrap; }
    """
    shown: reactive[Line] = reactive(BLANK)
    """What the bar says: most snapshots change nothing of it."""

    def __init__(self, *, readonly: bool) -> None:
        super().__init__()
        self._readonly = readonly
        self._about: tuple[Snapshot | None, FeedState] = (None, FeedState())

    def show(self, snapshot: Snapshot | None, feed: FeedState) -> None:
        self._about = snapshot, feed
        self.on_resize()

    def on_resize(self) -> None:
        self.shown = header.title_bar(*self._about, self.size.width, readonly=self._readonly)

    def render(self) -> RenderResult:
        return to_content([self.shown])


class Banner(Static):
    """The one thing that needs attention before anything else; absent when nothing does."""

    DEFAULT_CSS = """
    Banner { height: auto; max-height: 2; padding: 0 1; display: none; text-style: bold; }
    Banner.-warning { display: block; color: $tone-badge; background: $tone-starting; }
    Banner.-error { display: block; color: $tone-badge; background: $tone-failed; }
    """

    found: Span | None = None

    def show(self, snapshot: Snapshot | None, feed: FeedState) -> None:
        found = header.banner(snapshot, feed)
        if found == self.found:
            return  # a text set anew is a new layout of the whole screen
        self.found = found
        self.set_class(found is not None and found.tone is Tone.STARTING, "-warning")
        self.set_class(found is not None and found.tone is Tone.FAILED, "-error")
        self.update(Content(f"▲ {found.text}") if found else "")


class FilterBar(Horizontal):
    """A line to type a filter into; hidden while there is none."""

    DEFAULT_CSS = """
    FilterBar { height: 1; display: none; background: $panel; padding: 0 1; }
    FilterBar.-open { display: block; layout: horizontal; }
    FilterBar Label { color: $tone-accent; text-style: bold; width: auto; padding-right: 1; }
    FilterBar Input, FilterBar Input:focus { border: none; height: 1; padding: 0; background: $panel; width: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "clear", "Clear filter")]

    @dataclass
    class Changed(Message):
        """The filter is now `needle`; empty means none."""

        needle: str

    @dataclass
    class Left(Message):
        """The filter line was left; the filter stays."""

    def compose(self) -> ComposeResult:
        yield Label("/")
        yield Input(placeholder="text to look for · enter keeps it, esc clears it", compact=True)

    def open(self) -> None:
        self.add_class("-open")
        self.query_one(Input).focus()

    @property
    def is_open(self) -> bool:
        return self.has_class("-open")

    @on(Input.Changed)
    def _change(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Changed(event.value))

    @on(Input.Submitted)
    def _keep(self, event: Input.Submitted) -> None:
        event.stop()
        if not event.value:
            self.remove_class("-open")
        self.post_message(self.Left())

    def action_clear(self) -> None:
        self.query_one(Input).value = ""
        self.remove_class("-open")
        self.post_message(self.Left())


class TooSmall(Static):
    """Shown instead of everything else below `SMALLEST`; the app goes on behind it."""

    DEFAULT_CSS = """
    TooSmall {
        display: none; width: 100%; height: 100%; color: $tone-muted;
        content-align: center middle; text-align: center;
    }
    """

    def note(self, width: int, height: int) -> None:
        wide, high = SMALLEST
        self.update(Content(f"terminal too small\n(needs {wide}x{high}, has {width}x{height})"))
