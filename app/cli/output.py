"""Text on stdout: aligned tables and JSON. Talk on stderr: `say`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

from app.format import cells, plain

COLOURS: Final = {
    "ready": "green",
    "serving": "green",
    "ok": "green",
    "starting": "yellow",
    "backoff": "yellow",
    "draining": "cyan",
    "stopping": "cyan",
    "failed": "red",
    "suspended": "red",
    "lost": "red",
    "problem": "red",
}
GAP: Final = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. Numbers stand right; `state` colours the words of COLOURS on a terminal."""

    title: str
    right: bool = False
    state: bool = False


def render_table(columns: Sequence[Column], rows: Iterable[Sequence[str]], paint: bool = False) -> str:
    """Aligned text, one line a row, no trailing blanks. Control characters in the cells are dropped.

    `paint` adds colours to state columns, after padding, so that the escape codes do not count as width.
    """
    table = [[column.title for column in columns], *([plain(cell) for cell in row] for row in rows)]
    widths = [max(cells(row[index]) for row in table) for index in range(len(columns))]
    lines = []
    for number, row in enumerate(table):
        parts = []
        for column, cell, width in zip(columns, row, widths, strict=True):
            blank = " " * (width - cells(cell))
            shown = (
                click.style(cell, fg=COLOURS[cell]) if paint and number and column.state and cell in COLOURS else cell
            )
            parts.append(blank + shown if column.right else shown + blank)
        lines.append(GAP.join(parts).rstrip())
    return "\n".join(lines)


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """A table on stdout. click removes the colours when stdout is no terminal or `--no-color` is given."""
    click.echo(render_table(columns, rows, paint=True))


def print_fields(fields: Mapping[str, str] | Iterable[tuple[str, str]]) -> None:
    """Names and values, one pair a line, on stdout."""
    pairs = list(fields.items()) if isinstance(fields, Mapping) else list(fields)
    width = max((cells(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        click.echo(f"{name}{' ' * (width - cells(name))}{GAP}{plain(value)}".rstrip())


def print_blank() -> None:
    """An empty line between two blocks on stdout."""
    click.echo()


def print_lines(lines: Iterable[str]) -> None:
    """Lines as they are, without trailing blanks."""
    for each in lines:
        click.echo(each.rstrip())


def print_json(value: object) -> None:
    """One JSON document on stdout. Pydantic models are written field by field."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=_jsonable))


def _jsonable(value: object) -> Any:
    dump: Callable[..., Any] | None = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(f"{type(value).__name__} is not JSON")
    return dump(mode="json")


def say(text: str) -> None:
    """A line of talk on stderr."""
    click.echo(text, err=True)
