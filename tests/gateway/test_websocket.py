"""WebSockets: the handshake judged on both sides, then bytes both ways, in flight until the end."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.gateway.limits import Limits
from orchestrator.gateway.websocket import AWAY_TO_CLIENT, AWAY_TO_WORKER, FRAMES_AT_ONCE, FrameCounter
from tests.gateway.rig import PATIENCE_S, Caller, Rig
from tests.gateway.upstreams import accept_of
from tests.waiting import until

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
OFFER = (
    "Connection: keep-alive, Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    f"Sec-WebSocket-Key: {KEY}",
)
HELLO = b"\x81\x05hello"
BYE = b"\x81\x03bye"
PING = b"\x89\x80\x00\x00\x00\x00"
ACCEPT = f"Sec-WebSocket-Accept: {accept_of(KEY)}\r\n"
WEBSOCKET_IDLE_S = Limits().websocket_idle_s
SWITCH = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"


async def talk(rig: Rig, path: str = "ws") -> Caller:
    """An open WebSocket; what the worker said first is still to be read."""
    caller = await rig.caller()
    caller.request("GET", f"/v1/sketch/{path}", *OFFER)
    assert (await caller.head()).status == 101
    return caller


async def read(caller: Caller, count: int) -> bytes:
    async with asyncio.timeout(PATIENCE_S):
        return await caller.reader.readexactly(count)


def test_the_key_of_the_rfc_gets_the_answer_of_the_rfc() -> None:
    assert accept_of(KEY) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


async def test_bytes_pass_both_ways_and_the_worker_is_busy_until_the_end(rig: Rig) -> None:
    (a,) = await rig.workers("a")
    caller = await rig.caller()
    caller.request("GET", "/v1/sketch/ws?q=1", *OFFER, "Sec-WebSocket-Protocol: chat")
    head = await caller.head()
    assert (head.status, head.get("connection"), head.get("upgrade")) == (101, "Upgrade", "websocket")
    assert (head.get("sec-websocket-accept"), head.get("x-worker-id")) == (accept_of(KEY), "id-a")
    assert head.get("content-length") is None
    assert await read(caller, 7) == HELLO
    for n in range(3):
        frame = b"\x82\x81\x00\x00\x00\x00%d" % n
        caller.send(frame)
        assert await read(caller, 7) == frame
    seen = a.seen[0]
    assert (seen.target, seen.get("sec-websocket-protocol"), seen.get("x-api-key")) == ("/ws?q=1", "chat", None)
    assert (rig.lane.running, rig.route.meter.served_total) == (1, 0)
    ((arrived_ns, dispatched_ns),) = rig.gateway.hub.in_flight(next(iter(rig.lane.slots.values())))
    assert arrived_ns <= dispatched_ns
    caller.writer.write_eof()
    assert await caller.closed() == BYE
    await until(rig.idle)
    assert (rig.route.meter.served_total, rig.route.meter.failed_total) == (1, 0)


async def test_frames_that_come_with_the_handshake_are_not_lost(rig: Rig) -> None:
    """A client must not send before the 101, but one that does loses nothing; the worker may say something at once."""
    caller = await rig.caller()
    caller.request("GET", "/v1/sketch/ws", *OFFER)
    caller.send(PING)
    await until(lambda: rig.lane.queued == 1)
    await rig.workers("a")
    head = await caller.head()
    assert (head.status, head.get("x-cold-start")) == (101, "true")
    assert await read(caller, 13) == HELLO + PING


async def test_a_worker_that_ends_lets_the_client_finish(rig: Rig) -> None:
    (a,) = await rig.workers("a")
    caller = await talk(rig, "ws-deaf")
    a.gate.set()
    assert await caller.closed() == b""
    caller.send(PING)  # still open in this direction
    caller.writer.write_eof()
    await until(rig.idle)
    assert rig.route.meter.failed_total == 0


async def test_a_side_that_ends_alone_is_waited_for_shortly(rig: Rig) -> None:
    await rig.listen(Limits(websocket_close_s=0.1))
    (a,) = await rig.workers("a")
    caller = await talk(rig, "ws-deaf")
    caller.writer.write_eof()
    assert await caller.closed() == AWAY_TO_CLIENT
    await until(rig.idle)
    assert a.opened == 1


async def test_a_client_that_is_cut_off_ends_the_worker_connection(rig: Rig) -> None:
    (a,) = await rig.workers("a")
    caller = await talk(rig)
    caller.close()
    await until(lambda: a.open == 0)
    await until(rig.idle)


async def test_a_worker_that_dies_resets_the_client(rig: Rig) -> None:
    (a,) = await rig.workers("a")
    caller = await talk(rig, "ws-deaf")
    (connection,) = next(iter(rig.gateway.hub.pools.values())).opened
    connection.transport.abort()
    with pytest.raises(ConnectionResetError):
        await caller.closed()
    await until(rig.idle)
    assert rig.route.meter.failed_total == 1
    assert a.opened == 1


async def test_neither_side_outruns_the_other(rig: Rig) -> None:
    (a,) = await rig.workers("a")
    caller = await talk(rig, "ws-flood")
    caller.writer.transport.pause_reading()
    client = await rig.client()
    await until(lambda: client.full, what="the worker to be held")
    assert client.transport.get_write_buffer_size() < 4 * 1024**2
    caller.close()
    await until(lambda: a.open == 0)
    caller = await talk(rig, "ws-deaf")
    (client,) = [c for c in rig.gateway.clients if c.request is not None]
    caller.send(b"\x82\x7f" + (1 << 30).to_bytes(8, "big") + b"x" * (64 << 20))
    await until(lambda: not client.transport.is_reading(), what="the client to be held")
    (connection,) = next(iter(rig.gateway.hub.pools.values())).opened
    assert connection.transport.get_write_buffer_size() < 4 * 1024**2


async def test_silence_ends_it_and_the_execution_timeout_does_not(rig: Rig) -> None:
    (a,) = await rig.workers("a")
    caller = await talk(rig)
    assert await read(caller, 7) == HELLO
    for _ in range(8):
        await rig.skip(WEBSOCKET_IDLE_S - 50)
        caller.send(PING)
        assert await read(caller, 6) == PING
    assert rig.route.execution_timeout_s < 8 * (WEBSOCKET_IDLE_S - 50)
    await rig.skip(WEBSOCKET_IDLE_S)
    assert await caller.closed() == AWAY_TO_CLIENT
    await until(rig.idle)
    assert not next(iter(rig.lane.slots.values())).recycle
    assert a.hung_up == 0


async def test_a_message_cut_in_its_middle_is_a_reset(rig: Rig) -> None:
    await rig.workers("a")
    caller = await talk(rig)
    part = b"\x82\x85\x00\x00\x00\x00ab"
    caller.send(part)
    assert await read(caller, 15) == HELLO + part
    await rig.skip(WEBSOCKET_IDLE_S)
    with pytest.raises(ConnectionResetError):
        await caller.closed()


async def test_drain_waits_for_it_and_then_says_goodbye(rig: Rig) -> None:
    await rig.workers("a")
    caller = await talk(rig)
    assert await read(caller, 7) == HELLO
    draining = asyncio.ensure_future(rig.gateway.drain(1.0))
    caller.send(PING)
    assert await read(caller, 6) == PING
    assert not draining.done()
    assert await caller.closed() == AWAY_TO_CLIENT
    await asyncio.wait_for(draining, PATIENCE_S)
    assert rig.idle()


async def test_a_draining_worker_keeps_its_conversations_and_gets_no_new_ones(rig: Rig) -> None:
    """It counts as busy until the last of them has ended: the drain's own deadline is what ends it otherwise."""
    (a,) = await rig.workers("a")
    caller = await talk(rig)
    assert await read(caller, 7) == HELLO
    (slot,) = rig.lane.slots.values()
    (b,) = await rig.workers("b")
    assert (await rig.call("GET", "/v1/sketch/ok")).get("x-upstream") == "b"
    caller.send(PING)
    assert await read(caller, 6) == PING
    assert (slot.in_ring, slot.in_flight) == (False, 1)
    caller.writer.write_eof()
    assert await caller.closed() == BYE
    await until(lambda: slot.in_flight == 0)
    await until(lambda: a.open == 0, what="connections to the worker that left to be closed")
    assert b.open == 1


