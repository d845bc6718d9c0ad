"""Heads of requests and replies, scanned from bytes in one pass. Pure, and strict where leniency has let requests be
smuggled: two parties that read one head differently is the whole of that attack (reliability.md 3.4, W8).

A head is what precedes the empty line, without it. Fields we neither read nor replace are kept as raw lines.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from orchestrator.gateway.answers import Refusal

_REQUEST_LINE: Final = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])"
).fullmatch
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?").fullmatch
_LENGTH: Final = re.compile(rb"[0-9]{1,15}").fullmatch
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}").fullmatch
_LINE_BYTES: Final = bytes([9, *range(0x20, 0x7F), *range(0x80, 0x100)])
_NAME_BYTES: Final = b"!#$%&'*+-.^`|~0123456789abcdefghijklmnopqrstuvwxyz"
"""Token characters without the underscore: see `_Reader`."""


# What becomes of a field that we know. Plain integers: they are compared for every line of every head.
_TAKE: Final = 0
"""Read and replaced, or for this hop only: not passed on."""
_READ: Final = 1
"""Read and passed on."""
_SECRET: Final = 2
"""Taken, and its line is never remembered."""

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
    b"x-api-key": _SECRET,
    b"authorization": _SECRET,
    b"proxy-authorization": _SECRET,
    b"x-request-id": _TAKE,
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
_IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})

_REMEMBERED_MAX: Final = 2_048
_REMEMBERED_BYTES_MAX: Final = 256
_PASS: Final = (b"", b"", _READ)
_DROP: Final = (b"", b"", _TAKE)


class _Reader:
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
                        raise _bad("duplicate_field", f"The field {name.decode('ascii')} came more than once.")
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
            raise _bad("bad_character", "The head holds a control character, a bare CR or a bare LF.")
        name, colon, value = line.partition(b":")
        name = name.lower()
        use = self._known.get(name)
        if use is not None and colon:
            field = (name, value.strip(b" \t"), use)
            if use is _SECRET:
                return field
        else:
            odd = name.translate(None, _NAME_BYTES)
            if not colon or not name or odd.strip(b"_"):
                raise _bad("bad_field", "A header line is not `name: value` (folded lines are refused).")
            field = _DROP if odd else _PASS
        if len(line) <= _REMEMBERED_BYTES_MAX:
            if len(self._remembered) >= _REMEMBERED_MAX:
                self._remembered.clear()
            self._remembered[line] = field
        return field


_REQUESTS: Final = _Reader(_REQUEST_FIELDS, _REQUEST_LISTS)
_REPLIES: Final = _Reader(_REPLY_FIELDS, _REPLY_LISTS)


class RequestHead:
    """What the gateway needs of a request. Bytes are raw; defaults stand in the class, so that only what a request
    really says costs anything."""

    host: bytes | None = None
    content_length = -1
    """-1 when there is none."""
    chunked = False
    expects = False
    """The client waits for 100 Continue."""
    key: bytes | None = None
    request_id: bytes | None = None
    """The client's own, when it is a sane one."""
    origin: bytes | None = None
    site: bytes | None = None
    upgrade: bytes | None = None

    def __init__(self, method: bytes, target: bytes, minor: int) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.kept: list[bytes] = []
        """Raw field lines to pass on, without line ends."""
        self.keep_alive = minor == 1
        self.idempotent = method in _IDEMPOTENT
        """Safe to send twice: by its method, or because the client said so with Idempotency-Key."""

    @property
    def has_body(self) -> bool:
        return self.chunked or self.content_length > 0


class ReplyHead:
    """What the gateway needs of a worker's reply."""

    content_length = -1
    """-1 when there is none."""
    chunked = False

    def __init__(self, status: int, reason: bytes, keep_alive: bool) -> None:
        self.status = status
        self.reason = reason
        self.keep_alive = keep_alive
        self.kept: list[bytes] = []
        """Raw field lines to pass on, without line ends."""


def scan_request(head: bytes, fields_max: int, target_max: int) -> RequestHead:
    """The request in `head`. Raises Refusal: 400, 414, 417, 431, 501 or 505, always with `close`."""
    lines = head.split(b"\r\n")
    method, target, minor = _request_line(lines.pop(0))
    if len(target) > target_max:
        raise Refusal(414, "target_too_long", f"The request target is longer than {target_max} bytes.", close=True)
    if len(lines) > fields_max:
        raise Refusal(431, "too_many_fields", f"More than {fields_max} header fields.", close=True)
    request = RequestHead(method, target, minor)
    found = _REQUESTS.read(lines, request.kept)
    request.host = found.pop(b"host", None)
    if request.host is None and request.minor:
        raise _bad("host_missing", "HTTP/1.1 needs exactly one Host field.")
    request.key = found.pop(b"x-api-key", None)
    if found:
        _read_rest(request, found)
    return request


