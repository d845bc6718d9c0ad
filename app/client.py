"""The orchestrator over its Unix socket: frames of contract/frames.py, one JSON object a line.

Questions and commands share one connection, opened on first use and again after it broke. A feed has a connection of
its own, so that neither delays the other. Everything that means "no orchestrator there" is a ConnectionError.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from orchestrator.contract.base import PROTOCOL_VERSION
from orchestrator.contract.command import Command, Outcome
from orchestrator.contract.feed import heard
from orchestrator.contract.frames import (
    FRAME_BYTES_MAX,
    SERVER_FRAMES,
    Answer,
    Answered,
    Ask,
    Changed,
    ClientFrame,
    Error,
    Feed,
    Hello,
    More,
    Send,
    Sent,
    ServerFrame,
    Subscribe,
)
from orchestrator.contract.query import Query
from orchestrator.contract.snapshot import Snapshot

HANDSHAKE_S: Final = 5.0
"""Most seconds a peer may take to say Hello; a socket that accepts and stays silent is not an orchestrator."""


class NotRunning(ConnectionError):
    """Nothing listens on the socket."""


class Gone(ConnectionError):
    """The orchestrator was there and closed the connection."""


class ProtocolMismatch(ConnectionError):
    """The peer speaks another version of the protocol, or no protocol of ours at all."""


class RequestFailed(ConnectionError):
    """The orchestrator could not work on this one request; the connection stays usable."""


def command_id() -> str:
    """A new command id: 32 hexadecimal digits. Keep it to send the same command again."""
    return uuid.uuid4().hex


def program_version() -> str:
    """The installed version of gpudeck, `0` when it runs from a tree that was never installed."""
    try:
        return metadata.version("gpudeck")
    except metadata.PackageNotFoundError:
        return "0"


class _Connection:
    """One handshaken connection. Raises ConnectionError subclasses only."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hello: Hello) -> None:
        self.reader = reader
        self.writer = writer
        self.hello = hello

    @classmethod
    async def open(cls, path: Path) -> _Connection:
        try:
            reader, writer = await asyncio.open_unix_connection(path, limit=FRAME_BYTES_MAX)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NotRunning(f"no orchestrator listens on {path}") from error
        except OSError as error:
            raise NotRunning(f"cannot connect to {path}: {error.strerror or error}") from error
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                hello = await cls._greet(reader, writer)
        except TimeoutError:
            writer.close()
            raise ProtocolMismatch(f"{path} accepted the connection but said nothing for {HANDSHAKE_S:g} s") from None
        except BaseException:
            writer.close()
            raise
        return cls(reader, writer, hello)

    @staticmethod
    async def _greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Hello:
        frame = parse_frame(await read_line(reader))
        if isinstance(frame, Error):
            raise ProtocolMismatch(frame.message)
        if not isinstance(frame, Hello):
            raise ProtocolMismatch(f"the peer began with a '{frame.kind}' frame, not with 'hello'")
        if frame.protocol != PROTOCOL_VERSION:
            raise ProtocolMismatch(
                f"the running orchestrator (gpudeck {frame.version}, pid {frame.pid}) speaks protocol "
                f"{frame.protocol}, this gpudeck {program_version()} speaks protocol {PROTOCOL_VERSION}; stop it with "
                "`gpudeck down` of its own version, then start this one"
            )
        own = Hello(protocol=PROTOCOL_VERSION, version=program_version(), pid=os.getpid())
        await write_frame(writer, own)
        return frame

    def close(self) -> None:
        self.writer.close()


