"""What a user can do, said once: key bindings, the command palette and the help screen are all made from this registry.

An action named `x` runs the method `action_x` of the screen it applies to (or of the app, for `Where.APP`). Binding ids
are `gpudeck.x`, so that a user's keymap can move any key.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from textual.binding import Binding, BindingType
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.screen import Screen

if TYPE_CHECKING:
    from textual.app import App

    from app.preferred import PreferredApp


class Where(StrEnum):
    """The place whose `action_*` method runs an action."""

    APP = "app"
    DASHBOARD = "dashboard"
    ENDPOINT = "endpoint"
    LOGS = "logs"
    PLAYGROUND = "playground"
    LOADTEST = "loadtest"
    LEDGER = "ledger"
    DECISIONS = "decisions"
    FAULTS = "faults"
    INSPECTOR = "inspector"
    WHATIF = "whatif"
    SETTINGS = "settings"
    DOCTOR = "doctor"


ALL_SCREENS: Final = frozenset(Where) - {Where.APP}
ON_ENDPOINT: Final = frozenset({Where.DASHBOARD, Where.ENDPOINT})
ON_MONEY: Final = ON_ENDPOINT | {Where.LEDGER}
ON_REPORT: Final = frozenset({Where.WHATIF, Where.SETTINGS, Where.DOCTOR})


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
    _action("show_decisions", "w", "Why", _E, "Why it has the workers it has: every decision with its numbers",
            ON_ENDPOINT),
    _action("show_whatif", "W", "What if", _E, "Its recorded traffic under other settings: cost, waits, what to take",
            ON_ENDPOINT | {Where.DECISIONS}),
    _action("open_inspector", "i", "Round robin", _E, "Whose turn it is, who is passed over and why, who waits",
            ON_ENDPOINT),
    _action("copy_curl", "y", "curl", _E, "Copy a curl command that calls the endpoint, or the call that is shown",
            ON_ENDPOINT, footer=True),
    _action("next_language", "c", "Language", _E, "Show the call in curl, Python or JavaScript", [Where.ENDPOINT]),
    _action("open_playground", "p", "Try", _E, "Send it a prompt, a picture or JSON, and see reply, time and cost",
            ON_ENDPOINT, footer=True, writes=True),
    _action("open_loadtest", "L", "Load test", _E, "Send it rising traffic, watch it scale, and get a setup to try",
            ON_ENDPOINT, footer=True, writes=True),
    _action("open_faults", "F", "Faults", _E, "Break a worker on purpose, and watch the endpoint recover",
            ON_ENDPOINT),
    _action("open_ledger", "m", "Ledger", _M, "The journal of the account, from every cent to its evidence",
            ON_ENDPOINT, footer=True),
    _action("top_up", "t", "Top up", _M, "Add credit to the account", ON_MONEY, writes=True),
    _action("show_keys", "a", "API keys", _M, "List, create and revoke API keys", ON_MONEY, writes=True),
    _action("show_accounts", "C", "Accounts", _M, "Balances of all accounts; create one, top up, say where warnings go",
            ON_MONEY, writes=True),
    _action("show_evidence", "enter", "Evidence", _M, "Go over to what the row of the journal rests on", [Where.LEDGER],
            footer=True),
    _action("verify_ledger", "v", "Verify", _M, "Recompute every amount, rate and hash of the ledger", [Where.LEDGER],
            footer=True),
    _action("export_statement", "ctrl+o", "Export", _M, "Write the statement as HTML to the present directory",
            [Where.LEDGER], footer=True),
    _action("earlier_month", "left_square_bracket", "Month before", _M, "The month before", [Where.LEDGER],
            footer=True),
    _action("later_month", "right_square_bracket", "Month after", _M, "The month after, and at last all time",
            [Where.LEDGER]),
    _action("next_account", "A", "Account", _M, "The journal of the next account", [Where.LEDGER]),
    _action("filter", "slash", "Filter", _V, "Show only what contains a text: endpoints, events, lines, settings",
            [Where.DASHBOARD, Where.LOGS, Where.LEDGER, Where.SETTINGS], footer=True),
    _action("toggle_pause", "space", "Pause", _V, "Hold the picture still; the orchestrator goes on", ALL_SCREENS),
    _action("slower", "less_than_sign", "Slower", _V, "Let the clock of a lab run slower", ALL_SCREENS, writes=True),
    _action("faster", "greater_than_sign", "Faster", _V, "Let the clock of a lab run faster, up to 600 times",
            ALL_SCREENS, writes=True),
    _action("next_range", "r", "Range", _V, "Traffic and cost of the last hour, day, week or month, or live",
            [Where.ENDPOINT]),
    _action("next_endpoint", "right_square_bracket", "Next endpoint", _V, "The next endpoint's screen",
            [Where.ENDPOINT]),
    _action("previous_endpoint", "left_square_bracket", "Endpoint before", _V, "The screen of the endpoint before",
            [Where.ENDPOINT]),
    _action("next_theme", "T", "Theme", _V, "Dark, light or high contrast; remembered", [Where.APP]),
    _action("zoom_panel", "z", "Zoom", _V, "The focused panel on the whole screen, and back", [Where.DASHBOARD]),
    _action("follow_logs", "f", "Follow", _V, "Keep the newest log line in view, or stay where you are",
            [Where.LOGS], footer=True),
    _action("next_level", "v", "Level", _V, "All log lines, warnings and errors, or errors alone", [Where.LOGS],
            footer=True),
    _action("next_worker", "right_square_bracket", "Next worker", _V, "Logs of the next worker", [Where.LOGS],
            footer=True),
    _action("previous_worker", "left_square_bracket", "Previous worker", _V, "Logs of the previous worker",
            [Where.LOGS]),
    _action("send_call", "ctrl+s", "Send", _V, "Send the call, or enter in a field of one line", [Where.PLAYGROUND],
            footer=True, writes=True),
    _action("start_load", "ctrl+s", "Start", _V, "Start the load test, or enter in a field", [Where.LOADTEST],
            footer=True, writes=True),
    _action("earlier_load", "ctrl+down", "Earlier test", _V, "Compare the newest load test with an earlier one",
            [Where.LOADTEST], footer=True),
    _action("later_load", "ctrl+up", "Later test", _V, "Compare the newest load test with a later one",
            [Where.LOADTEST]),
    _action("apply_advice", "ctrl+g", "Set it", _V, "Open the endpoint's form, to set what the test suggests",
            [Where.LOADTEST], footer=True, writes=True),
    _action("apply_setting", "enter", "Set it", _V, "Open the endpoint's form, filled in with the chosen setting",
            [Where.WHATIF], footer=True, writes=True),
    _action("every_setting", "A", "All", _V, "List every setting that was tried, or the best ones alone",
            [Where.WHATIF], footer=True),
    _action("change_terms", "o", "Terms", _V, "Replay for another wait to aim at, or under another price book",
            [Where.WHATIF], footer=True),
    _action("ask_again", "r", "Again", _V, "Make the report again: replay, read or examine as things are now",
            ON_REPORT, footer=True),
    _action("inject_fault", "enter", "Do it", _V, "Do the chosen fault to the worker", [Where.FAULTS], footer=True,
            writes=True),
    _action("next_victim", "right_square_bracket", "Next worker", _V, "Aim at the next worker that is ready",
            [Where.FAULTS], footer=True),
    _action("previous_victim", "left_square_bracket", "Previous worker", _V, "Aim at the worker before",
            [Where.FAULTS]),
    _action("save_reply", "ctrl+o", "Save reply", _V, "Write the reply's body to a file in the present directory",
            [Where.PLAYGROUND], footer=True),
    _action("go_back", "escape", "Back", _V, "Close the filter, the zoom or this screen", ALL_SCREENS,
            footer=True),
    _action("show_settings", "comma", "Settings", _G, "Every setting, where it is from, and which file to edit",
            ON_ENDPOINT),
    _action("show_doctor", "D", "Doctor", _G, "Check disk, ledger, engine, GPUs and mail, and what to do", ON_ENDPOINT),
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

FOCUS_BINDINGS: Final[list[BindingType]] = [
    Binding("tab", "focus_next", "Next", show=False, priority=True),
    Binding("shift+tab", "focus_previous", "Previous", show=False, priority=True),
]
"""The app's own, ahead of what has the focus: Textual's are handled by the field behind, after keys that were typed
quickly have gone to it too."""

PANEL_BINDINGS: Final[list[BindingType]] = [
    Binding("j,down", "move(1)", "Down", show=False),
    Binding("k,up", "move(-1)", "Up", show=False),
    Binding("g,home", "move_to(0)", "First", show=False),
    Binding("G,end", "move_to(-1)", "Last", show=False),
]

_GLYPHS: Final = {
    "escape": "esc", "question_mark": "?", "slash": "/", "colon": ":", "plus": "+", "minus": "-", "delete": "del",
    "right_square_bracket": "]", "left_square_bracket": "[", "less_than_sign": "<", "greater_than_sign": ">",
    "comma": ",", "ctrl+p": "^p", "ctrl+s": "^s",
    "ctrl+o": "^o", "ctrl+g": "^g", "ctrl+down": "^↓", "ctrl+up": "^↑", "f1": "F1", "enter": "⏎",
}  # fmt: skip


def key_text(key: str) -> str:
    """A key as printed on a keyboard."""
    return _GLYPHS.get(key, key)


def shown_keys(app: App[Any], action: Action) -> str:
    """The keys of an action as printed on a keyboard: those that the user of `app` gave it, or the usual ones."""
    keymap = cast("PreferredApp", app).preferences.keymap
    return " ".join(key_text(key) for key in keymap.of(action))


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


_NAMED: Final = 1_000.0
"""More than any score of a match."""


class ActionProvider(Provider):
    """Offers every action of the current screen in the command palette, with its key."""

    def _title(self, action: Action) -> str:
        return f"{action.label}  ({shown_keys(self.app, action).partition(' ')[0]})"

    def _offers(self) -> list[Action]:
        return [action for action in ACTIONS if action.palette and applies(action, self.screen)]

    def _command(self, action: Action) -> partial[Coroutine[Any, Any, bool]]:
        namespace = "app" if Where.APP in action.where else "screen"
        return partial(self.app.run_action, f"{namespace}.{action.id}")

    async def discover(self) -> Hits:
        for action in self._offers():
            yield DiscoveryHit(self._title(action), self._command(action), help=action.help)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for action in self._offers():
            title = self._title(action)
            score = matcher.match(f"{title} {action.help}")
            if score > 0:
                # Who types a name means that action, not one whose help happens to say the word earlier.
                score += _NAMED if matcher.match(action.label) > 0 else 0
                yield Hit(score, matcher.highlight(title), self._command(action), help=action.help, text=title)
