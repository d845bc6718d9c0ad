"""The application's manners: theme, keys and motion as the user prefers them."""

from __future__ import annotations

from typing import Final

from textual import events
from textual.app import App
from textual.widgets import Input, TextArea

from app.preferences import Preferences
from app.theme import THEMES

_NAMES: Final = tuple(theme.name for theme in THEMES)
_PREFIX: Final = "gpudeck-"


class PreferredApp(App[str | None]):
    """An app that keeps to `preferences`."""

    def __init__(self, preferences: Preferences) -> None:
        super().__init__()
        self.preferences = preferences
        for each in THEMES:
            self.register_theme(each)
        self.theme = _PREFIX + preferences.theme
        self.set_keymap(preferences.keymap.for_textual())
        if preferences.reduced_motion:
            self.animation_level = "none"

    @property
    def pictures_per_second(self) -> float:
        """How often the screen may change by itself."""
        return 1.0 if self.preferences.reduced_motion else 4.0

    def say_problems(self) -> None:
        """Show what is wrong with the preferences, once."""
        for problem in self.preferences.problems:
            self.notify(problem, title="Preferences", severity="warning", timeout=20, markup=False)

    def action_next_theme(self) -> None:
        """Dark, light, high contrast, and dark again."""
        self.theme = _NAMES[(_NAMES.index(self.theme) + 1) % len(_NAMES)] if self.theme in _NAMES else _NAMES[0]
        word = self.theme.removeprefix(_PREFIX)
        try:
            self.preferences.remember_theme(word)
        except OSError as error:
            self.notify(f"theme {word}, for now: {error}", title="Not kept", severity="warning", markup=False)
        else:
            self.notify(f"theme {word}", timeout=2, markup=False)

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        if self.preferences.reduced_motion and isinstance(event.widget, Input | TextArea):
            event.widget.cursor_blink = False
