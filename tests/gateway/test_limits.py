"""Deadlines, caps, start and stop."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from orchestrator.contract.base import SECOND_NS
from orchestrator.gateway import server
from orchestrator.gateway.inbound import ClientConnection
from orchestrator.gateway.limits import Limits
from orchestrator.gateway.server import Gateway, ListenError
from tests.gateway.rig import PATIENCE_S, Caller, Rig
from tests.waiting import until


async def test_a_taken_port_is_a_clear_error(rig: Rig) -> None:
    second = Gateway(rig.table, rig.now)
    with pytest.raises(ListenError, match=rf"port {rig.gateway.port} is taken.*choose another port"):
        await second.start("127.0.0.1", rig.gateway.port)
    with pytest.raises(ListenError, match="no such address"):
        await second.start("192.0.2.1", 0)
    assert second.port == 0
    await second.close()


async def test_the_connection_after_the_last_is_refused(rig: Rig) -> None:
    await rig.listen(Limits(connections=3))
    for _ in range(3):
        await rig.caller()
    await until(lambda: rig.gateway.connections == 3)
    extra = await rig.caller()
    reply = await extra.reply()
    assert (reply.status, reply.code, reply.get("connection")) == (503, "too_many_connections", "close")
    assert await extra.closed() == b""
    rig.callers[0].close()
    extra.close()
    await until(lambda: rig.gateway.connections == 2)
    assert (await rig.call("GET", "/healthz")).status == 200


async def test_deadlines_of_many_are_looked_at_in_several_turns(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SWEPT_AT_ONCE", 4)
    await rig.listen(sweep_s=3_600)  # no other look at the deadlines than the one below
    for _ in range(9):
        await rig.caller()
    await until(lambda: rig.gateway.connections == 9, what="all of them to be there")
    swept: list[ClientConnection] = []
    monkeypatch.setattr(ClientConnection, "sweep", lambda client, now_ns: swept.append(client))
    rig.gateway._sweep()
    assert len(swept) == 4
    gone, *others = rig.gateway.clients - set(swept)
    rig.gateway.hub.left(gone)
    await until(lambda: all(client in swept for client in others), what="the others to be looked at")
    assert gone not in swept
    assert len(set(swept)) == len(swept)


async def test_a_head_that_does_not_end_is_408(rig: Rig) -> None:
    caller = await rig.caller()
    caller.request("GET", "/healthz")
    await caller.reply()
    client = await rig.client()
    caller.send("GET / HTTP/1.1\r\nHost: lo")
    await until(lambda: client._tail, what="the piece of a head to be there")
    await rig.skip(Limits().head_deadline_s)
    reply = await caller.reply()
    assert (reply.status, reply.code) == (408, "head_timeout")
    assert await caller.closed() == b""


async def test_slow_bytes_do_not_extend_the_heads_deadline(rig: Rig) -> None:
    await rig.listen(Limits(head_deadline_s=0.5))
    caller = await rig.caller()
    caller.request("GET", "/healthz")
    await caller.reply()

    async def dribble() -> None:
        caller.send("GET / HTTP/1.1\r\nx: ")
        while True:
            caller.send("a")
            await asyncio.sleep(0.01)

    dribbling = asyncio.ensure_future(dribble())
    assert (await caller.reply()).status == 408
    dribbling.cancel()


async def test_silent_connections_are_closed(rig: Rig) -> None:
    silent, used = await rig.caller(), await rig.caller()
    used.request("GET", "/healthz")
    await used.reply()
    await until(lambda: rig.gateway.connections == 2)
    limits = Limits()
    await rig.skip(limits.head_deadline_s)
    assert await silent.closed() == b""
    await rig.skip(limits.idle_s - limits.head_deadline_s - 5)
    assert rig.gateway.connections == 1, "the one that has been used may stay idle for longer"
    await rig.skip(limits.head_deadline_s)
    assert await used.closed() == b""


async def test_a_body_that_stops_coming_is_408_and_frees_the_worker(rig: Rig) -> None:
    await rig.listen(Limits(body_window_s=0.1))
    (a,) = await rig.workers("a")
    caller = await rig.caller()
    caller.request("POST", "/v1/sketch/body", "Content-Length: 1000000")
    caller.send(b"x" * 100)
    reply = await caller.reply()
    assert (reply.status, reply.code) == (408, "body_timeout")
    assert await caller.closed() == b""
    await until(lambda: a.open == 0)
    assert rig.route.meter.failed_total == 0, "not our failure"


async def test_a_body_held_back_by_us_is_not_blamed_on_the_client(rig: Rig) -> None:
    await rig.listen(Limits(buffer_bytes=1_000, spool_bytes=0))
    caller = await rig.caller()
    caller.request("POST", "/v1/sketch/body", "Content-Length: 5000")
    caller.send(b"x" * 4_000)
    client = await rig.client()
    await until(lambda: not client.transport.is_reading())
    await rig.skip(3 * Limits().body_window_s)
    caller.send(b"x" * 1_000)
    await rig.workers("a")
    assert (await caller.reply()).body == b"x" * 5_000


async def test_a_chunked_body_over_the_limit_is_413(rig: Rig) -> None:
    await rig.listen(Limits(body_bytes=1_000))
    (a,) = await rig.workers("a")
    caller = await rig.caller()
    caller.request("POST", "/v1/sketch/body", "Transfer-Encoding: chunked")
    caller.send(b"3e8\r\n" + b"x" * 1_000 + b"\r\n")
    await until(lambda: a.seen)
    caller.send(b"1\r\nx\r\n0\r\n\r\n")
    reply = await caller.reply()
    assert (reply.status, reply.code) == (413, "body_too_large")
    assert (await rig.call("POST", "/v1/sketch", body=b"x" * 1_001)).status == 413
    await until(lambda: a.open == 0)
    assert not a.seen[0].complete


async def test_a_client_that_takes_nothing_of_its_reply_is_cut(rig: Rig) -> None:
    await rig.listen(Limits(send_stall_s=0.2))
    (a,) = await rig.workers("a")
    caller = await rig.caller()
    caller.writer.transport.pause_reading()
    caller.request("GET", "/v1/sketch/big?1000")
    await until(lambda: a.seen)
    await until(lambda: rig.gateway.connections == 0)
    assert rig.idle()


async def narrow(rig: Rig) -> tuple[Caller, ClientConnection]:
    """A caller that reads nothing yet, and the gateway's end; what the kernel holds between them is little."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", rig.gateway.port))
    caller = Caller(*await asyncio.open_connection(sock=sock, limit=4_096))
    rig.callers.append(caller)
    caller.writer.transport.pause_reading()
    client = await rig.client()
    with socket.socket(fileno=os.dup(client.transport.get_extra_info("socket").fileno())) as twin:
        twin.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    return caller, client


