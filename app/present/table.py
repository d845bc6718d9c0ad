"""Tables that fit their width by leaving out what matters least."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from app.present.text import Line, Span, Tone, line, on_ground, pad


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `width` cells. The highest `rank` is left out first, rank 0 never. `grow` takes spare width."""

    key: str
    title: str
    width: int
    rank: int = 0
    right: bool = False
    grow: bool = False
    grow_max: int = 1_000


def choose(columns: Sequence[Column], room: int, gap: int) -> list[tuple[Column, int]]:
    """The columns that fit into `room` cells with `gap` between them, and the width of each."""
    kept = list(columns)
    while len(kept) > 1 and sum(c.width for c in kept) + gap * (len(kept) - 1) > room:
        worst = max(kept, key=lambda column: column.rank)
        if worst.rank == 0:
            break
        kept.remove(worst)
    spare = max(room - sum(c.width for c in kept) - gap * (len(kept) - 1), 0)
    widths = {column.key: column.width for column in kept}
    for column in kept:
        if column.grow:
            more = min(spare, column.grow_max - column.width)
            widths[column.key] += more
            spare -= more
    return [(column, widths[column.key]) for column in kept]


def head(chosen: Sequence[tuple[Column, int]], gap: int) -> Line:
    """The titles."""
    return _row({column.key: line(Span(column.title, Tone.TITLE)) for column, _ in chosen}, chosen, gap)


def row(cells: Mapping[str, Line], chosen: Sequence[tuple[Column, int]], gap: int) -> Line:
    """One row; `cells` has a line for every chosen column's key."""
    return _row(cells, chosen, gap)


def listing(
    columns: Sequence[Column], cells: Iterable[Mapping[str, Line]], chosen: int, room: int, gap: int = 2
) -> list[Line]:
    """The titles and a row for each of `cells`, the one with index `chosen` on a ground of its own."""
    kept = choose(columns, room, gap)
    lines = [head(kept, gap)]
    for index, each in enumerate(cells):
        drawn = row(each, kept, gap)
        lines.append(on_ground(pad(drawn, room), Tone.SELECTED) if index == chosen else drawn)
    return lines


def _row(cells: Mapping[str, Line], chosen: Sequence[tuple[Column, int]], gap: int) -> Line:
    parts: list[Line | str] = []
    for index, (column, size) in enumerate(chosen):
        if index:
            parts.append(" " * gap)
        parts.append(pad(cells[column.key], size, right=column.right))
    return line(*parts)
