"""Heads of requests and replies, scanned from bytes in one pass. Pure, and strict where leniency has let requests be
smuggled: two parties that read one head differently is the whole of that attack (reliability.md 3.4, W8).

A head is what precedes the empty line, without it. Fields we neither read nor replace are kept as raw lines.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from orchestrator.gateway.answers import Refusal
from orchestrator.gateway.fields import REPLIES, REQUESTS, malformed

if TYPE_CHECKING:
    from orchestrator.gateway.routes import Place

_REQUEST_LINE: Final = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])"
).fullmatch
_METHODS: Final = frozenset({b"GET", b"POST", b"HEAD", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
_MINORS: Final = {b"HTTP/1.1": 1, b"HTTP/1.0": 0}
_TARGET_BYTES: Final = bytes(range(0x21, 0x7F))
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?").fullmatch
_LENGTH: Final = re.compile(rb"[0-9]{1,15}").fullmatch
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}").fullmatch
_NO_CONTENT: Final = 204
_IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})

_REPLIES_MAX: Final = 256
_REPLY_BYTES_MAX: Final = 1_024
"""Whole heads of replies are remembered too, up to this size: they name no caller, and a worker repeats itself."""


class RequestHead:
    """What the gateway needs of a request. Bytes are raw."""

    __slots__ = (
        "accept", "back", "chunked", "content_length", "digest", "expects", "host", "idempotent", "keep_alive", "kept",
        "key", "method", "minor", "origin", "place", "request_id", "site", "target", "upgrade",
    )  # fmt: skip

    def __init__(self, method: bytes, target: bytes, minor: int) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.kept: list[bytes] = []
        """Raw field lines to pass on, without line ends."""
        self.keep_alive = minor == 1
        self.idempotent = method in _IDEMPOTENT
        """Safe to send twice: by its method, or because the client said so with Idempotency-Key."""
        self.host: bytes | None = None
        self.content_length = -1
        """-1 when there is none."""
        self.chunked = False
        self.expects = False
        """The client waits for 100 Continue."""
        self.key: bytes | None = None
        self.request_id: bytes | None = None
        """The client's own, when it is a sane one."""
        self.origin: bytes | None = None
        self.site: bytes | None = None
        self.upgrade: bytes | None = None
        """The protocols offered, if Connection names the field as it must."""
        # What follows from the above, kept because the next head of a connection is often the same, byte by byte. None
        # of it depends on anything that can change meanwhile.
        self.digest: bytes | None = None
        """SHA-256 of the key (auth.py)."""
        self.accept: bytes | None = None
        """What a worker's 101 must hold to answer it; None unless a WebSocket is asked for (websocket.py)."""
        self.place: Place | None = None
        """What its target names (routes.py). Set once it has passed everything that is decided by the head alone."""
        self.back: bytes | None = None
        """The rest of the head that the worker gets, from the end of the request's id (wire.py)."""

    @property
    def has_body(self) -> bool:
        return self.chunked or self.content_length > 0

    def copy(self) -> RequestHead:
        """Another one that is equal. Spelled out: a loop over the names takes three times as long."""
        head = RequestHead.__new__(RequestHead)
        head.accept, head.back, head.place, head.digest = self.accept, self.back, self.place, self.digest
        head.method, head.target, head.minor, head.host = self.method, self.target, self.minor, self.host
        head.key, head.kept, head.request_id, head.upgrade = self.key, self.kept, self.request_id, self.upgrade
        head.content_length, head.chunked, head.expects = self.content_length, self.chunked, self.expects
        head.keep_alive, head.idempotent = self.keep_alive, self.idempotent
        head.origin, head.site = self.origin, self.site
        return head


class ReplyHead:
    """What the gateway needs of a worker's reply. One object stands for every reply with the same head, so nobody
    changes it; only `front` is filled in, by the first who needs it."""

    __slots__ = ("chunked", "content_length", "fields", "front", "keep_alive", "kept", "reason", "status", "upgrade")

    def __init__(self, status: int, reason: bytes, keep_alive: bool) -> None:
        self.status = status
        self.reason = reason
        self.keep_alive = keep_alive
        self.kept: list[bytes] = []
        """Raw field lines to pass on, without line ends."""
        self.content_length = -1
        """-1 when there is none."""
        self.chunked = False
        self.upgrade: bytes | None = None
        self.fields = 0
        """How many fields it had."""
        self.front: bytes | None = None
        """Its beginning as clients get it (wire.py)."""


def scan_request(head: bytes, fields_max: int, target_max: int) -> RequestHead:
    """The request in `head`. Raises Refusal: 400, 414, 417, 431, 501 or 505, always with `close`."""
    lines = head.split(b"\r\n")
    method, target, minor = _request_line(lines[0])
    if len(target) > target_max:
        raise Refusal(414, "target_too_long", f"The request target is longer than {target_max} bytes.", close=True)
    if len(lines) > fields_max + 1:
        raise Refusal(431, "too_many_fields", f"More than {fields_max} header fields.", close=True)
    request = RequestHead(method, target, minor)
    found = REQUESTS.read(lines, request.kept)
    request.host = found.pop(b"host", None)
    if request.host is None and request.minor:
        raise malformed("host_missing", "HTTP/1.1 needs exactly one Host field.")
    request.key = found.pop(b"x-api-key", None)
    if found:
        _read_rest(request, found)
    return request