async def test_a_client_that_is_slow_gets_the_end_of_its_last_reply_too(rig: Rig) -> None:
    """The time for which a connection lingers begins when everything has been taken. Cut off before, an HTTP/1.0 client
    would take half a reply for a whole one."""
    await rig.listen(Limits(linger_s=0.05))
    await rig.workers("a")
    caller, client = await narrow(rig)
    caller.request("GET", "/v1/sketch/big?1", "Connection: close")
    await until(lambda: client.request is None and client.transport.get_write_buffer_size() > 0)
    since_ns = rig.now()
    await until(lambda: rig.now() - since_ns > 500_000_000)
    caller.writer.transport.resume_reading()
    assert len((await caller.reply()).body) == 65_536
    assert await caller.closed() == b""


async def test_a_client_that_takes_its_reply_slowly_is_not_cut_off_until_it_stops(rig: Rig) -> None:
    await rig.workers("a")
    caller, client = await narrow(rig)
    caller.request("GET", "/v1/sketch/big?8")
    await until(lambda: client.full)
    real, skipped_s = rig.gateway.hub.now, 0
    rig.gateway.hub.now = lambda: real() + skipped_s * SECOND_NS

    def gone_later() -> bool:
        """What is on its way into the kernel is the last that it takes: time passes only little by little."""
        nonlocal skipped_s
        skipped_s += 2
        return not rig.gateway.connections

    for _ in range(5):
        before = client.transport.get_write_buffer_size()
        caller.writer.transport.resume_reading()
        async with asyncio.timeout(PATIENCE_S):
            while client.transport.get_write_buffer_size() == before:
                assert await caller.reader.read(2_048)
        caller.writer.transport.pause_reading()
        skipped_s += 20
        then_ns = rig.gateway.hub.now()
        await until(lambda then_ns=then_ns: rig.gateway.hub.coarse_ns >= then_ns, what="the deadlines to be looked at")
    assert client.request is not None, "it has taken some every 20 s"
    await until(gone_later, what="it to be cut off")
    rig.gateway.hub.now = real


