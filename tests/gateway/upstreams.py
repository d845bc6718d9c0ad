"""A worker for tests: a small HTTP server whose replies are chosen by the path, good ones and hostile ones."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from dataclasses import dataclass, field

BODY_200 = b"a" * 200


@dataclass
class Seen:
    """A request as it reached the worker."""

    method: str
    target: str
    fields: list[tuple[str, str]]
    body: bytes = b""
    complete: bool = False

    def get(self, name: str) -> str | None:
        values = [value for key, value in self.fields if key == name]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None


@dataclass
class Upstream:
    """`gate` holds /slow; each `step.release()` lets /sse send one event; `seen` keeps every request."""

    name: str
    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    open: int = 0
    opened: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    step: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    hung_up: int = 0
    """Connections that ended while a reply was being made."""

    async def start(self, port: int = 0) -> Upstream:
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """`kill` it, and wait until its connections have ended."""
        self.kill()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def kill(self) -> None:
        """Stop listening and end every connection, as a killed process would."""
        self._server.close()
        for task in list(self._tasks):
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.open += 1
        self.opened += 1
        try:
            while await self._request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            pass
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.transport.abort()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; False when the connection is to end."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        lines = head.split("\r\n")[:-2]
        method, target, version = lines[0].split(" ")
        assert version == "HTTP/1.1"
        fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
        seen = Seen(method, target, fields)
        self.seen.append(seen)
        kind = target.partition("?")[0].strip("/").replace("/", "_").replace("-", "_")
        reply = getattr(self, f"reply_{kind}", self.reply_ok)
        if kind in ("deaf", "stream_back") or kind.startswith("ws"):
            return bool(await reply(seen, reader, writer))
        await read_body(seen, reader)
        return bool(await self._unless_hung_up(reply(seen, reader, writer), reader))

    async def _unless_hung_up(self, reply, reader: asyncio.StreamReader) -> bool:
        """Make the reply, but stop when the other side closes: what a model that can cancel does."""
        making = asyncio.ensure_future(reply)
        gone = asyncio.ensure_future(wait_for_end(reader))
        try:
            await asyncio.wait({making, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not making.done():
                self.hung_up += 1
                return False
            return bool(making.result())
        finally:
            for task in (making, gone):
                task.cancel()
            await asyncio.wait({making, gone})
            if not making.cancelled():
                making.exception()

    # --- good replies

    async def reply_ok(self, seen: Seen, _r: object, w: asyncio.StreamWriter) -> bool:
        body = b"" if seen.method == "HEAD" else BODY_200
        w.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nx-upstream: %b\r\n" % self.name.encode())
        w.write(b"content-length: 200\r\n\r\n" + body)
        return True

    async def reply_echo(self, seen: Seen, _r: object, w: asyncio.StreamWriter) -> bool:
        """What arrived, as JSON, in chunks."""
        document = {"method": seen.method, "target": seen.target, "fields": seen.fields, "body": seen.body.decode()}
        chunked(w, 200, json.dumps(document).encode(), 100)
        return True

    async def reply_body(self, seen: Seen, _r: object, w: asyncio.StreamWriter) -> bool:
        w.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(seen.body) + seen.body)
        await w.drain()
        return True

    async def reply_slow(self, seen: Seen, r: object, w: asyncio.StreamWriter) -> bool:
        await self.gate.wait()
        return await self.reply_ok(seen, r, w)

    async def reply_sse(self, _seen: Seen, _r: object, w: asyncio.StreamWriter) -> bool:
        """Three events, each when the test says so."""
        w.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for n in range(3):
            await self.step.acquire()
            event = b"data: %d\n\n" % n
            w.write(b"%x\r\n%b\r\n" % (len(event), event))
        w.write(b"0\r\n\r\n")
        return True

    async def reply_stream_back(self, _seen: Seen, r: asyncio.StreamReader, w: asyncio.StreamWriter) -> bool:
        """Answer before the body is complete: each chunk goes back as it comes."""
        w.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while size := int(await r.readline(), 16):
            w.write(b"%x\r\n" % size + await r.readexactly(size + 2))
        await r.readline()
        w.write(b"0\r\n\r\n")
        return True

    async def reply_big(self, seen: Seen, _r: object, w: asyncio.StreamWriter) -> bool:
        """`?n` times 64 KiB."""
        count = int(seen.target.partition("?")[2])
        w.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (count * 65_536))
        for _ in range(count):
            w.write(b"x" * 65_536)
            await w.drain()
        return True

    async def reply_slow_big(self, seen: Seen, r: object, w: asyncio.StreamWriter) -> bool:
        await self.gate.wait()
        return await self.reply_big(seen, r, w)

    async def reply_eof(self, _seen: Seen, _r: object, w: asyncio.StreamWriter) -> bool:
        w.write(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")
        await w.drain()
        w.close()
        await w.wait_closed()
        return False

    async def reply_no_content(self, _seen: Seen, _r: object, w: asyncio.StreamWriter) -> bool:
        w.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        return True

    async def reply_not_modified(self, _seen: Seen, _r: object, w: asyncio.StreamWriter) -> bool:
        w.write(b'HTTP/1.1 304 Not Modified\r\netag: "1"\r\ncontent-length: 200\r\n\r\n')
        return True

    async def reply_hints(self, seen: Seen, r: object, w: asyncio.StreamWriter) -> bool:
        w.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")
        return await self.reply_ok(seen, r, w)

    async def reply_failing(self, _seen: Seen, _r: object, w: asyncio.StreamWriter) -> bool:
        w.write(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 4\r\n\r\noops")
        return True

    async def reply_goodbye(self, _seen: Seen, _r: object, w: asyncio.StreamWriter) -> bool:
        w.write(
            b"HTTP/1.1 200 OK\r\nconnection: close, x-secret\r\nx-secret: 1\r\nkeep-alive: timeout=5\r\n"
            b"x-worker-id: forged\r\nserver-timing: model;dur=3\r\ncontent-length: 2\r\n\r\nok"
        )
        return False

    async def reply_deaf(self, _seen: Seen, _r: object, w: asyncio.StreamWriter) -> bool:
        """Never reads the body until the gate opens."""
        await self.gate.wait()
        return False

    async def reply_early(self, _seen: Seen, _r: object, w: asyncio.StreamWriter) -> bool:
        return await self.reply_ok(_seen, _r, w)

    # --- WebSocket

    async def reply_ws(self, seen: Seen, r: asyncio.StreamReader, w: asyncio.StreamWriter) -> bool:
        """Every byte goes back as it came, until the other side ends."""
        w.write(switching(seen) + b"\x81\x05hello")
        while piece := await r.read(65_536):
            w.write(piece)
            await w.drain()
        w.write(b"\x81\x03bye")
        w.close()
        await w.wait_closed()
        return False

    async def reply_ws_flood(self, seen: Seen, _r: object, w: asyncio.StreamWriter) -> bool:
        """One frame of a GiB, as fast as it is taken."""
        w.write(switching(seen) + b"\x82\x7f" + (1 << 30).to_bytes(8, "big"))
        for _ in range(1 << 14):
            w.write(b"x" * 65_536)
            await w.drain()
        return False

    async def reply_ws_deaf(self, seen: Seen, _r: object, w: asyncio.StreamWriter) -> bool:
        """Reads nothing until the gate opens, then ends in good order."""
        w.write(switching(seen))
        await self.gate.wait()
        w.close()
        await w.wait_closed()
        return False

    async def reply_ws_raw(self, seen: Seen, _r: object, w: asyncio.StreamWriter) -> bool:
        """The reply is what the field x-reply holds, in hexadecimal; then silence."""
        w.write(bytes.fromhex(seen.get("x-reply") or ""))
        await self.gate.wait()
        return True

    # --- failures and lies

    async def reply_die(self, _seen: Seen, _r: object, _w: object) -> bool:
        return False

    async def reply_half(self, _seen: Seen, _r: object, w: asyncio.StreamWriter) -> bool:
        w.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n" + b"h" * 500)
        return await end(w)

    async def reply_half_chunked(self, _seen: Seen, _r: object, w: asyncio.StreamWriter) -> bool:
        w.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3e8\r\n" + b"h" * 500)
        return await end(w)

    async def reply_half_head(self, _seen: Seen, _r: object, w: asyncio.StreamWriter) -> bool:
        w.write(b"HTTP/1.1 200 OK\r\ncontent-le")
        return await end(w)

    async def reply_lies_long(self, _seen: Seen, _r: object, w: asyncio.StreamWriter) -> bool:
        w.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged")
        await w.drain()
        return True

    async def reply_lies_late(self, seen: Seen, r: object, w: asyncio.StreamWriter) -> bool:
        """A second reply, once the first has been taken and the gate opens."""
        await self.reply_ok(seen, r, w)
        await self.gate.wait()
        w.write(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged")
        await w.drain()
        return True

    async def reply_lies_chunk(self, _seen: Seen, _r: object, w: asyncio.StreamWriter) -> bool:
        w.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n")
        await w.drain()
        return True

    async def reply_lies_raw(self, seen: Seen, _r: object, w: asyncio.StreamWriter) -> bool:
        """The reply is the request's body."""
        w.write(seen.body)
        await w.drain()
        return True

    async def reply_endless_head(self, _seen: Seen, _r: object, w: asyncio.StreamWriter) -> bool:
        w.write(b"HTTP/1.1 200 OK\r\n")
        return await for_ever(w, b"x-a: 1\r\n" * 1_000)

    async def reply_endless_field(self, _seen: Seen, _r: object, w: asyncio.StreamWriter) -> bool:
        w.write(b"HTTP/1.1 200 OK\r\nx-a: ")
        return await for_ever(w, b"a" * 65_536)

    async def reply_endless_interim(self, _seen: Seen, _r: object, w: asyncio.StreamWriter) -> bool:
        return await for_ever(w, b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 1_000)

    async def reply_endless_extensions(self, _seen: Seen, _r: object, w: asyncio.StreamWriter) -> bool:
        w.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        return await for_ever(w, b"1;" + b"x" * 1_000 + b"\r\na\r\n")

    async def reply_endless_trailers(self, _seen: Seen, _r: object, w: asyncio.StreamWriter) -> bool:
        w.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n")
        return await for_ever(w, b"x-a: 1\r\n" * 1_000)

    async def reply_endless_body(self, _seen: Seen, _r: object, w: asyncio.StreamWriter) -> bool:
        w.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n")
        return await for_ever(w, b"x" * 65_536)