class SocketClient:
    """Implements contract.client.OrchestratorClient. Use it from one event loop; call `aclose` at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opening = asyncio.Lock()
        self._connection: _Connection | None = None
        self._reading: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[Sent | Answered]] = {}
        self._feeds: set[_Connection] = set()
        self._tag = 0

    def __repr__(self) -> str:
        return f"<SocketClient {self.path} {'open' if self._connection else 'closed'}>"

    async def hello(self) -> Hello:
        """What the orchestrator said about itself (version, pid, instance). Connects when not yet connected."""
        return (await self._connected()).hello

    async def snapshots(self, per_second: float = 4.0) -> AsyncIterator[Snapshot]:
        """Full snapshots, the first at once. A slow consumer skips snapshots, it never sees an old one: each is made
        when the consumer asks for it.

        Raises ConnectionError when the orchestrator is gone, after the last snapshot it sent was delivered.
        """
        connection = await _Connection.open(self.path)
        self._feeds.add(connection)
        newest: Snapshot | None = None
        try:
            await write_frame(connection.writer, Subscribe(per_second=per_second))
            while True:
                frame = parse_frame(await read_line(connection.reader))
                if isinstance(frame, Feed | Changed):
                    newest = follow(newest, frame)
                    yield newest
                    await write_frame(connection.writer, More())
                elif isinstance(frame, Error):
                    raise Gone(frame.message)
        finally:
            self._feeds.discard(connection)
            connection.close()

    async def send(self, command: Command) -> Outcome:
        """Run a command. When the connection breaks before the answer, the command goes out once more with the same
        id over a new connection: the orchestrator then repeats its first answer (contract/command.py).

        Raises ConnectionError; sending the same command again is safe.
        """
        try:
            reply = await self._request(lambda tag: Send(tag=tag, command=command))
        except Gone:
            reply = await self._request(lambda tag: Send(tag=tag, command=command))
        if not isinstance(reply, Sent):
            raise RequestFailed(f"the orchestrator answered the command {command.kind} with '{reply.kind}'")
        return reply.outcome

    async def ask(self, query: Query) -> Answer:
        """Answer a question. Raises ConnectionError."""
        try:
            reply = await self._request(lambda tag: Ask(tag=tag, query=query))
        except Gone:
            reply = await self._request(lambda tag: Ask(tag=tag, query=query))
        if not isinstance(reply, Answered):
            raise RequestFailed(f"the orchestrator answered the question {query.kind} with '{reply.kind}'")
        return reply.answer

    async def aclose(self) -> None:
        """Close all connections. Idempotent; a later call opens a new one."""
        for feed in list(self._feeds):
            feed.close()
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            with suppress(ConnectionError):
                await connection.writer.wait_closed()

    async def _connected(self) -> _Connection:
        async with self._opening:
            if self._connection is None:
                self._connection = await _Connection.open(self.path)
                self._reading = asyncio.create_task(self._read(self._connection), name="answers")
            return self._connection

    async def _request(self, frame: Callable[[int], Send | Ask]) -> Sent | Answered:
        connection = await self._connected()
        self._tag += 1
        tag = self._tag
        answer: asyncio.Future[Sent | Answered] = asyncio.get_running_loop().create_future()
        self._waiting[tag] = answer
        try:
            await write_frame(connection.writer, frame(tag))
            return await answer
        finally:
            self._waiting.pop(tag, None)
            # A writer that failed and the reader's own failure both end here: without this read of the exception,
            # asyncio would report the one nobody awaited.
            if answer.done() and not answer.cancelled():
                answer.exception()

    async def _read(self, connection: _Connection) -> None:
        """Hand answers to whoever waits for their tag; when the connection ends, to everyone who waits."""
        end: ConnectionError = Gone("the orchestrator closed the connection")
        try:
            while True:
                self._deliver(parse_frame(await read_line(connection.reader)))
        except ConnectionError as error:
            end = error
        finally:
            if self._connection is connection:
                self._connection = None
            connection.close()
            for waiting in list(self._waiting.values()):
                if not waiting.done():
                    waiting.set_exception(end)

    def _deliver(self, frame: ServerFrame) -> None:
        if isinstance(frame, Error) and frame.tag is None:
            raise RequestFailed(frame.message)
        if isinstance(frame, Hello | Feed | Changed):
            return
        waiting = self._waiting.get(frame.tag) if frame.tag is not None else None
        if waiting is None or waiting.done():
            return
        if isinstance(frame, Error):
            waiting.set_exception(RequestFailed(frame.message))
        else:
            waiting.set_result(frame)


async def read_line(reader: asyncio.StreamReader) -> bytes:
    """One frame without its newline. Raises Gone at the end of the stream or when a frame is too long."""
    try:
        return (await reader.readuntil(b"\n"))[:-1]
    except asyncio.IncompleteReadError as error:
        raise Gone("the orchestrator closed the connection") from error
    except asyncio.LimitOverrunError as error:
        raise Gone(f"the orchestrator sent a frame of more than {FRAME_BYTES_MAX} bytes") from error
    except OSError as error:
        raise Gone(f"the connection to the orchestrator broke: {error.strerror or error}") from error


async def write_frame(writer: asyncio.StreamWriter, frame: ClientFrame) -> None:
    """Send one frame. Raises ValueError for one above FRAME_BYTES_MAX, Gone when the connection is broken."""
    data = frame.model_dump_json().encode() + b"\n"
    if len(data) > FRAME_BYTES_MAX:
        raise ValueError(f"the request has {len(data)} bytes, the orchestrator takes at most {FRAME_BYTES_MAX}")
    try:
        writer.write(data)
        await writer.drain()
    except OSError as error:
        raise Gone(f"the connection to the orchestrator broke: {error.strerror or error}") from error


def parse_frame(line: bytes) -> ServerFrame:
    """The frame in `line`. Raises ProtocolMismatch for anything contract/frames.py does not know."""
    try:
        return SERVER_FRAMES.validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ProtocolMismatch(
            f"the orchestrator sent a frame this gpudeck does not understand ({where or 'frame'}: {first['msg']})"
        ) from error


def follow(before: Snapshot | None, frame: Feed | Changed) -> Snapshot:
    """The snapshot after `frame`. Raises Gone when the frame does not follow `before`: a new feed begins whole."""
    try:
        return heard(before, frame)
    except ValueError as error:
        raise Gone(f"the feed lost its thread: {str(error).splitlines()[0]}") from error
