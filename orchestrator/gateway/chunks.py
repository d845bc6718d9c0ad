"""Chunked transfer coding, decoded piece by piece as bytes arrive. Pure; strict as head.py is."""

from __future__ import annotations

import re
from typing import Final

SIZE_LINE_BYTES_MAX: Final = 1_024
EXTENSION_BYTES_MAX: Final = 16 * 1_024
"""Of all chunks of one body: else a byte of body could cost a thousand on the wire, outside every limit on bodies."""
TRAILER_BYTES_MAX: Final = 8 * 1_024
_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]*)?").fullmatch
_TRAILER: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*").fullmatch
LAST: Final = b"0\r\n\r\n"


class BadChunk(Exception):
    """The coding is broken; nothing after this point can be trusted."""


# Where a decoder is. Plain integers, not an Enum: they are compared several times per event of a stream.
_SIZE: Final = 0
_DATA: Final = 1
_DATA_END: Final = 2
_TRAILER_LINES: Final = 3
_DONE: Final = 4

_SIZES: Final[dict[bytes, int]] = {}
"""Sizes by the lines that said so, the short ones: events of a stream have few lengths."""
_SIZES_MAX: Final = 1_024
_SIZES_BYTES_MAX: Final = 8


class ChunkDecoder:
    """Feed it bytes, get body spans. Extensions and trailers are checked and dropped (RFC 9112 7.1.1, 7.1.2): a trailer
    that is merged into the head by whoever reads it next could say anything about framing, caller or key."""

    __slots__ = ("_at", "_extension_bytes", "_held", "_left", "_trailer_bytes", "leftover")

    def __init__(self) -> None:
        self._at = _SIZE
        self._held = b""
        self._left = 0
        self._extension_bytes = 0
        self._trailer_bytes = 0
        self.leftover = b""
        """Bytes after the end of the body: the next message."""

    @property
    def done(self) -> bool:
        return self._at == _DONE

    def feed(self, data: bytes) -> list[bytes]:
        """Body spans in `data`, in order, none empty. Raises BadChunk."""
        if self._held:
            data = self._held + data
            self._held = b""
        spans: list[bytes] = []
        at = 0
        size = len(data)
        while at < size:
            if self._at == _DATA:
                span = data[at : at + self._left]
                spans.append(span)
                at += len(span)
                self._left -= len(span)
                if not self._left:
                    self._at = _DATA_END
                continue
            if self._at == _DATA_END and data.startswith(b"\r\n", at):
                self._at = _SIZE
                at += 2
                continue
            end = data.find(b"\r\n", at)
            if end < 0:
                self._hold(data[at:])
                break
            line = data[at:end]
            at = end + 2
            known = _SIZES.get(line) if self._at == _SIZE else None
            if known is not None:
                self._left = known
                self._at = _DATA if known else _TRAILER_LINES
                continue
            self._line(line)
            if self._at == _DONE:
                self.leftover = data[at:]
                break
        return spans

    def _line(self, line: bytes) -> None:
        if self._at == _SIZE:
            match = _SIZE_LINE(line) if len(line) <= SIZE_LINE_BYTES_MAX else None
            if match is None:
                raise BadChunk("a chunk size is not a plain hexadecimal number, or its line is too long")
            self._extension_bytes += len(line) - match.end(1)
            if self._extension_bytes > EXTENSION_BYTES_MAX:
                raise BadChunk(f"the chunk extensions are longer than {EXTENSION_BYTES_MAX} bytes")
            self._left = left = int(match.group(1), 16)
            self._at = _DATA if left else _TRAILER_LINES
            if len(line) <= _SIZES_BYTES_MAX and len(_SIZES) < _SIZES_MAX:
                _SIZES[line] = left
        elif self._at == _DATA_END:
            if line:
                raise BadChunk("a chunk is longer than its size says")
            self._at = _SIZE
        elif not line:
            self._at = _DONE
        else:
            self._trailer_bytes += len(line) + 2
            if self._trailer_bytes > TRAILER_BYTES_MAX or not _TRAILER(line):
                raise BadChunk(f"the trailers are malformed or longer than {TRAILER_BYTES_MAX} bytes")

    def _hold(self, rest: bytes) -> None:
        """Keep an unfinished control line. Without these checks a sender could grow it for ever, or hide a bare LF."""
        limit = {_SIZE: SIZE_LINE_BYTES_MAX, _DATA_END: 1}.get(self._at, TRAILER_BYTES_MAX - self._trailer_bytes)
        if len(rest) > limit + 1 or b"\n" in rest or (self._at == _DATA_END and rest != b"\r"):
            raise BadChunk("a control line of the chunked body is malformed or too long")
        self._held = rest


def frame(spans: list[bytes]) -> bytes:
    """One chunk that holds all of `spans` (at least one byte)."""
    body = spans[0] if len(spans) == 1 else b"".join(spans)
    return b"%x\r\n%b\r\n" % (len(body), body)
