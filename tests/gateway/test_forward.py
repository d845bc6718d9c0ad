"""What passes through: heads, bodies and streams, both ways."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.gateway.rig import PATIENCE_S, Rig
from tests.waiting import until


async def test_the_worker_sees_the_request_without_our_and_hop_by_hop_fields(rig: Rig) -> None:
    (a,) = await rig.workers("a")
    reply = await rig.call(
        "POST",
        "/v1/sketch/echo?x=%20",
        "Connection: keep-alive, X-Hop",
        "X-Hop: 1",
        "Keep-Alive: 5",
        "TE: trailers",
        "Proxy-Authorization: Basic x",
        "Authorization: Bearer other",
        "X-Forwarded-For: 8.8.8.8",
        "X_Forwarded_For: 8.8.8.8",
        "Forwarded: for=8.8.8.8",
        "X-Request-Id: client-1",
        "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "X-Custom:  Two  Words ",
        "Accept: a",
        "Accept: b",
        body=b"hello",
    )
    seen = reply.json()
    assert (seen["method"], seen["target"], seen["body"]) == ("POST", "/echo?x=%20", "hello")
    assert a.seen[0].fields == [
        ("host", f"127.0.0.1:{a.port}"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-request-id", "client-1"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("x-custom", "Two  Words"),
        ("accept", "a"),
        ("accept", "b"),
        ("content-length", "5"),
    ]


async def test_the_client_sees_the_reply_with_our_fields(rig: Rig) -> None:
    await rig.workers("a")
    first = await rig.call("GET", "/v1/sketch/ok")
    assert first.body == b"a" * 200
    assert (first.get("x-worker-id"), first.get("x-queue-ms"), first.get("x-cold-start")) == ("id-a", "0", "true")
    assert first.get("x-remaining-credits") == "25.50"
    timing = first.get("server-timing")
    assert timing is not None
    assert timing.startswith("queue;dur=0, worker;dur=")
    rig.table.balances_u["local"] = -1_230_000
    second = await rig.call("GET", "/v1/sketch/ok")
    assert (second.get("x-cold-start"), second.get("x-remaining-credits")) == ("false", "-1.23")
    ids = {first.get("x-request-id"), second.get("x-request-id")}
    assert len(ids) == 2
    assert all(len(i or "") == 16 and int(i or "", 16) >= 0 for i in ids)


@pytest.mark.parametrize("sent", ["", "a b", "-x", "x" * 129, "<b>"])
async def test_an_odd_request_id_is_replaced(rig: Rig, sent: str) -> None:
    reply = await rig.call("GET", "/healthz", f"x-request-id: {sent}")
    assert reply.get("x-request-id") != sent


async def test_hop_by_hop_and_forged_fields_of_the_reply_are_dropped(rig: Rig) -> None:
    (a,) = await rig.workers("a")
    caller = await rig.caller()
    for n in range(2):
        caller.request("GET", "/v1/sketch/goodbye")
        reply = await caller.reply()
        assert reply.body == b"ok"
        assert reply.get("x-worker-id") == "id-a"
        assert {"connection", "keep-alive", "x-secret"}.isdisjoint(name for name, _ in reply.fields)
        assert next(v for k, v in reply.fields if k == "server-timing") == "model;dur=3"
        assert a.opened == n + 1, "a worker that closes is not asked again on the same connection"


async def test_connections_to_workers_are_kept(rig: Rig) -> None:
    (a,) = await rig.workers("a")
    caller = await rig.caller()
    for path in ("ok", "echo", "no-content", "not-modified", "hints", "ok") * 3:
        caller.request("GET", f"/v1/sketch/{path}")
        await caller.reply()
    assert a.opened == 1
    assert rig.gateway.worker_connections == 1


async def test_bodies_of_every_framing_arrive_whole(rig: Rig) -> None:
    (a,) = await rig.workers("a")
    body = bytes(range(256)) * 1_024  # 256 KiB
    caller = await rig.caller()
    caller.request("POST", "/v1/sketch/body", body=body)
    assert (await caller.reply()).body == body
    caller.request("POST", "/v1/sketch/body", "Transfer-Encoding: chunked")
    for at in range(0, len(body), 10_000):
        piece = body[at : at + 10_000]
        caller.send(b"%X;ext=1\r\n%b\r\n" % (len(piece), piece))
        await asyncio.sleep(0)
    caller.send(b"0\r\nx-trailer: 1\r\n\r\n")
    assert (await caller.reply()).body == body
    assert a.seen[1].get("transfer-encoding") == "chunked"
    assert a.seen[1].body == body
    caller.request("POST", "/v1/sketch/echo")
    assert (await caller.reply()).json()["body"] == ""
    assert a.seen[2].get("content-length") == "0"


async def test_events_are_passed_on_one_by_one(rig: Rig) -> None:
    (a,) = await rig.workers("a")
    caller = await rig.caller()
    caller.request("GET", "/v1/sketch/sse")
    head = await caller.head()
    assert (head.get("content-type"), head.get("transfer-encoding")) == ("text/event-stream", "chunked")
    for n in range(3):
        assert rig.lane.running == 1
        a.step.release()
        assert await caller.chunk() == b"data: %d\n\n" % n
    assert await caller.chunk() == b""
    await until(lambda: rig.lane.running == 0)
    assert rig.route.meter.served_total == 1


async def test_both_directions_stream_at_once(rig: Rig) -> None:
    (a,) = await rig.workers("a")
    caller = await rig.caller()
    caller.request("POST", "/v1/sketch/stream-back", "Transfer-Encoding: chunked")
    assert (await caller.head()).status == 200
    for n in range(5):
        caller.send(b"1\r\n%d\r\n" % n)
        assert await caller.chunk() == b"%d" % n
    caller.send(b"0\r\n\r\n")
    assert await caller.chunk() == b""
    caller.request("GET", "/v1/sketch/ok")
    assert (await caller.reply()).status == 200
    assert a.opened == 1


async def test_head_204_and_304_have_no_body(rig: Rig) -> None:
    await rig.workers("a")
    caller = await rig.caller()
    caller.request("HEAD", "/v1/sketch/ok")
    reply = await caller.reply(head_only=True)
    assert (reply.status, reply.get("content-length")) == (200, "200")
    caller.request("GET", "/v1/sketch/no-content")
    reply = await caller.reply()
    assert (reply.status, reply.get("content-length"), reply.get("transfer-encoding")) == (204, None, None)
    caller.request("GET", "/v1/sketch/not-modified")
    reply = await caller.reply()
    assert (reply.status, reply.get("content-length"), reply.get("etag")) == (304, "200", '"1"')
    caller.request("GET", "/v1/sketch/ok")
    assert len((await caller.reply()).body) == 200


async def test_interim_replies_pass_but_not_the_workers_100(rig: Rig) -> None:
    await rig.workers("a")
    reply = await rig.call("GET", "/v1/sketch/hints")
    assert (reply.interim, reply.status) == ([103], 200)


async def test_a_reply_that_ends_with_its_connection_is_framed(rig: Rig) -> None:
    await rig.workers("a")
    reply = await rig.call("GET", "/v1/sketch/eof")
    assert (reply.get("transfer-encoding"), reply.body) == ("chunked", b"until the end")


async def test_pipelined_requests_are_answered_in_order(rig: Rig) -> None:
    await rig.workers("a", "b")
    caller = await rig.caller()
    for n in range(50):
        caller.request("POST", f"/v1/sketch/echo?{n}", body=b"%d" % n)
        caller.request("GET", "/healthz")
        caller.request("POST", "/v1/no-such", body=b"ignored")
    for n in range(50):
        assert (await caller.reply()).json()["target"] == f"/echo?{n}"
        assert (await caller.reply()).status == 200
        assert (await caller.reply()).status == 404


async def test_a_flood_of_pipelined_requests_waits_outside(rig: Rig) -> None:
    """Reading stops after 64 KiB; everything is answered in the end."""
    (a,) = await rig.workers("a")
    caller = await rig.caller()
    caller.request("GET", "/v1/sketch/slow")
    await until(lambda: a.seen)
    for _ in range(200):
        caller.request("GET", "/healthz", f"x-pad: {'x' * 8_000}")
    client = await rig.client()
    await until(lambda: not client.transport.is_reading(), what="the client to be held")
    a.gate.set()
    assert len((await caller.reply()).body) == 200
    for _ in range(200):
        assert (await caller.reply()).status == 200


async def test_http_1_0_clients(rig: Rig) -> None:
    await rig.workers("a")
    head = "GET /v1/sketch/{} HTTP/1.0\r\nx-api-key: gd_k1_owner\r\n"
    caller = await rig.caller()
    caller.send(head.format("ok") + "Connection: keep-alive\r\n\r\n")
    reply = await caller.reply()
    assert (reply.status, reply.get("connection"), len(reply.body)) == (200, "keep-alive", 200)
    caller.send(head.format("echo") + "Connection: keep-alive\r\n\r\n")
    reply = await caller.reply()  # chunked by the worker: HTTP/1.0 gets it up to the end of the connection
    assert (reply.get("transfer-encoding"), reply.get("connection")) == (None, "close")
    assert json.loads(reply.body)["target"] == "/echo"
    caller = await rig.caller()
    caller.send(head.format("ok") + "\r\n")
    assert (await caller.reply()).get("connection") == "close"
    assert await caller.closed() == b""


async def test_connection_close_is_obeyed(rig: Rig) -> None:
    await rig.workers("a")
    caller = await rig.caller()
    caller.request("GET", "/v1/sketch/ok", "Connection: close")
    reply = await caller.reply()
    assert (reply.get("connection"), len(reply.body)) == ("close", 200)
    assert await caller.closed() == b""


async def test_expect_is_answered_when_a_worker_is_claimed(rig: Rig) -> None:
    caller = await rig.caller()
    caller.request("POST", "/v1/sketch/body", "Expect: 100-continue", "Content-Length: 5")
    await until(lambda: rig.lane.queued == 1)
    (a,) = await rig.workers("a")
    assert (await caller.head()).status == 100
    caller.send("hello")
    assert (await caller.reply()).body == b"hello"
    assert a.seen[0].get("expect") is None


async def test_expect_is_not_answered_when_the_request_is_refused(rig: Rig) -> None:
    caller = await rig.caller()
    caller.request("POST", "/v1/no-such", "Expect: 100-continue", "Content-Length: 5")
    reply = await caller.reply()
    assert (reply.status, reply.interim, reply.get("connection")) == (404, [], "close")


async def test_a_slow_client_slows_the_worker(rig: Rig) -> None:
    """64 MiB to a client that does not read: the gateway holds little of it, and the client gets all of it."""
    await rig.workers("a")
    caller = await rig.caller()
    caller.writer.transport.pause_reading()
    caller.request("GET", "/v1/sketch/big?1024")
    client = await held_at(rig)
    assert client < 4 * 1024**2
    caller.writer.transport.resume_reading()
    head = await caller.head()
    left = int(head.get("content-length") or 0)
    assert left == 64 * 1024**2
    async with asyncio.timeout(PATIENCE_S):
        while left:
            left -= len(await caller.reader.read(min(left, 1 << 20)))
    caller.request("GET", "/v1/sketch/ok")
    assert (await caller.reply()).status == 200


async def test_many_replies_to_a_client_that_does_not_read_are_held_too(rig: Rig) -> None:
    """Each of 256 pipelined replies of 256 KiB is small enough to be taken whole: together they must not be."""
    (a,) = await rig.workers("a")
    caller = await rig.caller()
    caller.writer.transport.pause_reading()
    for _ in range(256):
        caller.request("GET", "/v1/sketch/big?4")
    assert await held_at(rig) < 4 * 1024**2
    assert len(a.seen) < 128
    caller.writer.transport.resume_reading()
    for _ in range(256):
        assert len((await caller.reply()).body) == 4 * 65_536


async def test_small_answers_to_a_client_that_does_not_read_are_held_too(rig: Rig) -> None:
    caller = await rig.caller()
    caller.writer.transport.pause_reading()
    count = 50_000
    for _ in range(count):
        caller.request("GET", "/healthz")
    assert await held_at(rig) < 1024**2
    caller.writer.transport.resume_reading()
    async with asyncio.timeout(60):
        for _ in range(count):
            await caller.reader.readuntil(b'"ok"}')


async def held_at(rig: Rig) -> int:
    """Bytes the gateway holds for its one client, once that stays the same."""
    client = await rig.client()
    before = -1
    async with asyncio.timeout(PATIENCE_S):
        while (size := client.transport.get_write_buffer_size()) != before or not size:
            before = size
            await asyncio.sleep(0.1)
    return size


async def test_a_slow_worker_slows_the_client(rig: Rig) -> None:
    (a,) = await rig.workers("a")
    caller = await rig.caller()
    total = 64 * 1024**2
    caller.request("POST", "/v1/sketch/deaf", f"Content-Length: {total}")
    sent = 0
    stuck = asyncio.ensure_future(caller.writer.drain())
    while sent < total:
        caller.send(b"x" * 65_536)
        sent += 65_536
        stuck = asyncio.ensure_future(caller.writer.drain())
        done, _ = await asyncio.wait({stuck}, timeout=1)
        if not done:
            break
    assert sent < total / 2, "the client should have been held"
    stuck.cancel()
    a.gate.set()
    reply = await caller.reply()
    assert (reply.status, reply.code) == (502, "worker_lost")
