"""Header fields line by line: which of them we know, what becomes of each, what a line may hold. Pure and strict."""

from __future__ import annotations

from itertools import islice
from typing import Final

from orchestrator.gateway.answers import Refusal

_LINE_BYTES: Final = bytes([9, *range(0x20, 0x7F), *range(0x80, 0x100)])
_NAME_BYTES: Final = b"!#$%&'*+-.^`|~0123456789abcdefghijklmnopqrstuvwxyz"
"""Token characters without the underscore: see `Reader`."""
_REMEMBERED_MAX: Final = 2_048
_REMEMBERED_BYTES_MAX: Final = 256
_NAMES_MAX: Final = 512
_NAME_BYTES_MAX: Final = 64

# What becomes of a field. Plain integers: they are compared for every line of every head.
_TAKE: Final = 0
"""Read and replaced, or for this hop only: not passed on."""
READ: Final = 1
"""Read and passed on."""
_ONCE: Final = 2
"""Taken, and its line is not remembered: it may hold a key, or comes once and never again."""
PASS: Final = 3
"""Unknown to us: passed on."""
DROP: Final = 4
"""Unknown to us and not to be trusted: dropped."""
_FLEETING: Final = frozenset({b"content-length", b"cookie", b"idempotency-key", b"traceparent", b"tracestate"})
"""Lines of these hardly ever come twice: remembering them would push out those that do."""

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
    b"origin": READ,
    b"sec-fetch-site": READ,
    b"idempotency-key": READ,
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
_PASSED: Final = (b"", b"", PASS)
_DROPPED: Final = (b"", b"", DROP)


def is_text(line: bytes) -> bool:
    """After removing what a line may hold nothing is left: no control character, no bare LF, no bare CR."""
    return not line.translate(None, _LINE_BYTES)


_NO_FIELD: Final = "A header line is not `name: value` (folded lines are refused)."


def malformed(code: str, detail: str) -> Refusal:
    """A request that is not HTTP as it must be: its end cannot be known, so it ends the connection."""
    return Refusal(400, code, detail, close=True)


class Reader:
    """Reads field lines by one table of known fields, and remembers what lines mean: most lines of most heads have
    been seen before. What a line means depends on nothing but its bytes. Lines that may hold a key are not kept."""

    __slots__ = ("_known", "_lists", "_names", "_remembered")

    def __init__(self, known: dict[bytes, int], lists: frozenset[bytes]) -> None:
        self._known = known
        self._lists = lists
        self._names: dict[bytes, tuple[bytes, int]] = {}
        """What `named` says of names as they were spelled."""
        self._remembered: dict[bytes, tuple[bytes, bytes, int]] = {}

    def read(self, lines: list[bytes], kept: list[bytes]) -> dict[bytes, bytes]:
        """Values of known fields by lower-case name; every line to pass on is appended to `kept`. The first of `lines`
        is the start line, which is not looked at. Raises Refusal 400."""
        found: dict[bytes, bytes] = {}
        remembered = self._remembered
        for line in islice(lines, 1, None):
            name, value, use = remembered.get(line) or self._parse(line)
            if use is PASS:
                kept.append(line)
            elif use is not DROP:
                if name in found:
                    if name not in self._lists:
                        raise malformed("duplicate_field", f"The field {name.decode('ascii')} came more than once.")
                    value = found[name] + b"," + value
                found[name] = value
                if use is READ:
                    kept.append(line)
        return found

    def named(self, spelled: bytes) -> tuple[bytes, int]:
        """The lower-case name and the use of a field, from its name as it came. Raises Refusal 400 for what is no name:
        a folded line has none.

        Names with an underscore are dropped, as nginx does: CGI-like servers read `x_forwarded_for` and
        `x-forwarded-for` as the same variable, so a client could speak for us.
        """
        found = self._names.get(spelled)
        if found is not None:
            return found
        name = spelled.lower()
        use = self._known.get(name)
        if use is None:
            odd = name.translate(None, _NAME_BYTES)
            if not name or odd.strip(b"_"):
                raise malformed("bad_field", _NO_FIELD)
            use = DROP if odd else PASS
        if len(spelled) <= _NAME_BYTES_MAX:
            if len(self._names) >= _NAMES_MAX:
                self._names.clear()
            self._names[spelled] = (name, use)
        return name, use

    def _parse(self, line: bytes) -> tuple[bytes, bytes, int]:
        """Name, value and use of a line; the name and value of those that we do not know are empty."""
        if line.translate(None, _LINE_BYTES):
            raise malformed("bad_character", "The head holds a control character, a bare CR or a bare LF.")
        spelled, colon, value = line.partition(b":")
        if not colon:
            raise malformed("bad_field", _NO_FIELD)
        name, use = self._names.get(spelled) or self.named(spelled)
        if use is PASS:
            field = _PASSED
        elif use is DROP:
            field = _DROPPED
        else:
            field = (name, value.strip(b" \t"), use)
        if use is _ONCE or name in _FLEETING:
            return field
        if len(line) <= _REMEMBERED_BYTES_MAX:
            if len(self._remembered) >= _REMEMBERED_MAX:
                self._remembered.clear()
            self._remembered[line] = field
        return field


REQUESTS: Final = Reader(_REQUEST_FIELDS, _REQUEST_LISTS)
REPLIES: Final = Reader(_REPLY_FIELDS, _REPLY_LISTS)