@lru_cache(maxsize=512)
def _request_line(line: bytes) -> tuple[bytes, bytes, int]:
    """Method, target and minor version."""
    match = _REQUEST_LINE(line)
    if match is None:
        raise _bad("bad_request_line", "The request line is not `METHOD SP target SP HTTP/1.1` in visible ASCII.")
    method, target, major, minor = match.groups()
    if major != b"1" or minor > b"1":
        raise Refusal(505, "version_unsupported", "This gateway speaks HTTP/1.1 and HTTP/1.0.", close=True)
    return method, target, int(minor)


@lru_cache(maxsize=128)
def _status_line(line: bytes) -> tuple[int, bytes, bool]:
    """Status, reason, and whether the version keeps connections."""
    match = _STATUS_LINE(line)
    if match is None:
        raise _lie("its status line is malformed")
    minor, status, reason = match.groups()
    return int(status), reason or b"", minor == b"1"


def _read_rest(request: RequestHead, found: dict[bytes, bytes]) -> None:
    """Everything but the host and the usual key: most requests have little or nothing of it."""
    get = found.get
    if b"content-length" in found or b"transfer-encoding" in found:
        _frame_request(request, found)
    connection = get(b"connection")
    if connection is not None:
        request.keep_alive = _connection(connection, request.minor == 1, request.kept)
    if request.key is None:
        scheme, _, credential = get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer":
            request.key = credential.strip(b" ")
    request_id = get(b"x-request-id")
    if request_id is not None and _REQUEST_ID(request_id):
        request.request_id = request_id
    if b"idempotency-key" in found:
        request.idempotent = True
    request.origin = get(b"origin")
    request.site = get(b"sec-fetch-site")
    request.upgrade = get(b"upgrade")
    expect = get(b"expect")
    if expect is not None and request.minor:
        if expect.lower() != b"100-continue":
            raise Refusal(417, "expectation_unknown", "Expect: only 100-continue is supported.", close=True)
        request.expects = True


def scan_reply(head: bytes, fields_max: int) -> ReplyHead:
    """The reply in `head`. Raises Refusal with status 502: the worker does not speak HTTP/1 properly."""
    lines = head.split(b"\r\n")
    status, reason, persistent = _status_line(lines.pop(0))
    if len(lines) > fields_max:
        raise _lie(f"it has more than {fields_max} header fields")
    reply = ReplyHead(status, reason, persistent)
    try:
        found = _REPLIES.read(lines, reply.kept)
    except Refusal as error:
        raise _lie(error.detail) from error
    length = found.get(b"content-length")
    if length is not None:
        if not _LENGTH(length):
            raise _lie("its Content-Length is not a number")
        reply.content_length = int(length)
    coding = found.get(b"transfer-encoding")
    if coding is not None:
        if length is not None or coding.lower() != b"chunked":
            raise _lie("its Transfer-Encoding is not plain `chunked`, or comes with a Content-Length")
        reply.chunked = True
    connection = found.get(b"connection")
    if connection is not None:
        reply.keep_alive = _connection(connection, reply.keep_alive, reply.kept)
    return reply


def _frame_request(request: RequestHead, found: dict[bytes, bytes]) -> None:
    """Decide how the body is delimited. One way only, or 400 (RFC 9112 6.3)."""
    length = found.get(b"content-length")
    if length is not None:
        if not _LENGTH(length):
            raise _bad("bad_content_length", "Content-Length is not a plain decimal number of at most 15 digits.")
        request.content_length = int(length)
    coding = found.get(b"transfer-encoding")
    if coding is None:
        return
    if length is not None:
        raise _bad("two_framings", "Content-Length and Transfer-Encoding must not come together.")
    if not request.minor:
        raise _bad("two_framings", "Transfer-Encoding is not allowed in HTTP/1.0.")
    if coding.lower() != b"chunked":
        raise Refusal(501, "coding_unsupported", "Transfer-Encoding: only `chunked` is supported.", close=True)
    request.chunked = True


def _connection(value: bytes, keep_alive: bool, kept: list[bytes]) -> bool:
    """Whether the connection persists; fields that Connection names are for this hop only and leave `kept`."""
    value = value.lower()
    if value == b"keep-alive":
        return True
    if value == b"close":
        return False
    tokens = {token.strip(b" \t") for token in value.split(b",")}
    named = tokens - {b"close", b"keep-alive", b""}
    if named:
        kept[:] = [line for line in kept if line.partition(b":")[0].lower() not in named]
    if b"close" in tokens:
        return False
    return keep_alive or b"keep-alive" in tokens


def _bad(code: str, detail: str) -> Refusal:
    return Refusal(400, code, detail, close=True)


def _lie(detail: str) -> Refusal:
    return Refusal(502, "worker_protocol", f"The worker's reply is not valid HTTP: {detail}.")
