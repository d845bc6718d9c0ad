"""Help: every key of the screen behind it, made from the registry of actions."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from app.actions import ACTIONS, MOVEMENT, applies, shown_keys
from app.present import help as help_rows
from app.present.condition import LIVE
from app.present.text import Line
from app.widgets.panel import Panel

Groups = tuple[tuple[str, tuple[tuple[str, str], ...]], ...]


class HelpPanel(Panel):
    """`view` is the groups of keys."""

    NAME = "Help"

    def paint(self, width: int, height: int) -> list[Line]:
        return help_rows.rows(self.view, width) if isinstance(self.view, tuple) else []


class HelpScreen(ModalScreen[None]):
    """Closed by esc, ?, F1 or q."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,f1,q", "dismiss", "Close")]
    DEFAULT_CSS = """
    HelpScreen { align: center middle; background: $background 60%; }
    HelpScreen HelpPanel {
        width: 112; max-width: 96%; height: auto; max-height: 94%; padding: 1 2; background: $surface;
    }
    """

    def compose(self) -> ComposeResult:
        yield HelpPanel(id="help")

    def on_mount(self) -> None:
        panel = self.query_one(HelpPanel)
        panel.note = "esc closes"
        panel.condition = LIVE
        panel.view = self._groups()
        panel.focus()

    def _groups(self) -> Groups:
        behind = self.app.screen_stack[-2]
        groups: dict[str, list[tuple[str, str]]] = {}
        for action in ACTIONS:
            if applies(action, behind):
                groups.setdefault(action.group, []).append((shown_keys(self.app, action), action.help))
        groups["Moving"] = list(MOVEMENT)
        return tuple((name, tuple(entries)) for name, entries in groups.items())
