"""The settings as a start would read them, the same as `gpudeck config show`: value, origin, meaning."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.format import NOTHING, cells, clip, plain
from app.present.text import Line, Span, Tone, line, pad, wrap

DEFAULT: Final = "default"
_VALUE_MIN: Final = 14
_VALUE_MAX: Final = 44
_GAP: Final = 2


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting; `origin` is `default`, a variable (GPUDECK_PORT), a flag (--port) or the path of the file."""

    name: str
    value: str
    origin: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Configuration:
    """Every setting, in the order of the report, and the directories by their names."""

    settings: tuple[Setting, ...]
    places: Mapping[str, str]

    @property
    def file(self) -> str:
        """The file to edit, whether it is there or not."""
        return f"{self.places['config']}/config.toml"


def read(document: Any) -> Configuration:
    """From the document of the orchestrator's `config`. Raises ValueError for anything else."""
    try:
        rows, places = (
            settings_rows(document["settings"]),
            {name: str(path) for name, path in document["places"].items()},
        )
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError("no report of settings") from error
    if not rows or "config" not in places:
        raise ValueError("no report of settings")
    found = tuple(
        Setting(row["setting"], scalar(row["value"]), str(row["origin"]), str(row["meaning"])) for row in rows
    )
    return Configuration(found, places)


def settings_rows(value: object) -> list[dict[str, Any]]:
    """Settings (`name: {value, origin, meaning}`) as rows of a table; empty for anything else."""
    if not isinstance(value, Mapping):
        return []
    entries = list(value.items())
    if not all(isinstance(entry, Mapping) and set(entry) == {"value", "origin", "meaning"} for _, entry in entries):
        return []
    return [{"setting": name, **entry} for name, entry in entries]


def scalar(value: object) -> str:
    """One JSON value in a word or two."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(scalar(entry) for entry in value) or NOTHING
    return json.dumps(value) if isinstance(value, dict) else str(value)


def matching(settings: Sequence[Setting], needle: str) -> list[Setting]:
    """Settings that contain every word of `needle` somewhere."""
    words = needle.lower().split()
    return [each for each in settings if all(word in " ".join(_texts(each)).lower() for word in words)]


def _texts(setting: Setting) -> tuple[str, ...]:
    return setting.name, setting.value, setting.origin, setting.meaning


def how_to_change(configuration: Configuration, *, exists: bool, room: int) -> list[Line]:
    """Which file to edit, and what comes before it."""
    file = plain(configuration.file)
    verb = "Edit" if exists else "Create"
    changed = sum(each.origin != DEFAULT for each in configuration.settings)
    lines = wrap(f"{verb} {file}, one `name = value` a line.", room, Tone.STRONG)
    more = (
        "It counts from the next start on: `gpudeck down --leave` and `gpudeck up`, while the workers go on. "
        "A variable GPUDECK_NAME comes before the file, a flag of the start before both. "
        'Keys are in keys.toml beside it, such as `quit = "Q"`.'
    )
    said = f"{changed} of {len(configuration.settings)} differ from the default." if changed else "All are defaults."
    return [*lines, *wrap(f"{more} {said}", room, Tone.MUTED)]


def rows(settings: Sequence[Setting], file: str, room: int) -> list[Line]:
    """Name, value and origin in a line each, and below it what the setting means."""
    if not settings:
        return []
    name_room = max(cells(each.name) for each in settings)
    value_room = min(max(*(cells(plain(each.value)) for each in settings), _VALUE_MIN), _VALUE_MAX)
    lines: list[Line] = []
    for each in settings:
        lines += _rows(each, file, name_room, value_room, room)
    return lines


def _rows(setting: Setting, file: str, name_room: int, value_room: int, room: int) -> list[Line]:
    own = setting.origin != DEFAULT
    origin = "config.toml" if setting.origin == file else plain(setting.origin)
    mark = Span("● " if own else "  ", Tone.ACCENT)
    value_room = min(value_room, max(room - 2 - name_room - 2 * _GAP - cells(origin), _VALUE_MIN))
    value = Span(clip(plain(setting.value), value_room), Tone.STRONG if own else Tone.PLAIN)
    head = line(mark, pad(line(Span(setting.name, Tone.STRONG if own else Tone.PLAIN)), name_room), " " * _GAP,
                pad(line(value), value_room), " " * _GAP, Span(origin, Tone.ACCENT if own else Tone.FAINT))  # fmt: skip
    indent = 2 + name_room + _GAP
    meant = wrap(plain(setting.meaning), max(room - indent, 20), Tone.MUTED)
    return [head, *(line(" " * indent, each) for each in meant)]


def place_rows(places: Mapping[str, str], room: int) -> list[Line]:
    """The directories."""
    return [
        line(Span(f"{name:<9}", Tone.MUTED), Span(clip(plain(path), max(room - 9, 1)))) for name, path in places.items()
    ]