async def test_a_worker_may_decline_and_the_connection_stays_http(rig: Rig) -> None:
    (a,) = await rig.workers("a")
    caller = await rig.caller()
    caller.request("GET", "/v1/sketch/ws-none", *OFFER)
    assert len((await caller.reply()).body) == 200
    caller.request("GET", "/v1/sketch/ok")
    assert (await caller.reply()).status == 200
    assert a.opened == 1


@pytest.mark.parametrize(
    ("lines", "status", "code"),
    [
        (OFFER[:3], 400, "bad_handshake"),
        ((*OFFER, OFFER[3]), 400, "bad_handshake"),
        ((*OFFER[:3], "Sec-WebSocket-Key: short"), 400, "bad_handshake"),
        ((*OFFER[:3], "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR=="), 400, "bad_handshake"),
        ((*OFFER, "Content-Length: 3"), 400, "bad_handshake"),
        ((*OFFER, "Transfer-Encoding: chunked"), 400, "bad_handshake"),
        ((*OFFER[:2], "Sec-WebSocket-Version: 8", OFFER[3]), 426, "websocket_version"),
        ((*OFFER[:2], OFFER[3]), 426, "websocket_version"),
    ],
)
async def test_offers_that_are_none(rig: Rig, lines: tuple[str, ...], status: int, code: str) -> None:
    (a,) = await rig.workers("a")
    caller = await rig.caller()
    caller.request("GET", "/v1/sketch/ws", *lines)
    reply = await caller.reply()
    assert (reply.status, reply.code) == (status, code)
    assert await caller.closed() == b""
    assert a.opened == 0
    if status == 426:
        assert reply.get("sec-websocket-version") == "13"