def _request_line(line: bytes) -> tuple[bytes, bytes, int]:
    """Method, target and minor version. Raises Refusal 400 or 505."""
    parts = line.split(b" ")
    if len(parts) == 3:  # the usual words need no regular expression, which takes three times as long
        method, target, version = parts
        if version in _MINORS and method in _METHODS and is_target(target):
            return method, target, _MINORS[version]
    match = _REQUEST_LINE(line)
    if match is None:
        raise malformed("bad_request_line", "The request line is not `METHOD SP target SP HTTP/1.1` in visible ASCII.")
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
    if request_id is not None:
        request.request_id = sane_request_id(request_id)
    if b"idempotency-key" in found:
        request.idempotent = True
    request.origin = get(b"origin")
    request.site = get(b"sec-fetch-site")
    if request.minor and _names_upgrade(connection):
        request.upgrade = get(b"upgrade")
    expect = get(b"expect")
    if expect is not None and request.minor:
        if expect.lower() != b"100-continue":
            raise Refusal(417, "expectation_unknown", "Expect: only 100-continue is supported.", close=True)
        request.expects = True


def is_target(text: bytes) -> bool:
    """It has the characters of a target, whatever it names."""
    return bool(text) and not text.translate(None, _TARGET_BYTES)


def sane_request_id(value: bytes) -> bytes | None:
    """A client's own id if it may stand in logs and heads as it is."""
    return value if _REQUEST_ID(value) else None


def length_of(value: bytes) -> int | None:
    """The number of bytes in a Content-Length; None for what is no plain decimal number of at most 15 digits."""
    return int(value) if _LENGTH(value) else None


_SEEN: Final[dict[bytes, ReplyHead | None]] = {}
"""Kept from the second time on: replies that never repeat must not fill the heap with what nobody asks for."""


def scan_reply(head: bytes, fields_max: int) -> ReplyHead:
    """The reply in `head`. Raises Refusal with status 502: the worker does not speak HTTP/1 properly."""
    reply = _SEEN.get(head)
    if reply is None:
        reply = _scan_reply(head, fields_max)
        if len(head) <= _REPLY_BYTES_MAX:
            if len(_SEEN) >= _REPLIES_MAX:
                _SEEN.clear()
            _SEEN[head] = reply if head in _SEEN else None
    elif reply.fields > fields_max:
        raise _too_many_fields(fields_max)
    return reply


def _scan_reply(head: bytes, fields_max: int) -> ReplyHead:
    lines = head.split(b"\r\n")
    status, reason, persistent = _status_line(lines[0])
    if len(lines) > fields_max + 1:
        raise _too_many_fields(fields_max)
    reply = ReplyHead(status, reason, persistent)
    reply.fields = len(lines) - 1
    try:
        found = REPLIES.read(lines, reply.kept)
    except Refusal as error:
        raise _lie(error.detail) from error
    length = found.get(b"content-length")
    if length is not None:
        number = length_of(length)
        if number is None:
            raise _lie("its Content-Length is not a number")
        reply.content_length = number
    coding = found.get(b"transfer-encoding")
    if coding is not None:
        if length is not None or coding.lower() != b"chunked":
            raise _lie("its Transfer-Encoding is not plain `chunked`, or comes with a Content-Length")
        if not persistent:
            raise _lie("it has a Transfer-Encoding although it is HTTP/1.0")
        reply.chunked = True
    connection = found.get(b"connection")
    if connection is not None:
        reply.keep_alive = _connection(connection, reply.keep_alive, reply.kept)
        if _names_upgrade(connection):
            reply.upgrade = found.get(b"upgrade")
    if status == _NO_CONTENT and (reply.chunked or reply.content_length > 0):
        reply.keep_alive = False  # the body that it must not have could be taken for the next reply
    return reply


def _frame_request(request: RequestHead, found: dict[bytes, bytes]) -> None:
    """Decide how the body is delimited. One way only, or 400 (RFC 9112 6.3)."""
    length = found.get(b"content-length")
    if length is not None:
        number = length_of(length)
        if number is None:
            raise malformed("bad_content_length", "Content-Length is not a plain decimal number of at most 15 digits.")
        request.content_length = number
    coding = found.get(b"transfer-encoding")
    if coding is None:
        return
    if length is not None:
        raise malformed("two_framings", "Content-Length and Transfer-Encoding must not come together.")
    if not request.minor:
        raise malformed("two_framings", "Transfer-Encoding is not allowed in HTTP/1.0.")
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


def _names_upgrade(connection: bytes | None) -> bool:
    return connection is not None and b"upgrade" in {t.strip(b" \t") for t in connection.lower().split(b",")}


def _too_many_fields(fields_max: int) -> Refusal:
    return _lie(f"it has more than {fields_max} header fields")


def _lie(detail: str) -> Refusal:
    return Refusal(502, "worker_protocol", f"The worker's reply is not valid HTTP: {detail}.")
