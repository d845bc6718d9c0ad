"""What a user can do, said once: key bindings, the command palette and the help screen are all made from this registry.

An action named `x` runs the method `action_x` of the screen it applies to (or of the app, for `Where.APP`). Binding ids
are `gpudeck.x`, so that a user's keymap can move any key.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, Final

from textual.binding import Binding, BindingType
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.screen import Screen


class Where(StrEnum):
    """The place whose `action_*` method runs an action."""

    APP = "app"
    DASHBOARD = "dashboard"
    ENDPOINT = "endpoint"
    LOGS = "logs"


ALL_SCREENS: Final = frozenset({Where.DASHBOARD, Where.ENDPOINT, Where.LOGS})
ON_ENDPOINT: Final = frozenset({Where.DASHBOARD, Where.ENDPOINT})


@dataclass(frozen=True, slots=True)
class Action:
    """One thing a user can do. `keys` in Textual's spelling, the first one is shown; `label` for the footer."""

    id: str
    keys: tuple[str, ...]
    label: str
    group: str
    help: str
    where: frozenset[Where]
    footer: bool = False
    writes: bool = False
    """Changes something, so it is off in a read-only session."""
    palette: bool = True


def _action(
    id: str,  # noqa: A002  (the registry's own word)
    keys: str,
    label: str,
    group: str,
    text: str,
    where: Iterable[Where],
    *,
    footer: bool = False,
    writes: bool = False,
    palette: bool = True,
) -> Action:
    return Action(id, tuple(keys.split()), label, group, text, frozenset(where), footer, writes, palette)


_E, _M, _V, _G = "Endpoints", "Money and keys", "Views", "General"

ACTIONS: Final[tuple[Action, ...]] = (
    _action("open_endpoint", "enter", "Open", _E, "Open the selected endpoint: workers, cold starts, decision, spec",
            [Where.DASHBOARD], footer=True),
    _action("create_endpoint", "n", "New", _E, "Create an endpoint, with presets, price and credit check",
            [Where.DASHBOARD], footer=True, writes=True),
    _action("edit_endpoint", "e", "Edit", _E, "Change the endpoint; new workers are ready before old ones drain",
            ON_ENDPOINT, footer=True, writes=True),
    _action("toggle_endpoint", "d", "On/off", _E, "Drain and stop the endpoint (asks), or start it again",
            ON_ENDPOINT, footer=True, writes=True),
    _action("delete_endpoint", "x delete", "Delete", _E, "Drain and forget the endpoint (asks); its bill stays",
            ON_ENDPOINT, writes=True),
    _action("raise_maximum", "plus", "Max +1", _E, "One more worker at most", ON_ENDPOINT, writes=True),
    _action("lower_maximum", "minus", "Max −1", _E, "One worker less at most", ON_ENDPOINT, writes=True),
    _action("raise_baseline", "B", "Baseline +1", _E, "One more worker always on", ON_ENDPOINT, writes=True),
    _action("lower_baseline", "b", "Baseline −1", _E, "One worker less always on", ON_ENDPOINT, writes=True),
    _action("show_logs", "l", "Logs", _E, "Follow the logs of the endpoint's workers", ON_ENDPOINT, footer=True),
    _action("copy_curl", "y", "curl", _E, "Copy a curl command that calls the endpoint", ON_ENDPOINT, footer=True),
    _action("top_up", "t", "Top up", _M, "Add credit to the account", ON_ENDPOINT, writes=True),
    _action("show_keys", "a", "API keys", _M, "List, create and revoke API keys", ON_ENDPOINT, writes=True),
    _action("filter", "slash", "Filter", _V, "Show only endpoints, events or log lines that contain a text",
            [Where.DASHBOARD, Where.LOGS], footer=True),
    _action("toggle_pause", "space", "Pause", _V, "Hold the picture still; the orchestrator goes on", ALL_SCREENS),
    _action("zoom_panel", "z", "Zoom", _V, "The focused panel on the whole screen, and back", [Where.DASHBOARD]),
    _action("follow_logs", "f", "Follow", _V, "Keep the newest log line in view, or stay where you are",
            [Where.LOGS], footer=True),
    _action("next_worker", "right_square_bracket", "Next worker", _V, "Logs of the next worker", [Where.LOGS],
            footer=True),
    _action("previous_worker", "left_square_bracket", "Previous worker", _V, "Logs of the previous worker",
            [Where.LOGS]),
    _action("go_back", "escape", "Back", _V, "Close the filter, the zoom or this screen", ALL_SCREENS,
            footer=True),
    _action("show_help", "question_mark f1", "Help", _G, "This list", [Where.APP], footer=True),
    _action("quit", "q", "Quit", _G, "Leave: with everything running, or drained and stopped", [Where.APP],
            footer=True),
    _action("command_palette", "ctrl+p colon", "Palette", _G, "Find any command by name", [Where.APP],
            palette=False),
)  # fmt: skip
"""In the order of the footer and the help screen."""