@pytest.mark.parametrize(
    ("version", "lines"),
    [
        ("1.0", OFFER),
        ("1.1", OFFER[1:]),
        ("1.1", ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: x")),
        ("1.1", ("Connection: Upgrade", "Upgrade: TLS/1.0, irc")),
    ],
)
async def test_other_offers_are_ignored(rig: Rig, version: str, lines: tuple[str, ...]) -> None:
    """RFC 9110 7.8: HTTP/1.0 cannot switch, an offer must be named in Connection, and any offer may be ignored."""
    (a,) = await rig.workers("a")
    caller = await rig.caller()
    head = [f"GET /v1/sketch/ok HTTP/{version}", "Host: localhost", "x-api-key: gd_k1_owner", *lines]
    caller.send("\r\n".join(head) + "\r\n\r\n")
    assert (await caller.reply()).status == 200
    assert all(a.seen[0].get(name) is None for name in ("upgrade", "connection", "http2-settings"))


@pytest.mark.parametrize(
    "raw",
    [
        SWITCH,
        SWITCH + "Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n",
        SWITCH + ACCEPT + ACCEPT,
        SWITCH + ACCEPT + "Content-Length: 0\r\n",
        SWITCH + ACCEPT + "Transfer-Encoding: chunked\r\n",
        SWITCH.replace("websocket", "h2c") + ACCEPT,
        SWITCH.replace("Connection: Upgrade", "Connection: close") + ACCEPT,
    ],
)
async def test_a_101_that_does_not_answer_is_502(rig: Rig, raw: str) -> None:
    await rig.workers("a")
    caller = await rig.caller()
    caller.request("GET", "/v1/sketch/ws-raw", *OFFER, f"x-reply: {(raw + chr(13) + chr(10)).encode().hex()}")
    reply = await caller.reply()
    assert (reply.status, reply.code) == (502, "worker_protocol")
    await until(rig.idle)


async def test_a_101_nobody_asked_for_is_502(rig: Rig) -> None:
    await rig.workers("a")
    raw = f"{SWITCH}{ACCEPT}\r\n".encode()
    reply = await rig.call("GET", "/v1/sketch/ws-raw", f"x-reply: {raw.hex()}")
    assert (reply.status, reply.code) == (502, "worker_protocol")


FRAMES = st.lists(
    st.tuples(st.sampled_from([0x81, 0x02, 0x00, 0x89]), st.integers(0, 70_000), st.booleans()), max_size=4
)


@given(FRAMES, st.lists(st.integers(0, 1 << 20), max_size=12), st.integers(0, 1 << 20))
def test_any_cut_of_frames_is_counted_alike(frames: list[tuple[int, int, bool]], cuts: list[int], stop: int) -> None:
    coded, ends = b"", {0}
    for first, length, masked in frames:
        coded += frame(first, length, masked=masked)
        ends.add(len(coded))
    coded = coded[: stop % (len(coded) + 1)]
    counter = FrameCounter()
    bounds = sorted({0, len(coded), *(cut % (len(coded) + 1) for cut in cuts)})
    for start, end in pairwise(bounds):
        counter.feed(coded[start:end])
        assert counter.between == (end in ends)
    assert not counter.closed


def frame(first: int, length: int, *, masked: bool) -> bytes:
    short = length if length < 126 else 126 if length < 65_536 else 127
    extended = b"" if length < 126 else length.to_bytes(2 if length < 65_536 else 8, "big")
    return bytes([first, short | (0x80 if masked else 0)]) + extended + (b"mask" if masked else b"") + bytes(length)


def test_a_flood_of_empty_frames_is_not_followed_to_its_end() -> None:
    counter = FrameCounter()
    for _ in range(3):
        counter.feed(b"\x81\x00" * FRAMES_AT_ONCE)
        assert counter.between
    counter.feed(b"\x81\x00" * FRAMES_AT_ONCE + b"\x88\x00")
    assert not counter.between
    counter.feed(b"\x81\x00")
    assert not counter.between, "its place is lost, so nothing can be put between two frames"


@pytest.mark.parametrize("close", [AWAY_TO_CLIENT, AWAY_TO_WORKER])
def test_goodbye_is_a_whole_close_frame(close: bytes) -> None:
    counter = FrameCounter()
    counter.feed(close)
    assert (counter.between, counter.closed) == (True, True)
