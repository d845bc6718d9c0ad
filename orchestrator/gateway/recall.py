"""What a client's connection remembers of its heads: an equal one is not read again, and of one that differs where
earlier ones did, only what differs is.

Clients repeat themselves: what changes from one request to the next is an id, a trace, a length, a query. What is
remembered saves work and decides nothing: the head that comes of it is the one that reading every line would have given
(tests/gateway/test_recall.py), and whatever is of doubtful form is left to the scanner.
"""

from __future__ import annotations

from operator import ne
from typing import Final, NamedTuple

from orchestrator.gateway.fields import DROP, PASS, READ, REQUESTS, is_text
from orchestrator.gateway.head import RequestHead, is_target, length_of, sane_request_id, scan_request
from orchestrator.gateway.limits import Limits

KNOWN_BYTES: Final = 1_024
"""A head up to this size is kept for comparison with the next one of its connection."""
CHANGING_MAX: Final = 6
"""Reading more changing parts than this is no cheaper than a scan."""
MISSES_MAX: Final = 8
"""Patterns that a connection may have made in vain, one after the other: it makes no more then."""

# What is done with a part that changes. Plain integers: they are compared for every part.
_TARGET: Final = 0
_PASSED: Final = 1
"""A field that only the worker reads."""
_REQUEST_ID: Final = 2
_LENGTH: Final = 3
_IGNORED: Final = 4

_CHANGEABLE: Final[dict[bytes, int]] = {
    b"x-request-id": _REQUEST_ID,
    b"content-length": _LENGTH,
    b"idempotency-key": _PASSED,  # its presence counts, not its value
    b"x-forwarded-for": _IGNORED,
    b"x-forwarded-host": _IGNORED,
    b"x-forwarded-proto": _IGNORED,
    b"x-real-ip": _IGNORED,
    b"forwarded": _IGNORED,
}
"""The fields we know that may change without touching what others mean."""


class _Part(NamedTuple):
    """A stretch that changes: a target, or the value of a field."""

    before: bytes
    """All that is between it and the part before it."""
    use: int
    name_bytes: int
    """Length of `name:`."""
    place: int
    """Its line's place in `kept`, -1 for none."""


class _Pattern(NamedTuple):
    """What stays and what changes. Every byte that stays is compared, so a head that fits has the lines that the first
    one had."""

    parts: tuple[_Part, ...]
    end: bytes
    """What follows the last part, with the empty line."""
    changing: frozenset[int]
    """The numbers of the lines that parts are in."""

    def read(self, data: bytes, base: RequestHead, limits: Limits) -> tuple[RequestHead, int] | None:
        """The head that `data` begins with, and its size with the empty line; None when it does not fit, or holds what
        the scanner must judge. `base` is one that fits."""
        head = base.copy()
        at = 0
        for before, use, name_bytes, place in self.parts:
            if not data.startswith(before, at):
                return None
            at += len(before)
            end = data.find(b"\r" if use else b" ", at)
            if end < 0:
                return None
            value = data[at:end]
            if not _take(head, use, value, limits):
                return None
            if use == _PASSED:
                if head.kept is base.kept:
                    head.kept = base.kept.copy()
                head.kept[place], head.back = data[at - name_bytes : end], None
            at = end
        size = at + len(self.end)
        return (head, size) if data.startswith(self.end, at) and size <= limits.head_bytes else None


def _take(head: RequestHead, use: int, value: bytes, limits: Limits) -> bool:
    """Put a value that has changed into `head`. False when the scanner must judge it."""
    if use == _REQUEST_ID:
        head.request_id = sane_request_id(value.strip(b" \t"))
        return head.request_id is not None or is_text(value)
    if use == _TARGET:
        head.target, head.place = value, None
        return len(value) <= limits.target_bytes and is_target(value)
    if use == _LENGTH:
        length = length_of(value.strip(b" \t"))
        if length is None:
            return False
        head.content_length, head.back = length, None
        return True
    return is_text(value)


