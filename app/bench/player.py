"""`python -m app.bench.player SOCKET ENDPOINTS WORKERS`: a control server that plays the made-up deck and nothing else.

A process of its own, so that what it costs is not counted as the dashboard's.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path

from app.bench.deck import PER_SECOND, frame
from orchestrator.contract.base import PROTOCOL_VERSION
from orchestrator.contract.feed import told
from orchestrator.contract.frames import (
    CLIENT_FRAMES,
    FRAME_BYTES_MAX,
    Answered,
    Ask,
    Hello,
    More,
    ServerFrame,
    Subscribe,
)
from orchestrator.contract.query import Unanswered
from orchestrator.contract.snapshot import Snapshot
from orchestrator.contract.steps import finished


class Player:
    """Frames to every feed, by the clock of the event loop; every question remains unanswered."""

    def __init__(self, endpoints: int, workers: int) -> None:
        self._size = (endpoints, workers)
        self._start = asyncio.get_running_loop().time()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection. It ends when the other side does."""
        feed: asyncio.Task[None] | None = None
        wanted = asyncio.Event()
        _write(writer, Hello(protocol=PROTOCOL_VERSION, version="0", pid=os.getpid(), instance="bench"))
        try:
            with suppress(ConnectionError):
                while line := await reader.readline():
                    asked = CLIENT_FRAMES.validate_json(line)
                    if isinstance(asked, Subscribe) and feed is None:
                        feed = asyncio.create_task(self._feed(writer, asked.per_second, wanted))
                    elif isinstance(asked, More):
                        wanted.set()
                    elif isinstance(asked, Ask):
                        silence = Unanswered(code="unavailable", message="a made-up deck answers no questions")
                        _write(writer, Answered(tag=asked.tag, answer=silence))
        finally:
            if feed is not None:
                feed.cancel()
            writer.close()

    async def _feed(self, writer: asyncio.StreamWriter, per_second: float, wanted: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        before: Snapshot | None = None
        while not writer.is_closing():
            wanted.clear()
            elapsed_s = loop.time() - self._start
            after = frame(int(elapsed_s * PER_SECOND), *self._size)
            _write(writer, finished(told(before, after)))
            before = after
            await writer.drain()
            await wanted.wait()
            say("taken")
            await asyncio.sleep(1 / per_second - (loop.time() - self._start - elapsed_s))


def _write(writer: asyncio.StreamWriter, sent: ServerFrame) -> None:
    if not writer.is_closing():
        writer.write(sent.model_dump_json().encode() + b"\n")


def say(word: str) -> None:
    """Tell whoever measures."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def play(socket: Path, endpoints: int, workers: int) -> None:
    """Serve on `socket` until killed. A line on stdout says from when on, and one more for each frame taken."""
    player = Player(endpoints, workers)
    server = await asyncio.start_unix_server(player.serve, socket, limit=FRAME_BYTES_MAX)
    async with server:
        say("listening")
        await server.serve_forever()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(play(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
