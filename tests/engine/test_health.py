"""The health probe against real listeners, well-behaved and not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from orchestrator.engine.health import STATUS_LINE_BYTES_MAX, http_healthy

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Listener:
    """Answers every connection by `talk`, and keeps what was asked."""

    def __init__(self) -> None:
        self.talk: Talk = reply(b"HTTP/1.1 200 OK\r\n\r\n")
        self.asked = b""
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.asked = await reader.readuntil(b"\r\n\r\n")
            await self.talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()


def reply(answer: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    return talk


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x" * STATUS_LINE_BYTES_MAX)
        await writer.drain()


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for byte in b"HTTP/1.1 200 OK":
        writer.write(bytes((byte,)))
        await writer.drain()
    await reader.read()


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    listener = Listener()
    server = await asyncio.start_server(listener.serve, "127.0.0.1", 0)
    async with server:
        listener.port = server.sockets[0].getsockname()[1]
        yield listener


HEALTHY = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.0 299 \r\n\r\n",
    b"HTTP/1.1 200\r\n\r\n",
    b"HTTP/1.1 200 OK\n\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
]
UNHEALTHY = [
    b"HTTP/1.1 503 Service Unavailable\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: /health\r\n\r\n",
    b"HTTP/1.1 404 Not Found\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 2000 OK\r\n\r\n",
    b"HTTP/2 200\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"HTTP/1.1 200 OK",
    b"",
]


@pytest.mark.parametrize("answer", HEALTHY)
async def test_any_2xx_is_healthy(listener: Listener, answer: bytes) -> None:
    listener.talk = reply(answer)
    assert await http_healthy("127.0.0.1", listener.port, "/health", 5.0)


@pytest.mark.parametrize("answer", UNHEALTHY)
async def test_anything_else_is_not(listener: Listener, answer: bytes) -> None:
    listener.talk = reply(answer)
    assert not await http_healthy("127.0.0.1", listener.port, "/health", 5.0)


@pytest.mark.parametrize("talk", [say_nothing, drip])
async def test_a_listener_that_stalls_costs_no_more_than_the_time_out(listener: Listener, talk: Talk) -> None:
    listener.talk = talk
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert not await http_healthy("127.0.0.1", listener.port, "/health", 0.1)
    assert loop.time() - began < 5.0


async def test_a_flood_without_a_line_end_is_cut_off(listener: Listener) -> None:
    listener.talk = flood
    # Far below the time-out: it ends because the line is too long, not because time is up.
    async with asyncio.timeout(10):
        assert not await http_healthy("127.0.0.1", listener.port, "/health", 60.0)


async def test_the_request_is_complete_and_asks_to_close(listener: Listener) -> None:
    assert await http_healthy("127.0.0.1", listener.port, "/v2/health/ready?full=1", 5.0)
    line, *headers = listener.asked.decode().split("\r\n")
    assert line == "GET /v2/health/ready?full=1 HTTP/1.1"
    assert f"Host: 127.0.0.1:{listener.port}" in headers
    assert "Connection: close" in headers


@pytest.mark.parametrize("path", ["health", "", "/a b", "/a\r\nX: 1", "/ü"])
async def test_a_path_that_would_break_the_request_is_not_sent(listener: Listener, path: str) -> None:
    assert not await http_healthy("127.0.0.1", listener.port, path, 5.0)
    assert listener.asked == b""


async def test_a_refused_connection_is_unhealthy(listener: Listener) -> None:
    server = await asyncio.start_server(listener.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    assert not await http_healthy("127.0.0.1", port, "/health", 5.0)
    for no_port in (-1, 0, 70_000):
        assert not await http_healthy("127.0.0.1", no_port, "/health", 5.0)