class Recall:
    """The last head of one connection that was read in full, and how those after it differ. It may hold a key, and
    lives as long as the connection."""

    __slots__ = ("_head", "_misses", "_pattern", "_raw")

    def __init__(self) -> None:
        self._head: RequestHead | None = None
        """None when there was none, or none that is worth remembering."""
        self._raw = b""
        """The bytes it came in, with the empty line."""
        self._pattern: _Pattern | None = None
        """None until two heads have differed: most connections never see that."""
        self._misses = 0

    def again(self, data: bytes, limits: Limits) -> tuple[RequestHead, int] | None:
        """The head that `data` begins with and its size, if it can be told from an earlier one; else it has to be
        read."""
        head = self._head
        if head is None:
            return None
        if data.startswith(self._raw):
            return head, len(self._raw)
        if self._pattern is None:
            return None
        found = self._pattern.read(data, head, limits)
        if found is not None:
            self._misses = 0
        return found

    def read(self, data: bytes, end: int, limits: Limits) -> RequestHead:
        """The head that `data` begins with; its empty line is at `end`. Raises Refusal as `scan_request` does."""
        head = scan_request(data[:end], limits.fields, limits.target_bytes)
        before, self._head = self._head, None
        # One that was made of another head goes with it: a request that fits it would be given this one's key and host.
        pattern, self._pattern = self._pattern, None
        if end <= KNOWN_BYTES:
            raw = data[: end + 4]
            if before is not None and self._misses < MISSES_MAX:
                self._misses += 1
                self._pattern = _pattern_of(self._raw, raw, head, pattern)
            self._head, self._raw = head, raw
        return head


def _pattern_of(earlier: bytes, raw: bytes, head: RequestHead, old: _Pattern | None) -> _Pattern | None:
    """How `raw`, which was read as `head`, differs from the head before it, and from those that fitted `old`; None when
    they have not the same fields in the same order, or differ in one that others depend on."""
    lines, others = raw[:-4].split(b"\r\n"), earlier[:-4].split(b"\r\n")
    places = _places(lines, head)
    if len(lines) != len(others) or head.upgrade is not None or places is None:
        return None
    changing = frozenset(i for i, differs in enumerate(map(ne, lines, others)) if differs)
    if old is not None:
        changing |= old.changing
    if len(changing) > CHANGING_MAX:
        return None
    parts, begun, at = [], 0, 0
    for number, (line, other) in enumerate(zip(lines, others, strict=True)):
        if number in changing:
            use, name_bytes = _field_use(line, other) if number else _target_use(line, other)
            if use is None:
                return None
            parts.append(_Part(raw[begun : at + name_bytes], use, name_bytes, places[number]))
            begun = at + (line.rindex(b" ") if use == _TARGET else len(line))
        at += len(line) + 2
    return _Pattern(tuple(parts), raw[begun:], changing)


def _places(lines: list[bytes], head: RequestHead) -> list[int] | None:
    """The place in `kept` of each line that is passed on, -1 for the others. None when Connection names some that are
    not."""
    passed = [False, *(REQUESTS.named(line.partition(b":")[0])[1] in (PASS, READ) for line in lines[1:])]
    if sum(passed) != len(head.kept):
        return None
    return [sum(passed[:number]) if on else -1 for number, on in enumerate(passed)]


def _target_use(line: bytes, other: bytes) -> tuple[int | None, int]:
    """What to do with a request line that came after `other`, and where its target begins. None unless nothing else
    changes."""
    method, _, version = line.split(b" ")
    same = other.startswith(method + b" ") and other.endswith(b" " + version)
    return (_TARGET if same else None), len(method) + 1


def _field_use(line: bytes, other: bytes) -> tuple[int | None, int]:
    """What to do with the line of a field that came in place of `other`, and where its value begins. None for one that
    the scanner has to read."""
    spelled = line.partition(b":")[0]
    if not other.startswith(spelled + b":"):
        return None, 0
    name, use = REQUESTS.named(spelled)
    changeable = {PASS: _PASSED, DROP: _IGNORED}.get(use)
    return (_CHANGEABLE.get(name) if changeable is None else changeable), len(spelled) + 1
