"""The control socket: a Unix socket in a 0700 directory, 0600 itself, the peer's uid checked, never TCP.

Frames are those of contract/frames.py. A feed is newest-wins: one frame is in flight per connection, made when the
reader has taken the one before and only then. It is made in slices, between which requests are served: the snapshot of
50 endpoints with 500 workers would else hold every request up for as long as it takes, four times a second.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from orchestrator.contract.base import PROTOCOL_VERSION
from orchestrator.contract.feed import encoded, told
from orchestrator.contract.frames import (
    CLIENT_FRAMES,
    FRAME_BYTES_MAX,
    Answered,
    Ask,
    Error,
    Hello,
    More,
    Send,
    Sent,
    Subscribe,
)
from orchestrator.contract.snapshot import Snapshot
from orchestrator.contract.steps import Steps
from orchestrator.control.desk import Desk

log = logging.getLogger(__name__)

T = TypeVar("T")
HELLO_TIMEOUT_S: Final = 10.0
SLICE_S: Final = 0.001
"""Longest stretch of work on a frame of a feed before requests are served again, give or take one step."""


class ControlServer:
    """Serves one desk on one socket path."""

    def __init__(self, desk: Desk, hello: Hello) -> None:
        self._desk = desk
        self._hello = hello
        self._server: asyncio.Server | None = None
        self._path: Path | None = None
        self._peers: set[asyncio.Task[None]] = set()

    @property
    def peers(self) -> int:
        """Connections open now."""
        return len(self._peers)

    async def start(self, path: Path) -> None:
        """Listen on `path`. The caller holds the data directory's lock, so a socket file found there is a dead one."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.chmod(0o700)
        path.unlink(missing_ok=True)  # noqa: ASYNC240 - once, at start
        before = os.umask(0o177)  # the socket must never exist with wider permissions, not even for an instant
        try:
            self._server = await asyncio.start_unix_server(self._serve, path, limit=FRAME_BYTES_MAX)
        finally:
            os.umask(before)
        self._path = path

    async def close(self) -> None:
        """Refuse new peers, end the present ones, remove the socket."""
        if self._server is not None:
            self._server.close()
            for task in list(self._peers):
                task.cancel()
            await asyncio.gather(*self._peers, return_exceptions=True)
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._peers.add(task)
        peer = Peer(self._desk, reader, writer)
        try:
            await peer.run(self._hello)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the peer went away: nothing is owed to it
        except asyncio.CancelledError:
            pass  # the server closes; a raise would be logged by asyncio as an unhandled error
        finally:
            self._peers.discard(task)
            peer.close()


class Peer:
    """One connection."""

    def __init__(self, desk: Desk, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._desk = desk
        self._reader = reader
        self._writer = writer
        self._tasks: set[asyncio.Task[None]] = set()
        self._feeding = False
        self._wanted = asyncio.Event()
        """The frame of the feed before has been taken."""

    async def run(self, hello: Hello) -> None:
        """Handshake, then serve frames until the peer closes."""
        uid = peer_uid(self._writer.get_extra_info("socket"))
        if uid is not None and uid not in (os.getuid(), 0):
            await self._send(Error(code="peer", message=f"uid {uid} may not control the orchestrator of {os.getuid()}"))
            return
        await self._send(hello)
        async with asyncio.timeout(HELLO_TIMEOUT_S):
            line = await self._reader.readline()
        if not await self._shake_hands(line, hello):
            return
        while line := await self._next_line():
            if not await self._frame(line):
                return

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._writer.close()

    async def _next_line(self) -> bytes:
        try:
            return await self._reader.readline()
        except ValueError:
            await self._send(Error(code="frame", message=f"frame: longer than {FRAME_BYTES_MAX} bytes"))
            return b""

    async def _shake_hands(self, line: bytes, hello: Hello) -> bool:
        try:
            theirs = CLIENT_FRAMES.validate_json(line)
        except ValidationError as error:
            await self._send(Error(code="frame", message=f"hello: {error.errors()[0]['msg']}"))
            return False
        if not isinstance(theirs, Hello) or theirs.protocol != PROTOCOL_VERSION:
            spoken = theirs.protocol if isinstance(theirs, Hello) else "none"
            text = (
                f"protocol: this orchestrator (gpudeck {hello.version}) speaks {PROTOCOL_VERSION}, the client {spoken};"
                " stop it with the matching `gpudeck down` or upgrade the older of the two"
            )
            await self._send(Error(code="version", message=text))
            return False
        return True

    async def _frame(self, line: bytes) -> bool:
        """Handle one frame; False ends the connection. Commands and questions run side by side."""
        try:
            frame = CLIENT_FRAMES.validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            await self._send(Error(code="frame", message=f"{where}: {first['msg']}"))
            return False
        match frame:
            case Subscribe(per_second=per_second):
                if not self._feeding:
                    self._feeding = True
                    self._spawn(self._feed(1.0 / per_second))
            case More():
                self._wanted.set()
            case Send():
                self._spawn(self._command(frame))
            case Ask():
                self._spawn(self._question(frame))
            case Hello():
                pass  # a second greeting changes nothing
        return True

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and not isinstance(task.exception(), ConnectionError):
            log.error("control request failed", exc_info=task.exception())

    async def _feed(self, period_s: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        before: Snapshot | None = None
        while True:
            self._wanted.clear()
            after = await unhurried(self._desk.observing())
            frame = await unhurried(told(before, after))
            await self._write(await unhurried(encoded(frame)))
            before = after
            due = max(due + period_s, loop.time())
            await self._wanted.wait()
            await asyncio.sleep(due - loop.time())

    async def _command(self, frame: Send) -> None:
        outcome = await self._desk.submit(frame.command)
        await self._send(Sent(tag=frame.tag, outcome=outcome))

    async def _question(self, frame: Ask) -> None:
        answer = await self._desk.answer(frame.query)
        await self._send(Answered(tag=frame.tag, answer=answer))

    async def _send(self, frame: BaseModel) -> None:
        await self._write(frame.model_dump_json().encode())

    async def _write(self, line: bytes) -> None:
        self._writer.write(line + b"\n")
        await self._writer.drain()


def peer_uid(sock: socket.socket) -> int | None:
    """Uid of the process at the other end (SO_PEERCRED); None where the system cannot tell (the 0700 directory and the
    0600 socket guard alone there)."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(uid)


async def unhurried(steps: Steps[T]) -> T:
    """The result of `steps`, worked on for SLICE_S at a time."""
    loop = asyncio.get_running_loop()
    end = loop.time() + SLICE_S
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: T = done.value
            return result
        if loop.time() >= end:
            await asyncio.sleep(0)
            end = loop.time() + SLICE_S
