"""What `gpudeck doctor` checks, with what to do where something is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from app.format import cells, plain
from app.present.text import ERROR, GOOD, WARNING, Line, Span, Tone, line, wrap
from orchestrator.contract.base import Received

State = Literal["ok", "warn", "fail"]
GLYPHS: Final[dict[State, tuple[str, Tone]]] = {"ok": ("✔", GOOD), "warn": ("▲", WARNING), "fail": ("✖", ERROR)}
PORT: Final = "gateway port"


class Check(Received):
    """One line of the report. `warn`: something optional is missing; `detail` ends in what to do, after a semicolon."""

    name: str
    state: State
    detail: str


_CHECKS: Final = TypeAdapter(tuple[Check, ...])


def read(document: Any, gateway_url: str | None) -> tuple[Check, ...]:
    """From the document of the orchestrator's `doctor`. Raises ValueError for anything else.

    A port that is taken by the gateway at `gateway_url` is as it should be: the check itself does not know that the
    orchestrator it belongs to is running.
    """
    try:
        checks = _CHECKS.validate_python(document)
    except ValidationError as error:
        raise ValueError("no report of checks") from error
    return tuple(_with_gateway(each, gateway_url) for each in checks)


def _with_gateway(check: Check, gateway_url: str | None) -> Check:
    if check.name != PORT or check.state != "warn" or gateway_url is None:
        return check
    address = urlsplit(gateway_url).netloc
    if not check.detail.startswith(f"{address}: "):
        return check
    return check.model_copy(update={"state": "ok", "detail": f"{address}, held by this gpudeck"})


def title(checks: Sequence[Check]) -> str:
    """How many of each, for the panel's title."""
    counts = {state: sum(each.state == state for each in checks) for state in GLYPHS}
    words = {"ok": "in order", "warn": "to look at", "fail": "failed"}
    return ", ".join(f"{number} {words[state]}" for state, number in counts.items() if number)


def rows(checks: Sequence[Check], room: int) -> list[Line]:
    """What is wrong first; under each finding what to do about it."""
    if not checks:
        return []
    order = list(GLYPHS)
    name_room = max(cells(each.name) for each in checks)
    lines: list[Line] = []
    for each in sorted(checks, key=lambda check: -order.index(check.state)):
        lines += _rows(each, name_room, room)
    return lines


def _rows(check: Check, name_room: int, room: int) -> list[Line]:
    glyph, tone = GLYPHS[check.state]
    found, remedy = plain(check.detail), ""
    if check.state != "ok":
        found, _, remedy = found.partition("; ")
    head = line(Span(f"{glyph} ", tone), Span(f"{plain(check.name):<{name_room}}", Tone.STRONG), "  ")
    indent = " " * (name_room + 4)
    beside = max(room - len(indent), 20)
    first, *more = wrap(found, beside) or [()]
    lines = [line(head, first), *(line(indent, each) for each in more)]
    return lines + [
        line(indent, Span("→ " if index == 0 else "  ", tone), each)
        for index, each in enumerate(wrap(remedy, beside - 2, tone))
    ]
