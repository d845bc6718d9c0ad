"""What dialogs are made of: toned lines, choices, one-line inputs, labelled rows, buttons.

All text reaches the screen as `Content`, so nothing that came from outside is parsed as markup.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import Button, Input, Static, TextArea

from app.present.form import LABELS
from app.present.text import Line, Span, Tone, line, on_ground, pad, width
from app.widgets.content import to_content

Painter = Callable[[int], list[Line]]
"""From the room in cells to lines."""


class Lines(Widget):
    """Lines of a presenter, painted again at every width."""

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    Lines { width: 1fr; height: auto; text-wrap: nowrap; text-overflow: clip; }
    """

    def __init__(self, painter: Painter | None = None, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._painter: Painter = painter or (lambda _: [])
        self._shown: list[Line] | None = None

    def paint(self, painter: Painter) -> None:
        """Show what `painter` returns from now on. Equal lines cost nothing, an equal number of them no layout."""
        self._painter = painter
        room, before = self.size.width, self._shown
        lines = painter(room) if room else None
        if lines is None or lines != before:
            self.refresh(layout=lines is None or before is None or len(lines) != len(before))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self._painter(width)) if width else 0

    def render(self) -> Content:
        self._shown = self._painter(self.size.width)
        return to_content(self._shown)


class Choice(Widget, can_focus=True):
    """One of several. The chosen one follows the arrows at once; there is nothing to confirm."""

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    Choice { width: 1fr; height: auto; text-wrap: nowrap; text-overflow: clip; pointer: pointer; }
    """

    chosen: reactive[str | None] = reactive(None)

    @dataclass
    class Picked(Message):
        """The user chose `key` in `choice`."""

        choice: Choice
        key: str

        @property
        def control(self) -> Choice:
            return self.choice

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.keys: tuple[str, ...] = ()

    def action_step(self, step: int) -> None:
        if self.keys:
            at = self.keys.index(self.chosen) + step if self.chosen in self.keys else 0
            self.pick(self.keys[min(max(at, 0), len(self.keys) - 1)])

    def action_jump(self, index: int) -> None:
        if self.keys:
            self.pick(self.keys[index])

    def pick(self, key: str) -> None:
        """Choose as the user would."""
        if key != self.chosen:
            self.chosen = key
            self.post_message(self.Picked(self, key))

    def lines(self, room: int) -> list[Line]:
        """All lines in `room` cells."""
        raise NotImplementedError

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return max(len(self.lines(width)), 1) if width else 1

    def render(self) -> Content:
        return to_content(self.lines(self.size.width))

    def watch_has_focus(self, has_focus: bool) -> None:
        super().watch_has_focus(has_focus)
        self.refresh()

    def _mark(self, key: str) -> Span:
        return Span("● ", Tone.ACCENT) if key == self.chosen else Span("○ ", Tone.FAINT)


class ListChoice(Choice):
    """One row each, at most `rows_max` of them in view."""

    WHEELED: ClassVar[bool] = False
    """The wheel moves the cursor. Not where that is the choice: somebody who scrolls the form wants no other model."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "step(-1)", "Previous", show=False),
        Binding("down,j", "step(1)", "Next", show=False),
        Binding("home", "jump(0)", "First", show=False),
        Binding("end", "jump(-1)", "Last", show=False),
    ]
    rows_max: reactive[int] = reactive(5, layout=True)

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._painter: Painter = lambda _: []
        self._top = 0
        self._shown: list[Line] | None = None

    def offer(self, keys: Sequence[str], painter: Painter) -> None:
        """The choices, and a line for each. The same ones again cost nothing."""
        grows = len(keys) != len(self.keys)
        self.keys, self._painter = tuple(keys), painter
        if grows or self._shown is None or self.lines(self.size.width) != self._shown:
            self.refresh(layout=grows)

    def render(self) -> Content:
        self._shown = self.lines(self.size.width)
        return to_content(self._shown)

    def lines(self, room: int) -> list[Line]:
        rows = self._painter(max(room - 4, 1))
        shown = self._window(len(rows))
        lines = []
        for index in shown:
            row = line(self._mark(self.keys[index]), pad(rows[index], max(room - 4, 1)), self._more(index, shown, rows))
            if self.has_focus and self.keys[index] == self.chosen:
                row = on_ground(pad(row, room), Tone.SELECTED)
            lines.append(row)
        return lines

    def _window(self, count: int) -> range:
        at = self.keys.index(self.chosen) if self.chosen in self.keys else 0
        size = min(count, self.rows_max)
        self._top = min(max(self._top, at - size + 1, 0), at, count - size)
        return range(self._top, self._top + size)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self._wheel(event, 1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self._wheel(event, -1)

    def _wheel(self, event: events.MouseEvent, step: int) -> None:
        if self.WHEELED:
            event.stop()
            self.action_step(step)

    @staticmethod
    def _more(index: int, shown: range, rows: list[Line]) -> Span:
        above = index == shown.start and shown.start > 0
        below = index == shown.stop - 1 and shown.stop < len(rows)
        return Span(" ↕" if above and below else " ↑" if above else " ↓" if below else "", Tone.ACCENT)

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is not None and 0 <= self._top + offset.y < len(self.keys):
            self.pick(self.keys[self._top + offset.y])


class InlineChoice(Choice):
    """Side by side, wrapped where the room ends. Nothing is chosen while the values are the user's own."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "step(-1)", "Previous", show=False),
        Binding("right,l,space", "step(1)", "Next", show=False),
    ]
    _GAP: Final = 2

    def __init__(self, options: Iterable[tuple[str, str]], *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.offer(options)

    def offer(self, options: Iterable[tuple[str, str]]) -> None:
        """The choices as (key, text)."""
        self._texts = dict(options)
        self.keys = tuple(self._texts)
        self.refresh(layout=True)

    def _placed(self, room: int) -> list[list[tuple[str, int, int]]]:
        """Rows of (key, first cell, end) in `room` cells."""
        rows: list[list[tuple[str, int, int]]] = [[]]
        for key, text in self._texts.items():
            size = len(text) + 2
            start = rows[-1][-1][2] + self._GAP if rows[-1] else 0
            if start and start + size > room:
                rows.append([])
                start = 0
            rows[-1].append((key, start, start + size))
        return rows

    def lines(self, room: int) -> list[Line]:
        return [self._row(row) for row in self._placed(room)]

    def _row(self, row: list[tuple[str, int, int]]) -> Line:
        spans: Line = ()
        for key, start, _ in row:
            text = line(self._mark(key), Span(self._texts[key], Tone.STRONG if key == self.chosen else Tone.MUTED))
            if self.has_focus and key == self.chosen:
                text = on_ground(text, Tone.SELECTED)
            spans = line(spans, " " * (start - width(spans)), text)
        return spans

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        rows = self._placed(self.size.width)
        if offset is None or offset.y >= len(rows):
            return
        for key, start, end in rows[offset.y]:
            if start <= offset.x < end:
                self.pick(key)


class TextInput(Input):
    """One line to type into."""

    DEFAULT_CSS = """
    TextInput.-textual-compact { width: 1fr; height: 1; padding: 0 1; background: $tone-track; }
    TextInput.-textual-compact:focus { background: $tone-selected; background-tint: $tone-accent 12%; }
    TextInput.-short { width: 9; }
    TextInput > .input--placeholder { color: $tone-muted; }
    """

    def __init__(
        self,
        value: str = "",
        *,
        placeholder: str = "",
        short: bool = False,
        length_max: int = 80,
        id: str | None = None,  # noqa: A002
    ) -> None:
        super().__init__(
            value,
            placeholder=placeholder,
            compact=True,
            max_length=length_max,
            id=id,
            classes="-short" if short else "",
        )
        self.cursor_blink = False


class TextLines(TextArea):
    """Several lines to type into; tab leaves it."""

    DEFAULT_CSS = """
    TextLines.-textual-compact { width: 1fr; height: 4; padding: 0 1; background: $tone-track; border: none; }
    TextLines.-textual-compact:focus { background: $tone-selected; background-tint: $tone-accent 12%; }
    TextLines .text-area--cursor-line { background: transparent; }
    """

    def __init__(self, text: str = "", *, placeholder: str = "", id: str | None = None) -> None:  # noqa: A002
        super().__init__(text, compact=True, placeholder=Content(placeholder), highlight_cursor_line=False, id=id)
        self.cursor_blink = False


class Field(Vertical):
    """A label, its controls, a hint, and below them the problems of the fields in `names`."""

    DEFAULT_CSS = """
    Field { height: auto; }
    Field > Horizontal { height: auto; }
    Field .label { width: 14; color: $tone-muted; }
    Field.-focused .label { color: $tone-accent; text-style: bold; }
    Field .hint {
        width: 1fr; height: 1; color: $tone-muted; padding-left: 1; text-wrap: nowrap; text-overflow: ellipsis;
    }
    Field .unit { width: auto; height: 1; color: $tone-muted; padding: 0 3 0 1; }
    Field .problem { display: none; margin-left: 14; color: $tone-failed; }
    Field.-wrong .problem { display: block; }
    Field.-wrong .label, Field.-wrong.-focused .label { color: $tone-failed; }
    """

    def __init__(self, label: str, *controls: Widget, names: Sequence[str] = (), hint: str | None = None) -> None:
        super().__init__()
        self.names = tuple(names)
        self._label = label
        self._controls = controls
        self._hint = hint
        self._said: list[str] = []
        self._hint_line = Static(Content(hint or ""), classes="hint")
        self._problem_lines = Static(classes="problem")

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield Static(Content(self._label), classes="label")
            yield from self._controls
            if self._hint is not None:
                yield self._hint_line
        yield self._problem_lines

    def on_descendant_focus(self) -> None:
        self.add_class("-focused")

    def on_descendant_blur(self) -> None:
        # Textual updates `:focus-within` before the widget knows that it lost the focus: the label would stay lit.
        self.set_class(self.screen.focused in self.walk_children(), "-focused")

    def hint(self, text: str) -> None:
        """Another hint; only for a field that was made with one."""
        if text != self._hint:
            # A hint of one line takes its room whatever it says.
            self._hint_line.update(Content(text), layout=self.has_class("-summary"))
            self._hint = text

    def show(self, problems: Mapping[str, str]) -> None:
        """Show those problems that are about this field."""
        mine = [(name, problems[name]) for name in self.names if name in problems]
        several = len(self.names) > 1
        said = [
            f"✖ {LABELS.get(name, name)}: {text}" if several and not text.startswith("credit:") else f"✖ {text}"
            for name, text in mine
        ]
        if said != self._said:
            self._said = said
            self.set_class(bool(said), "-wrong")
            self._problem_lines.update(Content("\n".join(said)))


def unit(text: str) -> Static:
    """What the number before it counts."""
    return Static(Content(text), classes="unit")


class ActionButton(Button):
    """One line; the key that does the same stands behind the label."""

    DEFAULT_CSS = """
    ActionButton, ActionButton.-style-default {
        width: auto; min-width: 0; height: 1; border: none; line-pad: 1; padding: 0 1; margin-left: 1;
        background: $tone-track; color: $foreground; text-style: none;
        &:hover { background: $tone-selected; border: none; }
        &.-main { color: $tone-accent; text-style: bold; }
        &:focus { background: $tone-accent; color: $tone-badge; text-style: bold; border: none; }
        &.-active { border: none; tint: transparent; }
        &.-danger { color: $tone-failed; }
        &.-danger:focus { background: $tone-failed; color: $tone-badge; }
    }
    """

    def __init__(self, label: str, key: str, action: str, *, main: bool = False, danger: bool = False) -> None:
        super().__init__(
            Content.assemble(label, (f"  {key}", "dim")),
            id=f"do-{action}",
            action=f"screen.{action}",
            classes="-danger" if danger else "-main" if main else "",
        )
