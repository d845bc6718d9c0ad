"""Workers that let a second strict parser, h11, read every byte of what the gateway sends them, and h11's reading of
what a client sent or got. Two parsers that disagree about where a message ends are what smuggling lives on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import h11

from tests.gateway.upstreams import Upstream

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
EVENT_BYTES = 64 * 1024


@dataclass
class Read:
    """A message as h11 reads it. `fields` have lower-case names."""

    start: bytes
    """`METHOD target` of a request, the status of a reply."""
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    complete: bool = False
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    lines: int = -1
    """Lines of its head that end with CRLF, as RFC 9112 has them. h11 lets a bare LF end one and folds lines: then it
    has another number of fields."""

    @property
    def strict(self) -> bool:
        return self.lines == len(self.fields)

    def get(self, name: str) -> list[bytes]:
        return [value for key, value in self.fields if key == name.encode()]


def read_requests(data: bytes) -> list[Read]:
    """All requests in `data`. Raises h11.RemoteProtocolError."""
    requests: list[Read] = []
    reader = h11.Connection(h11.SERVER, EVENT_BYTES)
    reader.receive_data(data)
    rest = data
    while True:
        event = reader.next_event()
        if isinstance(event, h11.Request):
            requests.append(Read(event.method + b" " + event.target, list(event.headers), lines=lines_of(rest)))
        elif isinstance(event, h11.Data):
            requests[-1].body += event.data
        elif isinstance(event, h11.EndOfMessage):
            requests[-1].complete = True
            requests[-1].trailers = list(event.headers)
            # The next one is read by a new connection: h11 would want the replies first, and to know about keep-alive.
            rest = reader.trailing_data[0]
            reader = h11.Connection(h11.SERVER, EVENT_BYTES)
            reader.receive_data(rest)
        else:
            return requests


def lines_of(data: bytes) -> int:
    """Lines that follow the start line of the head that `data` begins with."""
    return data.partition(b"\r\n\r\n")[0].count(b"\r\n")


def read_reply(data: bytes, *, method: str = "GET", ended: bool) -> tuple[list[int], Read | None, bytes]:
    """Statuses of the interim replies, the final reply, and what follows it. `ended` says that the connection came to
    an orderly end. Raises h11.RemoteProtocolError."""
    reader = h11.Connection(h11.CLIENT, EVENT_BYTES)
    reader.send(h11.Request(method=method, target="/", headers=[("host", "h")]))
    reader.send(h11.EndOfMessage())
    if data:
        reader.receive_data(data)
    if ended:
        reader.receive_data(b"")
    interim: list[int] = []
    reply: Read | None = None
    while True:
        event = reader.next_event()
        if isinstance(event, h11.InformationalResponse):
            interim.append(event.status_code)
        elif isinstance(event, h11.Response):
            reply = Read(b"%d" % event.status_code, list(event.headers), lines=lines_of(after(data, len(interim))))
        elif isinstance(event, h11.Data):
            assert reply is not None
            reply.body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert reply is not None
            reply.complete = True
            return interim, reply, reader.trailing_data[0]
        else:
            return interim, reply, b""


def after(data: bytes, heads: int) -> bytes:
    """`data` without its first `heads` heads."""
    for _ in range(heads):
        data = data.partition(b"\r\n\r\n")[2]
    return data


class Recorder(Upstream):
    """Keeps the bytes of each connection, and answers a request when h11 says that it is complete."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.raw: list[bytes] = []

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        place = len(self.raw)
        self.raw.append(b"")
        answered = 0
        while data := await reader.read(65_536):
            self.raw[place] += data
            complete = sum(request.complete for request in read_requests(self.raw[place]))
            for _ in range(complete - answered):
                writer.write(OK)
            answered = complete
        return False

    def requests(self) -> list[Read]:
        """In the order of connections. Raises h11.RemoteProtocolError."""
        return [request for raw in self.raw for request in read_requests(raw)]


class Scripted(Upstream):
    """Answers the first request of its first connection with `script`, then ends that or waits; all others with 200."""

    def __init__(self, name: str, script: bytes, *, ends: bool) -> None:
        super().__init__(name)
        self.script = script
        self.ends = ends
        self.dribbles = False
        """Single bytes, each in a packet of its own."""

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        await reader.readuntil(b"\r\n\r\n")
        script, self.script = self.script, b""
        for piece in [bytes([byte]) for byte in script] if self.dribbles else [script or OK]:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if self.dribbles and not script:
            writer.write(OK)
        if script and self.ends:
            writer.close()
            await writer.wait_closed()
            return False
        return True