async def test_drain_finishes_what_is_in_flight_and_takes_nothing_new(rig: Rig) -> None:
    (a,) = await rig.workers("a")
    busy, queued, idle = await rig.caller(), await rig.caller(), await rig.caller()
    busy.request("GET", "/v1/sketch/slow")
    await until(lambda: a.seen)
    queued.request("GET", "/v1/sketch/ok")
    await until(lambda: rig.lane.queued == 1)
    draining = asyncio.ensure_future(rig.gateway.drain(60))
    assert await idle.closed() == b""
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", rig.gateway.port)
    a.gate.set()
    for caller in (busy, queued):
        reply = await caller.reply()
        assert (reply.status, reply.get("connection")) == (200, "close")
        caller.close()
    await asyncio.wait_for(draining, PATIENCE_S)
    assert rig.gateway.connections == rig.gateway.worker_connections == 0


async def test_drain_serves_those_whom_the_kernel_has_let_in(rig: Rig) -> None:
    """To them it looks as if the gateway had taken their requests, which are on their way."""
    waiting = [socket.create_connection(("127.0.0.1", rig.gateway.port)) for _ in range(20)]
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for sock in waiting[:10]:
        sock.sendall(request)
    draining = asyncio.ensure_future(rig.gateway.drain(60))
    await until(lambda: rig.gateway._server and not rig.gateway._server.is_serving(), what="the listener to close")
    for sock in waiting[10:]:
        sock.sendall(request)
    for sock in waiting:
        sock.setblocking(False)
        caller = Caller(*await asyncio.open_connection(sock=sock))
        assert (await caller.reply()).get("connection") == "close"
        assert await caller.closed() == b""
        caller.close()
    await asyncio.wait_for(draining, PATIENCE_S)


async def test_drain_cuts_what_outlives_its_grace(rig: Rig) -> None:
    (a,) = await rig.workers("a")
    busy, queued = await rig.caller(), await rig.caller()
    busy.request("GET", "/v1/sketch/slow")
    await until(lambda: a.seen)
    queued.request("GET", "/v1/sketch/ok")
    await until(lambda: rig.lane.queued == 1)
    draining = asyncio.ensure_future(rig.gateway.drain(0.1))
    replies = [await busy.reply(), await queued.reply()]
    assert [(r.status, r.code) for r in replies] == [(503, "stopping")] * 2
    await asyncio.wait_for(draining, PATIENCE_S)
    assert rig.idle()
    await until(lambda: a.hung_up == 1)
    await rig.gateway.close()


async def test_a_draining_connection_takes_no_further_request(rig: Rig) -> None:
    caller = await rig.caller()
    (a,) = await rig.workers("a")
    caller.request("GET", "/v1/sketch/slow")
    caller.request("GET", "/v1/sketch/ok")
    await until(lambda: a.seen)
    draining = asyncio.ensure_future(rig.gateway.drain(60))
    await asyncio.sleep(0)
    a.gate.set()
    assert (await caller.reply()).get("connection") == "close"
    assert await caller.closed() == b""
    caller.close()
    await draining
    assert len(a.seen) == 1
