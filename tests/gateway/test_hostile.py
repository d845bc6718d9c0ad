"""Clients and workers that mean harm: the gateway goes on serving, and its memory stays where it was (W6 to W10)."""

from __future__ import annotations

import asyncio
import errno
import resource
import selectors
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress

import pytest

from orchestrator.gateway.limits import Limits
from tests.gateway.rig import KEY, PATIENCE_S, Caller, Rig
from tests.gateway.small_host import Host, small_host
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])
"""The host has a loop of its own."""
MIB = 1024**2
DESCRIPTORS = 1_024
FLOOD = 5_000
Dial = Callable[[], Awaitable[Caller]]
ROOM = (DESCRIPTORS - 128) // 2
"""Clients that fit: one descriptor each and one to a worker."""


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with small_host(DESCRIPTORS) as host:
        yield host


@pytest.fixture
async def dial(host: Host) -> AsyncIterator[Dial]:
    """Opens connections to the host, and closes what is open in the end."""
    callers: list[Caller] = []

    async def connect() -> Caller:
        callers.append(Caller(*await asyncio.open_connection("127.0.0.1", host.port)))
        return callers[-1]

    yield connect
    for caller in callers:
        caller.close()
    await until(lambda: host.descriptors < 100, what="the host to notice")


async def test_slowloris_is_cut_off_while_others_are_served(rig: Rig) -> None:
    """500 connections that send a byte now and then: none of them outlives the header's deadline."""
    await rig.listen(Limits(head_deadline_s=0.5))
    await rig.workers("a")
    slow = flood(rig.gateway.port, 500)

    async def dribble() -> None:
        text = b"GET /v1/sketch HTTP/1.1\r\nx-a: " + b"x" * 10_000
        for at in range(len(text)):
            for sock in slow:
                with suppress(OSError):
                    sock.send(text[at : at + 1])
            await asyncio.sleep(0.02)

    dribbling = asyncio.ensure_future(dribble())
    try:
        assert (await rig.call("POST", "/v1/sketch", body=b"{}")).status == 200
        await until(lambda: len(answered(slow)) == 500, what="all of them to be answered")
        assert (await rig.call("POST", "/v1/sketch", body=b"{}")).status == 200
        await until(lambda: rig.gateway.connections == 0, what="all of them to be cut off")
        assert all(sock.recv(4_096).startswith(b"HTTP/1.1 408 ") for sock in slow)
    finally:
        dribbling.cancel()
        for sock in slow:
            sock.close()


async def test_a_header_of_8_mb_is_refused_at_16_kib(host: Host, dial: Dial) -> None:
    before = host.rss_bytes
    for _ in range(5):
        caller = await dial()
        caller.send(f"GET /healthz HTTP/1.1\r\nHost: localhost\r\nx-a: {'a' * 8 * MIB}\r\n\r\n")
        assert (await caller.reply()).status == 431
    assert host.rss_bytes - before < 16 * MIB


def flood(port: int, count: int) -> list[socket.socket]:
    """Connections that say nothing, opened as fast as they can be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, count + 500)), hard))
    connections = []
    for _ in range(count):
        sock = socket.socket()
        sock.setblocking(False)
        assert sock.connect_ex(("127.0.0.1", port)) in (0, errno.EINPROGRESS)
        connections.append(sock)
    return connections


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_NOFILE)[1] < FLOOD + 500, reason="needs 5,500 descriptors")
async def test_5000_connections_with_1024_descriptors(host: Host, dial: Dial) -> None:
    """Those that were there are served on, the rest is told to come back, and afterwards all is as before."""
    host.forget_peak()
    before = host.peak_bytes
    known = await dial()
    known.request("POST", "/v1/sketch", body=b"{}")
    assert (await known.reply()).status == 200
    connections = flood(host.port, FLOOD)
    try:
        for _ in range(50):
            known.request("POST", "/v1/sketch", body=b"{}")
            assert (await known.reply()).status == 200
        await until(lambda: len(answered(connections)) >= FLOOD - ROOM - 64, what="the others to be turned away")
        assert host.descriptors < DESCRIPTORS - 200, "enough is left for everything else"
        known.request("POST", "/v1/sketch", body=b"{}")
        assert (await known.reply()).status == 200
        said = [sock.recv(4_096) for sock in answered(connections)[:20]]
        assert all(text.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1" in text for text in said)
    finally:
        for sock in connections:
            sock.close()
    await until(lambda: host.descriptors < 100)
    caller = await dial()
    caller.request("POST", "/v1/sketch", body=b"{}")
    assert (await caller.reply()).status == 200
    assert host.peak_bytes - before < 32 * MIB


def answered(connections: list[socket.socket]) -> list[socket.socket]:
    """Those on which something has come, or an end."""
    with selectors.DefaultSelector() as selector:
        for sock in connections:
            selector.register(sock, selectors.EVENT_READ)
        return [key.fileobj for key, _ in selector.select(0)]  # type: ignore[misc]


@pytest.mark.parametrize(("kind", "status"), [("endless-head", 502), ("endless-field", 502), ("endless-interim", 502)])
async def test_a_worker_without_end_is_cut_off(host: Host, dial: Dial, kind: str, status: int) -> None:
    host.forget_peak()
    before = host.peak_bytes
    caller = await dial()
    caller.request("GET", f"/v1/sketch/{kind}")
    assert (await caller.reply()).status == status
    assert host.peak_bytes - before < 8 * MIB


@pytest.mark.parametrize("kind", ["endless-extensions", "endless-trailers"])
async def test_a_body_that_is_mostly_wrapping_is_cut_off(host: Host, dial: Dial, kind: str) -> None:
    host.forget_peak()
    before = host.peak_bytes
    caller = await dial()
    caller.request("GET", f"/v1/sketch/{kind}")
    assert (await caller.head()).status == 200
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await read_all(caller)
    assert host.peak_bytes - before < 8 * MIB


async def read_all(caller: Caller) -> None:
    while await caller.chunk():
        pass


async def test_a_reply_of_10_gb_passes_at_the_clients_pace(host: Host, dial: Dial) -> None:
    host.forget_peak()
    before = host.peak_bytes
    callers = [await dial() for _ in range(8)]
    for caller in callers:
        caller.request("GET", "/v1/sketch/endless-body")
        assert (await caller.head()).get("content-length") == "10000000000"
    async with asyncio.timeout(PATIENCE_S):
        for _ in range(200):
            for caller in callers:
                await caller.reader.readexactly(65_536)
    assert host.peak_bytes - before < 32 * MIB, "8 x 12.5 MB were read, and more was offered"


async def test_clients_that_read_nothing_cost_little(host: Host, dial: Dial) -> None:
    host.forget_peak()
    before = host.peak_bytes
    callers = [await dial() for _ in range(32)]
    for caller in callers:
        caller.writer.transport.pause_reading()
        caller.request("GET", "/v1/sketch/endless-body")
    fast = await dial()
    for _ in range(20):
        fast.send(f"POST /v1/sketch HTTP/1.1\r\nHost: localhost\r\nx-api-key: {KEY}\r\nContent-Length: 0\r\n\r\n")
        assert (await fast.reply()).status == 200
    assert host.peak_bytes - before < 32 * MIB
