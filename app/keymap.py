"""The user's own keys: `keys.toml` in the configuration directory, an action's id and the keys that run it.

    open_playground = "P"
    quit = ["Q", "ctrl+q"]

Keys are written as on the keyboard (`?`, `ctrl+d`, `f5`, `shift+up`). An entry that cannot be used is left out with a
sentence that names file and line; the rest counts, and the app starts.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import combinations
from pathlib import Path
from typing import Final

from textual.keys import Keys, _character_to_key

from app.actions import ACTIONS, Action, Where

KEYS_MAX: Final = 5
FILE_BYTES_MAX: Final = 64 * 1024
MOVING: Final = frozenset("jkgG123456789") | {
    "up", "down", "left", "right", "home", "end", "pageup", "pagedown", "tab", "shift+tab",
}  # fmt: skip
"""Keys that panels, lists and fields take for themselves: an action on one of them would never run."""
_NAMED: Final = frozenset(key.value for key in Keys if not key.value.startswith("<"))
_MODIFIERS: Final = frozenset({"ctrl", "alt", "shift", "super", "hyper", "meta"})
_BY_ID: Final = {action.id: action for action in ACTIONS}


@dataclass(frozen=True, slots=True)
class Keymap:
    """`keys` holds the actions whose keys the user changed; `problems` is for the user to read."""

    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def of(self, action: Action) -> tuple[str, ...]:
        """The keys of an action, in Textual's spelling; the first one is shown."""
        return self.keys.get(action.id, action.keys)

    def for_textual(self) -> dict[str, str]:
        """Binding ids and keys as `App.set_keymap` takes them."""
        return {f"gpudeck.{name}": ",".join(keys) for name, keys in self.keys.items()}


def read_keymap(file: Path) -> Keymap:
    """The keys in `file`; no file means none. Never raises: what is wrong is among the problems."""
    try:
        with file.open("rb") as opened:
            text = opened.read(FILE_BYTES_MAX + 1).decode("utf-8")
    except FileNotFoundError:
        return Keymap()
    except (OSError, UnicodeDecodeError) as error:
        return Keymap(problems=(f"{file.name}: {error}; the usual keys are in force",))
    if len(text) > FILE_BYTES_MAX:
        return Keymap(problems=(f"{file.name}: longer than {FILE_BYTES_MAX} bytes; the usual keys are in force",))
    return parse_keymap(text, file.name)


def parse_keymap(text: str, name: str) -> Keymap:
    """`read_keymap` for the text of a file called `name`."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return Keymap(problems=(f"{name}: {error}; the usual keys are in force",))
    keys: dict[str, tuple[str, ...]] = {}
    problems: list[str] = []
    for entry, value in document.items():
        try:
            keys[_known(entry)] = tuple(dict.fromkeys(_normal(key) for key in _several(value)))
        except ValueError as error:
            problems.append(f"{name}, line {_line_of(text, entry)}: {error}")
    while (found := next(_clashes(keys), None)) is not None:
        entry, sentence = found
        del keys[entry]
        problems.append(f"{name}, line {_line_of(text, entry)}: {sentence}")
    return Keymap(keys, tuple(problems))


def _known(entry: str) -> str:
    if entry in _BY_ID:
        return entry
    near = get_close_matches(entry, _BY_ID, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(_BY_ID))}"
    raise ValueError(f"there is no action {entry[:40]!a}; {hint}")


def _several(value: object) -> list[str]:
    several = [value] if isinstance(value, str) else value
    if not isinstance(several, list) or not 1 <= len(several) <= KEYS_MAX:
        raise ValueError(f'needs a key such as "p", or a list of 1 to {KEYS_MAX} keys')
    for key in several:
        if not isinstance(key, str):
            raise ValueError(f"a key is text in quotes, not {str(key)[:40]!a}")
    return several


def _normal(key: str) -> str:
    """The key in Textual's spelling. Raises ValueError for one that no keyboard has."""
    if len(key) > 1 and key.endswith("+"):  # with the plus key itself
        before, base = key[:-1].removesuffix("+"), "+"
    else:
        before, _, base = key.rpartition("+") if len(key) > 1 else ("", "", key)
    modifiers = before.split("+") if before else []
    if len(base) == 1 and base.isprintable() and base != " ":
        base = _character_to_key(base)
    elif base == " ":
        base = "space"
    elif not (base in _NAMED or base == "space" or _is_sign(base)):
        raise ValueError(f"there is no key {key[:40]!a}; write it as p, P, ?, f5, ctrl+d or shift+up")
    if not _MODIFIERS.issuperset(modifiers):
        raise ValueError(f"there is no key {key[:40]!a}; before a + stand {', '.join(sorted(_MODIFIERS))}")
    return "+".join([*sorted(modifiers), base])


def _is_sign(name: str) -> bool:
    """Whether `name` is what Textual calls a sign, such as question_mark."""
    try:
        unicodedata.lookup(name.replace("_", " "))
    except KeyError:
        return name in ("plus", "minus", "slash")
    return True


def _clashes(keys: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, str]]:
    """Entries of the user's that take a key which something else in the same place has, and why."""
    for entry in keys:
        for key in MOVING.intersection(keys[entry]):
            yield entry, f"{key} moves in lists and fields; {entry} keeps its usual key"
    for one, other in combinations(ACTIONS, 2):
        together = one.where & other.where or Where.APP in one.where | other.where
        shared = set(keys.get(one.id, one.keys)).intersection(keys.get(other.id, other.keys)) if together else set()
        if shared and (one.id in keys or other.id in keys):
            loser, winner = (other, one) if other.id in keys else (one, other)
            yield loser.id, f"{min(shared)} is the key of {winner.id}; {loser.id} keeps its usual key"


def _line_of(text: str, entry: str) -> int:
    """The line where an entry of the file begins."""
    found = re.search(rf"""^[ \t]*["']?{re.escape(entry)}["']?[ \t]*[=\].]|^[ \t]*\[{re.escape(entry)}""", text, re.M)
    return text.count("\n", 0, found.start()) + 1 if found else 1