MOVEMENT: Final[tuple[tuple[str, str], ...]] = (
    ("j k ↓ ↑", "Next or previous row, or scroll"),
    ("g G", "First or last row"),
    ("tab shift+tab", "Next or previous panel"),
    ("1 … 6", "Go to a panel by its number"),
)
"""Keys that move, for the help screen; the panels bind them."""

PANEL_BINDINGS: Final[list[BindingType]] = [
    Binding("j,down", "move(1)", "Down", show=False),
    Binding("k,up", "move(-1)", "Up", show=False),
    Binding("g,home", "move_to(0)", "First", show=False),
    Binding("G,end", "move_to(-1)", "Last", show=False),
]

_GLYPHS: Final = {
    "escape": "esc", "question_mark": "?", "slash": "/", "colon": ":", "plus": "+", "minus": "-", "delete": "del",
    "right_square_bracket": "]", "left_square_bracket": "[", "ctrl+p": "^p", "f1": "F1", "enter": "⏎",
}  # fmt: skip


def key_text(key: str) -> str:
    """A key as printed on a keyboard."""
    return _GLYPHS.get(key, key)


def bindings(where: Where) -> list[BindingType]:
    """Bindings for the class at `where`. The first key of an action is the one the footer shows."""
    found: list[BindingType] = []
    for action in ACTIONS:
        if where in action.where:
            keys = ",".join(action.keys)
            found.append(
                Binding(
                    keys,
                    action.id,
                    action.label,
                    show=action.footer,
                    key_display=key_text(action.keys[0]),
                    tooltip=action.help,
                    id=f"gpudeck.{action.id}",
                )
            )
    return found


WRITING: Final = frozenset(action.id for action in ACTIONS if action.writes)


def applies(action: Action, screen: Screen[object]) -> bool:
    """Whether `action` can run with `screen` in front."""
    if Where.APP in action.where:
        return True
    where = getattr(screen, "WHERE", None)
    return where in action.where and screen.check_action(action.id, ()) is True


class ActionProvider(Provider):
    """Offers every action of the current screen in the command palette, with its key."""

    def _offers(self) -> list[Action]:
        return [action for action in ACTIONS if action.palette and applies(action, self.screen)]

    def _command(self, action: Action) -> partial[Coroutine[Any, Any, bool]]:
        namespace = "app" if Where.APP in action.where else "screen"
        return partial(self.app.run_action, f"{namespace}.{action.id}")

    async def discover(self) -> Hits:
        for action in self._offers():
            yield DiscoveryHit(_title(action), self._command(action), help=action.help)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for action in self._offers():
            title = _title(action)
            score = matcher.match(f"{title} {action.help}")
            if score > 0:
                yield Hit(score, matcher.highlight(title), self._command(action), help=action.help, text=title)


def _title(action: Action) -> str:
    return f"{action.label}  ({key_text(action.keys[0])})"
