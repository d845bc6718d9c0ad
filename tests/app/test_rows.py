"""Rows that are made when they are looked at, and the wrapping of pieces that are measured before they are drawn."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.bench.deck import frame
from app.present import endpoints, events, gpus, lanes
from app.present.lanes import Density
from app.present.rows import Rows
from app.present.text import Line, Span, breaks, flow, laid, line, text, width


def named(number: int) -> Line:
    return line(f"line {number}")


def test_only_what_is_looked_at_is_made_and_only_once() -> None:
    made: list[int] = []

    def make(number: int) -> Line:
        made.append(number)
        return named(number)

    def block() -> list[Line]:
        made.extend((100, 101))
        return [named(100), named(101)]

    rows = Rows()
    rows.add([named(0)])
    rows.later(2, block)
    rows.each(range(1, 1_000), make)
    assert len(rows) == 1_002
    assert made == []
    assert [text(rows[at]) for at in (0, 2, 3, 500, 500)] == ["line 0", "line 101", "line 1", "line 498", "line 498"]
    assert [text(each) for each in rows[-2:]] == ["line 998", "line 999"]
    assert made == [100, 101, 1, 498, 998, 999]


@pytest.mark.parametrize("index", [3, -4, 1_000])
def test_there_is_no_line_beyond_the_last(index: int) -> None:
    rows = Rows()
    rows.each(range(3), named)
    with pytest.raises(IndexError):
        rows[index]


def test_rows_end_like_a_list() -> None:
    rows = Rows()
    assert not rows
    rows.add([])
    assert list(rows) == []
    rows.add([named(1)])
    assert rows
    assert list(rows) == [named(1)]


def test_a_block_that_is_not_what_was_said_of_it_is_found_out() -> None:
    rows = Rows()
    rows.later(2, lambda: [named(1)])
    with pytest.raises(AssertionError, match="as many lines"):
        rows[0]


PIECES = st.lists(st.text(alphabet="ab●", min_size=1, max_size=12).map(lambda words: line(words)), max_size=12)


@settings(deadline=None)
@given(PIECES, st.integers(1, 30), st.integers(1, 3))
def test_wrapped_pieces_are_all_there_in_order_and_no_row_is_too_wide(pieces: list[Line], room: int, gap: int) -> None:
    rows = flow(pieces, room, gap)
    assert all(width(row) <= room for row in rows)
    fitting = [piece for piece in pieces if width(piece) <= room]
    if len(fitting) == len(pieces):
        assert (" " * gap).join(text(row) for row in rows) == (" " * gap).join(text(piece) for piece in pieces)
    # No piece could have been on the row before.
    for one, other in pairwise(rows):
        first = text(other).split(" " * gap)[0]
        assert width(one) + gap + len(first) > room


def test_breaks_are_known_without_drawing() -> None:
    assert breaks([], 10, 1) == []
    assert breaks([4, 4, 4], 9, 1) == [0, 2]
    assert breaks([20, 1], 10, 1) == [0, 1]
    rows = laid([line("abcd"), line("efgh"), line(Span("ij"))], [0, 2], 1)
    assert [text(row) for row in rows] == ["abcd efgh", "ij"]


@pytest.mark.parametrize("density", list(Density))
@pytest.mark.parametrize("room", [60, 72, 118])
def test_every_big_panel_has_as_many_lines_as_it_says(density: Density, room: int) -> None:
    state = frame(437, 9, 40)
    for rows in (
        lanes.rows(state.endpoints, state.taken_at_ns, room, density),
        gpus.rows(state.gpus, state.endpoints, room, density),
        endpoints.rows(state.endpoints, "model-03", room),
        events.rows(state.events, room, None),
    ):
        drawn = list(rows)
        assert len(drawn) == len(rows) > 0
        assert all(width(each) <= room for each in drawn)
