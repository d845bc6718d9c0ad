"""Sending the echo model's replies whole, slowly, or broken off in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from aiohttp import web

PATTERN: Final = bytes(range(256)) * 256
PIECES: Final = 20
DONE: Final = "[DONE]"
BODILESS: Final = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class Drop:
    """How the body goes out: `half` of it and then no more, or in PIECES pieces spread over `slow_s` seconds."""

    half: bool = False
    slow_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Content:
    """A body of `size` bytes: `data`, or PATTERN over and over, so that a gibibyte needs no memory."""

    data: bytes | None
    size: int
    media_type: str

    @classmethod
    def of(cls, data: bytes, media_type: str) -> Self:
        return cls(data, len(data), media_type)

    @classmethod
    def filler(cls, size: int) -> Self:
        """Byte n is n % 256."""
        return cls(None, size, "application/octet-stream")

    def part(self, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset`, fewer at the end and, for a filler, at the end of a pattern."""
        end = min(self.size, offset + length)
        if self.data is not None:
            return self.data[offset:end]
        start = offset % len(PATTERN)
        return PATTERN[start : start + end - offset]


async def send(
    request: web.Request, content: Content, status: int, headers: Mapping[str, str], drop: Drop
) -> web.StreamResponse:
    """Send `content`, with its length declared up front."""
    if status in BODILESS:
        return web.Response(status=status, headers=headers)
    if content.data is not None and not drop.half and not drop.slow_s:
        return web.Response(status=status, headers=headers, body=content.data, content_type=content.media_type)
    response = web.StreamResponse(status=status, headers=dict(headers))
    response.content_type = content.media_type
    response.content_length = content.size
    await response.prepare(request)
    end = content.size // 2 if drop.half else content.size
    step = max(1, -(-content.size // PIECES)) if drop.slow_s else len(PATTERN)
    offset = 0
    while offset < end:
        part = content.part(offset, min(step, end - offset))
        await response.write(part)
        offset += len(part)
        if drop.slow_s:
            await asyncio.sleep(drop.slow_s / PIECES)
    if drop.half:
        break_off(request)
    else:
        await response.write_eof()
    return response


async def stream_events(
    request: web.Request, events: Sequence[str], interval_s: float, drop: Drop, status: int
) -> web.StreamResponse:
    """Server-sent events, one every `interval_s` seconds by a fixed schedule, the last one `[DONE]`."""
    response = web.StreamResponse(status=status, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
    response.content_type = "text/event-stream"
    await response.prepare(request)
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    sent = events[: len(events) // 2] if drop.half else events
    for index, event in enumerate(sent):
        await asyncio.sleep(max(0.0, started_s + index * interval_s - loop.time()))
        await response.write(f"data: {event}\n\n".encode())
    if drop.half:
        break_off(request)
        return response
    await response.write(f"data: {DONE}\n\n".encode())
    await response.write_eof()
    return response


def break_off(request: web.Request) -> None:
    """Close the connection with the body unfinished; what was written still goes out before the end."""
    if request.transport is not None:
        request.transport.close()
