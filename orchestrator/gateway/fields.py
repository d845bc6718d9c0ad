"""Header fields line by line: which of them we know, what becomes of each, what a line may hold. Pure and strict."""

from __future__ import annotations

from typing import Final

from orchestrator.gateway.answers import Refusal

_LINE_BYTES: Final = bytes([9, *range(0x20, 0x7F), *range(0x80, 0x100)])
_NAME_BYTES: Final = b"!#$%&'*+-.^`|~0123456789abcdefghijklmnopqrstuvwxyz"
"""Token characters without the underscore: see `Reader`."""
_REMEMBERED_MAX: Final = 2_048
_REMEMBERED_BYTES_MAX: Final = 256

# What becomes of a field that we know. Plain integers: they are compared for every line of every head.
_TAKE: Final = 0
"""Read and replaced, or for this hop only: not passed on."""
_READ: Final = 1
"""Read and passed on."""
_ONCE: Final = 2
"""Taken, and its line is not remembered: it may hold a key, or comes once and never again."""

_REQUEST_FIELDS: Final[dict[bytes, int]] = {
    b"host": _TAKE,
    b"content-length": _TAKE,
    b"transfer-encoding": _TAKE,
    b"connection": _TAKE,
    b"proxy-connection": _TAKE,
    b"keep-alive": _TAKE,
    b"te": _TAKE,
    b"trailer": _TAKE,
    b"upgrade": _TAKE,
    b"http2-settings": _TAKE,
    b"expect": _TAKE,
    b"x-api-key": _ONCE,
    b"authorization": _ONCE,
    b"proxy-authorization": _ONCE,
    b"x-request-id": _ONCE,
    # Who called is for us to say: a worker must not believe a client about it.
    b"x-forwarded-for": _TAKE,
    b"x-forwarded-host": _TAKE,
    b"x-forwarded-proto": _TAKE,
    b"x-real-ip": _TAKE,
    b"forwarded": _TAKE,
    b"origin": _READ,
    b"sec-fetch-site": _READ,
    b"idempotency-key": _READ,
}
_REPLY_FIELDS: Final[dict[bytes, int]] = {
    b"content-length": _TAKE,
    b"transfer-encoding": _TAKE,
    b"connection": _TAKE,
    b"proxy-connection": _TAKE,
    b"keep-alive": _TAKE,
    b"te": _TAKE,
    b"trailer": _TAKE,
    b"upgrade": _TAKE,
    b"proxy-authenticate": _TAKE,
    b"x-request-id": _TAKE,
    b"x-worker-id": _TAKE,
    b"x-queue-ms": _TAKE,
    b"x-cold-start": _TAKE,
    b"x-remaining-credits": _TAKE,
}
_REQUEST_LISTS: Final = frozenset(
    {
        b"connection", b"proxy-connection", b"keep-alive", b"te", b"trailer", b"upgrade",
        b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"forwarded",
    }
)  # fmt: skip
"""Known fields that may come in several lines; any other known field must come once."""
_REPLY_LISTS: Final = frozenset(_REPLY_FIELDS) - {b"content-length", b"transfer-encoding"}
_PASS: Final = (b"", b"", _READ)
_DROP: Final = (b"", b"", _TAKE)


def malformed(code: str, detail: str) -> Refusal:
    """A request that is not HTTP as it must be: its end cannot be known, so it ends the connection."""
    return Refusal(400, code, detail, close=True)


class Reader:
    """Reads field lines by one table of known fields, and remembers what lines mean: most lines of most heads have
    been seen before. What a line means depends on nothing but its bytes. Lines that may hold a key are not kept."""

    __slots__ = ("_known", "_lists", "_remembered")

    def __init__(self, known: dict[bytes, int], lists: frozenset[bytes]) -> None:
        self._known = known
        self._lists = lists
        self._remembered: dict[bytes, tuple[bytes, bytes, int]] = {}

    def read(self, lines: list[bytes], kept: list[bytes]) -> dict[bytes, bytes]:
        """Values of known fields by lower-case name; every line to pass on is appended to `kept`. `lines` are without
        the start line. Raises Refusal 400."""
        found: dict[bytes, bytes] = {}
        remembered = self._remembered
        for line in lines:
            field = remembered.get(line) or self._parse(line)
            if field is _PASS:
                kept.append(line)
            elif field is not _DROP:
                name, value, use = field
                if name in found:
                    if name not in self._lists:
                        raise malformed("duplicate_field", f"The field {name.decode('ascii')} came more than once.")
                    value = found[name] + b"," + value
                found[name] = value
                if use is _READ:
                    kept.append(line)
        return found

    def _parse(self, line: bytes) -> tuple[bytes, bytes, int]:
        """Name, value and use of a line. After removing what a line may hold nothing must be left: that finds control
        characters, a bare LF and a bare CR. A folded line has no name.

        Names with an underscore are dropped, as nginx does: CGI-like servers read `x_forwarded_for` and
        `x-forwarded-for` as the same variable, so a client could speak for us.
        """
        if line.translate(None, _LINE_BYTES):
            raise malformed("bad_character", "The head holds a control character, a bare CR or a bare LF.")
        name, colon, value = line.partition(b":")
        name = name.lower()
        use = self._known.get(name)
        if use is not None and colon:
            field = (name, value.strip(b" \t"), use)
            if use is _ONCE:
                return field
        else:
            odd = name.translate(None, _NAME_BYTES)
            if not colon or not name or odd.strip(b"_"):
                raise malformed("bad_field", "A header line is not `name: value` (folded lines are refused).")
            field = _DROP if odd else _PASS
        if len(line) <= _REMEMBERED_BYTES_MAX:
            if len(self._remembered) >= _REMEMBERED_MAX:
                self._remembered.clear()
            self._remembered[line] = field
        return field


REQUESTS: Final = Reader(_REQUEST_FIELDS, _REQUEST_LISTS)
REPLIES: Final = Reader(_REPLY_FIELDS, _REPLY_LISTS)