def accept_of(key: str) -> str:
    """RFC 6455 4.2.2, from its text and not from the gateway's code."""
    return base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()


def switching(seen: Seen) -> bytes:
    assert (seen.get("connection"), seen.get("upgrade")) == ("Upgrade", "websocket")
    accept = accept_of(seen.get("sec-websocket-key") or "")
    return (
        f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ).encode()


async def for_ever(writer: asyncio.StreamWriter, data: bytes) -> bool:
    while True:
        writer.write(data)
        await writer.drain()


async def end(writer: asyncio.StreamWriter) -> bool:
    await writer.drain()
    return False


async def wait_for_end(reader: asyncio.StreamReader) -> None:
    """Return when the other side has closed. The request is complete, so nothing else can come."""
    while not reader.at_eof() and reader.exception() is None:
        await asyncio.sleep(0.01)


async def read_body(seen: Seen, reader: asyncio.StreamReader) -> None:
    if seen.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            seen.body += (await reader.readexactly(size + 2))[:-2]
        assert await reader.readline() == b"\r\n"
    elif length := int(seen.get("content-length") or 0):
        while len(seen.body) < length:
            piece = await reader.read(length - len(seen.body))
            if not piece:
                raise asyncio.IncompleteReadError(seen.body, length)
            seen.body += piece
    seen.complete = True


def chunked(writer: asyncio.StreamWriter, status: int, body: bytes, size: int) -> None:
    writer.write(b"HTTP/1.1 %d OK\r\ntransfer-encoding: chunked\r\n\r\n" % status)
    for at in range(0, len(body), size):
        piece = body[at : at + size]
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
    writer.write(b"0\r\n\r\n")
