"""How one user likes the dashboard: theme, motion, keys. Nothing here is needed: what cannot be read is said and left
at its default.

`theme` and `reduced_motion` are settings like the orchestrator's (environment over config.toml, shown by `gpudeck
config show`). A theme chosen with a key is kept in the state directory, with the setting it was chosen over: whichever
of the two was changed last counts.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from app.keymap import Keymap, read_keymap
from orchestrator.contract.places import Places

THEMES: Final = ("dark", "light", "contrast")
KEYS_FILE: Final = "keys.toml"
"""Apart from config.toml: that is the orchestrator's too, which refuses what it does not know."""
_YES_NO: Final = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}


@dataclass(frozen=True, slots=True)
class Preferences:
    """What is in force, and `problems` for the user to read."""

    theme: str = THEMES[0]
    reduced_motion: bool = False
    """No blinking, no animation, and one picture a second."""
    keymap: Keymap = field(default_factory=Keymap)
    problems: tuple[str, ...] = ()
    setting: str = THEMES[0]
    """The theme that the settings say, which one chosen with a key replaces."""
    theme_file: Path | None = None
    """Where a chosen theme is kept; None keeps none."""

    def remember_theme(self, theme: str) -> None:
        """Keep `theme` for the next start. Raises OSError."""
        if self.theme_file is None:
            return
        self.theme_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self.theme_file.with_suffix(".new")
        fresh.write_text(json.dumps({"theme": theme, "instead_of": self.setting}), encoding="utf-8")
        fresh.replace(self.theme_file)


def read_preferences(places: Places, environ: Mapping[str, str] = os.environ) -> Preferences:
    """The preferences in `places`. Never raises: what is wrong is among the problems."""
    problems: list[str] = []
    values = _settings(places.settings_file, environ, problems)
    setting = values.get("theme", THEMES[0])
    if setting not in THEMES:
        problems.append(f"theme: {str(setting)[:40]!a} is not one of {', '.join(THEMES)}")
        setting = THEMES[0]
    reduced = values.get("reduced_motion", False)
    if isinstance(reduced, str):
        reduced = _YES_NO.get(reduced.strip().lower(), reduced)
    if not isinstance(reduced, bool):
        problems.append(f"reduced_motion: {str(reduced)[:40]!a} is neither true nor false")
        reduced = False
    keymap = read_keymap(places.config / KEYS_FILE)
    file = places.state / "theme.json"
    theme = _chosen(file, setting) or setting
    return Preferences(theme, reduced, keymap, (*problems, *keymap.problems), setting, file)


def _settings(file: Path, environ: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        values = {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        problems.append(f"{file.name}: {error}")
        values = {}
    if "keys" in values:
        problems.append(f"{file.name}: keys are read from {KEYS_FILE} beside it, not from [keys]")
    for name in ("theme", "reduced_motion"):
        if given := environ.get(f"GPUDECK_{name.upper()}"):
            values[name] = given
    return values


def _chosen(file: Path, setting: str) -> str | None:
    """The theme that was chosen with a key while the setting was what it is now."""
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # nothing was chosen, or the file is of no use: it holds nothing that is missed
        return None
    if isinstance(kept, dict) and kept.get("instead_of") == setting and kept.get("theme") in THEMES:
        return str(kept["theme"])
    return None
