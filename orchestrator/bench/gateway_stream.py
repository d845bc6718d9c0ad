"""A worker that streams: every request is answered with EVENTS server-sent events, each written by itself.

A static file would come in a few large pieces, which is not what a proxy sees of a model. No pause lies between the
events, so that proxies are measured and not a timer.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Final, cast

import uvloop

EVENTS: Final = 200
_EVENT: Final = b'data: {"token": "abcdefgh", "index": 17}\n\n'
_CHUNK: Final = b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT)
_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class _Stream(asyncio.Protocol):
    """Requests have no body and are not pipelined: the end of a head is the end of a request."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"\r\n\r\n"):
            self.transport.write(_HEAD)
            self._left = EVENTS
            self._next()

    def _next(self) -> None:
        """One event, and the next in another turn of the loop, so that each is a write of its own."""
        if self.transport.is_closing():
            return
        self._left -= 1
        if self._left:
            self.transport.write(_CHUNK)
            asyncio.get_running_loop().call_soon(self._next)
        else:
            self.transport.write(_CHUNK + b"0\r\n\r\n")


async def serve(ports: Sequence[int]) -> None:
    """Listen on `ports` of 127.0.0.1 until cancelled, or until stdin ends."""
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(_Stream, "127.0.0.1", port) for port in ports]
    stop = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), stop.set)
    await stop.wait()
    for server in servers:
        server.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve([int(port) for port in sys.argv[1:]]))
