"""The frame every panel shares: a titled border, a scrolling body of lines, and the four states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.geometry import Region, Size
from textual.reactive import var
from textual.strip import Strip
from textual.widget import Widget

from app.actions import PANEL_BINDINGS
from app.present.condition import LOADING, Condition, Kind
from app.present.lanes import Density
from app.present.text import BLANK, Line, Span, Tone, line, wrap
from app.widgets.content import StripMaker


class Body(Widget):
    """The panel's lines, at whatever width the panel has; only those that are in view are ever made into strips."""

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    Body { width: 1fr; height: auto; }
    """

    def __init__(self, panel: Panel) -> None:
        super().__init__()
        self._panel = panel
        self._lines: Sequence[Line] = ()
        self._painted: dict[int, Line] = {}
        """By row, what Textual keeps of this widget."""
        self._theme = ""
        self._maker: StripMaker | None = None

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self._panel.lines(width, container.height)) if width else 0

    def renew(self, lines: Sequence[Line], seen: range) -> None:
        """Have painted anew which of the `lines` in view differ from what was painted, and the others once they come
        into view. Comparing a line costs less than painting it."""
        outdated = [y for y, line in self._painted.items() if y not in seen or y >= len(lines) or lines[y] != line]
        for y in outdated:
            del self._painted[y]
        if outdated:
            self.refresh(*(Region(0, y, self.size.width, 1) for y in outdated))

    def render_lines(self, crop: Region) -> list[Strip]:
        self._lines = self._panel.lines(self.size.width, self._panel.scrollable_content_region.height)
        base = self.visual_style
        if self._maker is None or self._maker.base != base or self._theme != self.app.theme:
            self._maker, self._theme = StripMaker(base), self.app.theme
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        assert self._maker is not None, "lines are rendered by render_lines"
        line = self._painted[y] = self._lines[y] if y < len(self._lines) else BLANK
        return self._maker.strip(line)


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

    view: var[object] = var(None)
    condition: var[Condition] = var(LOADING)
    density: var[Density] = var(Density.NORMAL)
    note: var[str] = var("")
    """Right of the title: a count, the endpoint shown."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002  (Textual's own parameter name)
        super().__init__(id=id)
        self._body = Body(self)
        self._drawn: tuple[object, ...] | None = None
        self._lines: Sequence[Line] = ()

    def compose(self) -> ComposeResult:
        yield self._body

    def on_mount(self) -> None:
        self._retitle()

    def paint(self, width: int, height: int) -> Sequence[Line]:
        """The lines of the present `view`; none means the empty state."""
        raise NotImplementedError

    def lines(self, width: int, height: int) -> Sequence[Line]:
        """What the body shows in `width` cells; `height` is the room there is, for charts that fill it."""
        key = (width, height, self.view, self.condition, self.density, self._extra())
        if key != self._drawn:
            self._lines = self._compose_lines(width, height)
            self._drawn = key
        return self._lines

    def _extra(self) -> object:
        """Whatever else `paint` depends on, compared by equality."""
        return None

    def _compose_lines(self, width: int, height: int) -> Sequence[Line]:
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
        lines = self.lines(size.width, size.height) if size.width else ()
        if len(lines) != before:
            self._body.refresh(layout=True)
        else:
            # A layout pass for an unchanged number of lines would cost more than the painting.
            self._body.renew(lines, range(int(self.scroll_y), int(self.scroll_y) + size.height))

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
