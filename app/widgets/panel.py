"""The frame every panel shares: a titled border, a scrolling body of lines, and the four states."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.geometry import Size
from textual.reactive import reactive
from textual.widget import Widget

from app.actions import PANEL_BINDINGS
from app.present.condition import LOADING, Condition, Kind
from app.present.lanes import Density
from app.present.text import Line, Span, Tone, line, wrap
from app.widgets.content import to_content


class Body(Widget):
    """The panel's lines, at whatever width the panel has. Foreign text reaches it as spans, never as markup."""

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    Body { width: 1fr; height: auto; text-wrap: nowrap; text-overflow: clip; }
    """

    def __init__(self, panel: Panel) -> None:
        super().__init__()
        self._panel = panel

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self._panel.lines(width, container.height)) if width else 0

    def render(self) -> Content:
        return to_content(self._panel.lines(self.size.width, self._panel.scrollable_content_region.height))


class Panel(VerticalScroll, can_focus=True):
    """A titled frame around lines. Subclasses say what they paint from `view`, which is whatever their presenter takes.

    Equal views do not repaint. `condition` decides what is drawn: a note while LOADING or FAILED, the lines otherwise,
    dimmed and with their age while STALE.
    """

    ALLOW_MAXIMIZE = True
    BINDINGS: ClassVar[list[BindingType]] = PANEL_BINDINGS
    DEFAULT_CSS = """
    Panel {
        border: round $tone-frame;
        border-title-color: $tone-muted;
        border-title-style: none;
        border-subtitle-color: $tone-faint;
        background: $background;
        padding: 0 1;
        scrollbar-size-vertical: 1;
        scrollbar-gutter: auto;
        &:focus { border: round $tone-accent; border-title-color: $tone-accent; border-title-style: bold; }
        &.-stale Body { opacity: 55%; }
        &.-stale { border-subtitle-color: $tone-starting; }
        &.-failed { border: round $tone-failed 60%; }
    }
    """
    NUMBER: ClassVar[int] = 0
    NAME: ClassVar[str] = ""
    EMPTY: ClassVar[str] = ""

    view: reactive[object] = reactive(None)
    condition: reactive[Condition] = reactive(LOADING)
    density: reactive[Density] = reactive(Density.NORMAL)
    note: reactive[str] = reactive("")
    """Right of the title: a count, the endpoint shown."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002  (Textual's own parameter name)
        super().__init__(id=id)
        self._body = Body(self)
        self._drawn: tuple[object, ...] | None = None
        self._lines: list[Line] = []

    def compose(self) -> ComposeResult:
        yield self._body

    def on_mount(self) -> None:
        self._retitle()

    def paint(self, width: int, height: int) -> list[Line]:
        """The lines of the present `view`; none means the empty state."""
        raise NotImplementedError

    def lines(self, width: int, height: int) -> list[Line]:
        """What the body shows in `width` cells; `height` is the room there is, for charts that fill it."""
        key = (width, height, self.view, self.condition, self.density, self._extra())
        if key != self._drawn:
            self._lines = self._compose_lines(width, height)
            self._drawn = key
        return self._lines

    def _extra(self) -> object:
        """Whatever else `paint` depends on, compared by equality."""
        return None

    def _compose_lines(self, width: int, height: int) -> list[Line]:
        if self.condition.kind is Kind.LOADING:
            return [line(Span("◐ ", Tone.STARTING), Span(self.condition.note, Tone.MUTED))]
        if self.condition.kind is Kind.FAILED:
            return wrap(f"✖ {self.condition.note}", width, Tone.FAILED)
        return self.paint(width, height) or self._empty(width)

    def _empty(self, width: int) -> list[Line]:
        first, _, rest = self.label[2].partition("\n")
        return wrap(first, width, Tone.STRONG if rest else Tone.MUTED) + wrap(rest, width, Tone.MUTED)

    def watch_view(self) -> None:
        self._repaint()

    def watch_density(self) -> None:
        self._repaint()

    def watch_condition(self, condition: Condition) -> None:
        self.set_class(condition.kind is Kind.STALE, "-stale")
        self.set_class(condition.kind is Kind.FAILED, "-failed")
        self._retitle()
        self._repaint()

    def watch_note(self) -> None:
        self._retitle()

    def _repaint(self) -> None:
        if not self.is_mounted:
            return
        before = len(self._lines)
        size = self.scrollable_content_region
        count = len(self.lines(size.width, size.height)) if size.width else -1
        # A layout pass for an unchanged number of lines would cost more than the painting.
        self._body.refresh(layout=count != before)

    @property
    def label(self) -> tuple[int, str, str]:
        """Number (0 for none), name and the sentence of the empty state."""
        return self.NUMBER, self.NAME, self.EMPTY

    def _retitle(self) -> None:
        number, name, _ = self.label
        title = Content.assemble((f"{number} ", "$tone-faint"), name) if number else Content(name)
        self.border_title = Content.assemble(title, (f"  {self.note}", "$tone-faint")) if self.note else title
        self.border_subtitle = Content(self.condition.note) if self.condition.kind is Kind.STALE else ""

    def action_move(self, step: int) -> None:
        self.scroll_relative(y=step, animate=False)

    def action_move_to(self, index: int) -> None:
        if index < 0:
            self.scroll_end(animate=False)
        else:
            self.scroll_home(animate=False)
