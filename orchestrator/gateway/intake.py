"""A request as it comes in: heads that are not complete, bodies delimited, counted and handed on in spans. Pure."""

from __future__ import annotations

from orchestrator.gateway.answers import Refusal
from orchestrator.gateway.chunks import BadChunk, ChunkDecoder
from orchestrator.gateway.head import RequestHead
from orchestrator.gateway.limits import Limits


def check_partial(data: bytes, end: int, limits: Limits) -> None:
    """A head that is not complete, or too long: its end is at `end`, or -1. Raises Refusal 400, 414 or 431 for what no
    further byte can mend."""
    if end > limits.head_bytes or len(data) > limits.head_bytes:
        line = data.find(b"\r\n")
        if line < 0 or line > limits.target_bytes + 64:
            raise Refusal(414, "target_too_long", f"The target exceeds {limits.target_bytes} bytes.", close=True)
        raise Refusal(431, "head_too_long", f"The header exceeds {limits.head_bytes} bytes.", close=True)
    if data.count(b"\n") != data.count(b"\r\n"):
        raise Refusal(400, "bad_character", "The head holds a bare LF.", close=True)


class Intake:
    """Body of one request. Raises Refusal 413 at once when the announced length is over `limit` bytes."""

    __slots__ = ("_decoder", "_left", "_limit", "done", "received", "rest")

    def __init__(self, head: RequestHead, limit: int) -> None:
        self._decoder = ChunkDecoder() if head.chunked else None
        self._left = head.content_length
        self._limit = limit
        self.received = 0
        self.done = False
        self.rest = b""
        """Bytes after the body: the next request."""
        if self._left > limit:
            raise self._too_large()

    def feed(self, data: bytes) -> list[bytes]:
        """Spans of the body in `data`. Raises Refusal: 413, or 400 for broken chunks."""
        if self._decoder is None:
            if len(data) > self._left:
                self.rest = data[self._left :]
                data = data[: self._left]
            self._left -= len(data)
            self.received += len(data)
            self.done = self._left == 0
            return [data]
        try:
            spans = self._decoder.feed(data)
        except BadChunk as error:
            raise Refusal(400, "bad_chunk", f"The request body is malformed: {error}.", close=True) from error
        for span in spans:
            self.received += len(span)
        if self.received > self._limit:
            raise self._too_large()
        self.done = self._decoder.done
        self.rest = self._decoder.leftover
        # Chunks of two bytes would cost twenty times their size wherever they wait, and a write each on their way.
        return [b"".join(spans)] if len(spans) > 1 else spans

    def short(self, limit: int) -> bool:
        """Whether what is still to come is known to be at most `limit` bytes."""
        return self._decoder is None and self._left <= limit

    def _too_large(self) -> Refusal:
        return Refusal(413, "body_too_large", f"The request body is larger than {self._limit} bytes.", close=True)
