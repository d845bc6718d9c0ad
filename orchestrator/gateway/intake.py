"""A request's body as it comes in: delimited, counted against its limit, handed on in spans. Pure."""

from __future__ import annotations

from orchestrator.gateway.answers import Refusal
from orchestrator.gateway.chunks import BadChunk, ChunkDecoder
from orchestrator.gateway.head import RequestHead


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
        return spans

    def short(self, limit: int) -> bool:
        """Whether what is still to come is known to be at most `limit` bytes."""
        return self._decoder is None and self._left <= limit

    def _too_large(self) -> Refusal:
        return Refusal(413, "body_too_large", f"The request body is larger than {self._limit} bytes.", close=True)
