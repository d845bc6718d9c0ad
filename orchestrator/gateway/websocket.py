"""The opening handshake of WebSocket (RFC 6455) as a proxy must judge it, and where its frames end. Pure.

Both ends must have agreed before bytes pass unread: a proxy that takes one side's word for it can be led to carry
requests that it has not looked at.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from typing import Final

from orchestrator.gateway.answers import Refusal
from orchestrator.gateway.head import ReplyHead, RequestHead

_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==").fullmatch
"""Sixteen bytes in base64; the last digit of theirs carries two bits."""
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CLOSE: Final = 8
_AWAY: Final = (1001).to_bytes(2, "big")
AWAY_TO_CLIENT: Final = bytes([0x80 | _CLOSE, len(_AWAY)]) + _AWAY
"""A Close frame, 1001: going away."""
AWAY_TO_WORKER: Final = bytes([0x80 | _CLOSE, 0x80 | len(_AWAY), 0, 0, 0, 0]) + _AWAY
"""The same as a client sends it: masked."""
FRAMES_AT_ONCE: Final = 2_048
"""In one piece of data. A flood of empty frames would hold up every other request for the whole of each piece."""
_WITHOUT_END: Final = 1 << 62


def read_offer(head: RequestHead) -> None:
    """If `head` asks for a WebSocket, note in `head.accept` what the worker must answer. Other protocols may be
    ignored (RFC 9110 7.8), and are. Raises Refusal 400 or 426."""
    protocols = {name.strip(b" \t").lower() for name in (head.upgrade or b"").split(b",")}
    if b"websocket" not in protocols:
        return
    if head.method != b"GET" or head.has_body:
        raise _bad("A WebSocket begins with a GET without a body.")
    if _values(head.kept, b"sec-websocket-version") != [b"13"]:
        fields = (("sec-websocket-version", "13"), ("upgrade", "websocket"), ("connection", "Upgrade"))
        raise Refusal(426, "websocket_version", "WebSocket is served in version 13 only.", fields=fields, close=True)
    keys = _values(head.kept, b"sec-websocket-key")
    if len(keys) != 1 or not _KEY(keys[0]):
        raise _bad("A WebSocket needs one Sec-WebSocket-Key of 16 bytes in base64.")
    head.accept = b64encode(hashlib.sha1(keys[0] + _GUID, usedforsecurity=False).digest())


def check_switch(accept: bytes | None, reply: ReplyHead) -> None:
    """`reply` is a 101. Raises Refusal 502 unless it was asked for, and answers this very handshake."""
    if accept is None:
        raise _lie("it switches protocols unasked")
    if (reply.upgrade or b"").lower() != b"websocket" or reply.chunked or reply.content_length >= 0:
        raise _lie("its 101 does not switch to WebSocket")
    if _values(reply.kept, b"sec-websocket-accept") != [accept]:
        raise _lie("its Sec-WebSocket-Accept does not answer the key")


def _values(lines: list[bytes], name: bytes) -> list[bytes]:
    pairs = (line.partition(b":") for line in lines)
    return [value.strip(b" \t") for key, _, value in pairs if key.lower() == name]


class FrameCounter:
    """Follows the frames of one direction, so that one can be put between two. Looks at headers only; where there are
    too many of them it loses its place for good, and the connection can only be reset."""

    __slots__ = ("_head", "_left", "closed")

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        self.closed = False
        """A Close frame has begun: nothing may follow it."""

    @property
    def between(self) -> bool:
        """The last frame is complete and no other one has begun."""
        return not self._left and not self._head

    def feed(self, data: bytes) -> None:
        at, size, frames = 0, len(data), 0
        while at < size:
            if self._left:
                step = min(self._left, size - at)
                self._left -= step
                at += step
                continue
            head = self._head + data[at : at + 14 - len(self._head)]
            length = _header_bytes(head)
            if len(head) < length:
                self._head = head
                return
            at += length - len(self._head)
            self._head = b""
            frames += 1
            self._left = _payload_bytes(head) if frames <= FRAMES_AT_ONCE else _WITHOUT_END
            self.closed = self.closed or head[0] & 0x0F == _CLOSE


def _header_bytes(head: bytes) -> int:
    """Length of the frame header that `head` begins with, as far as it can be told."""
    if len(head) < 2:
        return 2
    return 2 + {126: 2, 127: 8}.get(head[1] & 0x7F, 0) + (4 if head[1] & 0x80 else 0)


def _payload_bytes(head: bytes) -> int:
    short = head[1] & 0x7F
    if short < 126:
        return short
    return int.from_bytes(head[2 : 4 if short == 126 else 10], "big")


def _bad(detail: str) -> Refusal:
    return Refusal(400, "bad_handshake", detail, close=True)


def _lie(detail: str) -> Refusal:
    return Refusal(502, "worker_protocol", f"The worker's reply cannot be used: {detail}.")
