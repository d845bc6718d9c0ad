"""Heads of requests and replies, scanned from bytes in one pass. Pure, and strict where leniency has let requests be
smuggled: two parties that read one head differently is the whole of that attack (reliability.md 3.4, W8).

A head is what precedes the empty line, without it. Fields we neither read nor replace are kept as raw lines.
"""

from __future__ import annotations

import re
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
"""Token characters without the underscore: see `_fields`."""
_CRLF: Final = b"\r\n"

_TAKEN: Final = False
_KEPT: Final = True
_REQUEST_FIELDS: Final[dict[bytes, bool]] = {
    b"host": _TAKEN,
    b"content-length": _TAKEN,
    b"transfer-encoding": _TAKEN,
    b"connection": _TAKEN,
    b"proxy-connection": _TAKEN,
    b"keep-alive": _TAKEN,
    b"te": _TAKEN,
    b"trailer": _TAKEN,
    b"upgrade": _TAKEN,
    b"http2-settings": _TAKEN,
    b"expect": _TAKEN,
    b"x-api-key": _TAKEN,
    b"authorization": _TAKEN,
    b"proxy-authorization": _TAKEN,
    b"x-request-id": _TAKEN,
    # Who called is for us to say: a worker must not believe a client about it.
    b"x-forwarded-for": _TAKEN,
    b"x-forwarded-host": _TAKEN,
    b"x-forwarded-proto": _TAKEN,
    b"x-real-ip": _TAKEN,
    b"forwarded": _TAKEN,
    b"origin": _KEPT,
    b"sec-fetch-site": _KEPT,
    b"idempotency-key": _KEPT,
}
_REPLY_FIELDS: Final[dict[bytes, bool]] = {
    b"content-length": _TAKEN,
    b"transfer-encoding": _TAKEN,
    b"connection": _TAKEN,
    b"proxy-connection": _TAKEN,
    b"keep-alive": _TAKEN,
    b"te": _TAKEN,
    b"trailer": _TAKEN,
    b"upgrade": _TAKEN,
    b"proxy-authenticate": _TAKEN,
    b"x-request-id": _TAKEN,
    b"x-worker-id": _TAKEN,
    b"x-queue-ms": _TAKEN,
    b"x-cold-start": _TAKEN,
    b"x-remaining-credits": _TAKEN,
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


class RequestHead:
    """What the gateway needs of a request. Bytes are raw; `content_length` is -1 when there is none."""

    __slots__ = (
        "chunked", "content_length", "expects", "host", "idempotent", "keep_alive", "kept", "key", "method", "minor",
        "origin", "request_id", "site", "target", "upgrade",
    )  # fmt: skip

    def __init__(self, method: bytes, target: bytes, minor: int, kept: list[bytes]) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.kept = kept
        """Raw field lines to pass on, without line ends."""
        self.host: bytes | None = None
        self.content_length = -1
        self.chunked = False
        self.keep_alive = minor == 1
        self.idempotent = method in _IDEMPOTENT
        """Safe to send twice: by its method, or because the client said so with Idempotency-Key."""
        self.expects = False
        self.key: bytes | None = None
        self.request_id: bytes | None = None
        self.origin: bytes | None = None
        self.site: bytes | None = None
        self.upgrade: bytes | None = None

    @property
    def has_body(self) -> bool:
        return self.chunked or self.content_length > 0


class ReplyHead:
    """What the gateway needs of a worker's reply; `content_length` is -1 when there is none."""

    __slots__ = ("chunked", "content_length", "keep_alive", "kept", "reason", "status")

    def __init__(self, status: int, reason: bytes, kept: list[bytes], keep_alive: bool) -> None:
        self.status = status
        self.reason = reason
        self.kept = kept
        self.keep_alive = keep_alive
        self.content_length = -1
        self.chunked = False


def scan_request(head: bytes, fields_max: int, target_max: int) -> RequestHead:
    """The request in `head`. Raises Refusal: 400, 414, 417, 431, 501 or 505, always with `close`."""
    lines = head.split(_CRLF)
    line = _REQUEST_LINE(lines[0])
    if line is None:
        raise _bad("bad_request_line", "The request line is not `METHOD SP target SP HTTP/1.1` in visible ASCII.")
    method, target, major, minor = line.groups()
    if major != b"1" or minor > b"1":
        raise Refusal(505, "version_unsupported", "This gateway speaks HTTP/1.1 and HTTP/1.0.", close=True)
    if len(target) > target_max:
        raise Refusal(414, "target_too_long", f"The request target is longer than {target_max} bytes.", close=True)
    _check_bytes(head, lines, fields_max)
    kept: list[bytes] = []
    found = _fields(lines, _REQUEST_FIELDS, _REQUEST_LISTS, kept)
    request = RequestHead(method, target, 1 if minor == b"1" else 0, kept)
    request.host = found.get(b"host")
    if request.host is None and request.minor:
        raise _bad("host_missing", "HTTP/1.1 needs exactly one Host field.")
    _frame_request(request, found)
    if b"connection" in found:
        request.keep_alive = _connection(found[b"connection"], request.minor == 1, kept)
    request.key = _key(found)
    if b"x-request-id" in found and _REQUEST_ID(found[b"x-request-id"]):
        request.request_id = found[b"x-request-id"]
    if b"idempotency-key" in found:
        request.idempotent = True
    request.origin = found.get(b"origin")
    request.site = found.get(b"sec-fetch-site")
    request.upgrade = found.get(b"upgrade")
    if b"expect" in found and request.minor:
        if found[b"expect"].lower() != b"100-continue":
            raise Refusal(417, "expectation_unknown", "Expect: only 100-continue is supported.", close=True)
        request.expects = True
    return request


def scan_reply(head: bytes, fields_max: int) -> ReplyHead:
    """The reply in `head`. Raises Refusal with status 502: the worker does not speak HTTP/1 properly."""
    lines = head.split(_CRLF)
    line = _STATUS_LINE(lines[0])
    if line is None:
        raise _lie("its status line is malformed")
    try:
        _check_bytes(head, lines, fields_max)
        kept: list[bytes] = []
        found = _fields(lines, _REPLY_FIELDS, _REPLY_LISTS, kept)
    except Refusal as error:
        raise _lie(error.detail) from error
    minor, status, reason = line.groups()
    reply = ReplyHead(int(status), reason or b"", kept, minor == b"1")
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
    if b"connection" in found:
        reply.keep_alive = _connection(found[b"connection"], reply.keep_alive, kept)
    return reply


def _check_bytes(head: bytes, lines: list[bytes], fields_max: int) -> None:
    """Refuse too many fields, and any control character: after removing what a line may hold, only the line ends are
    left. That also finds a bare LF and a bare CR."""
    if len(lines) > fields_max + 1:
        raise Refusal(431, "too_many_fields", f"More than {fields_max} header fields.", close=True)
    if head.translate(None, _LINE_BYTES) != _CRLF * (len(lines) - 1):
        raise _bad("bad_character", "The head holds a control character, a bare CR or a bare LF.")


def _fields(
    lines: list[bytes], known: dict[bytes, bool], lists: frozenset[bytes], kept: list[bytes]
) -> dict[bytes, bytes]:
    """Values of `known` fields by lower-case name; every line to pass on is appended to `kept`.

    Names with an underscore are dropped, as nginx does: CGI-like servers read `x_forwarded_for` and `x-forwarded-for`
    as the same variable, so a client could speak for us.
    """
    found: dict[bytes, bytes] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        name = name.lower()
        keep = known.get(name)
        if keep is None:
            odd = name.translate(None, _NAME_BYTES)
            if not odd and colon and name:
                kept.append(line)
            elif not colon or not name or odd.strip(b"_"):
                raise _bad("bad_field", "A header line is not `name: value` (folded lines are refused).")
            continue
        if not colon:
            raise _bad("bad_field", "A header line has no colon.")
        value = value.strip(b" \t")
        if name in found:
            if name not in lists:
                raise _bad("duplicate_field", f"The field {name.decode('ascii')} came more than once.")
            value = found[name] + b"," + value
        found[name] = value
        if keep:
            kept.append(line)
    return found


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


def _key(found: dict[bytes, bytes]) -> bytes | None:
    key = found.get(b"x-api-key")
    if key is None:
        scheme, _, credential = found.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer":
            key = credential.strip(b" ")
    return key


def _bad(code: str, detail: str) -> Refusal:
    return Refusal(400, code, detail, close=True)


def _lie(detail: str) -> Refusal:
    return Refusal(502, "worker_protocol", f"The worker's reply is not valid HTTP: {detail}.")
