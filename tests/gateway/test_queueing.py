"""Claim, wait, late binding, round robin."""

from __future__ import annotations

import asyncio
import errno
import os

import pytest

from orchestrator.core.lane import Closed, Slot
from orchestrator.gateway.limits import Limits
from orchestrator.gateway.sockets import reset_on_close
from tests.gateway.rig import Caller, Rig
from tests.gateway.upstreams import Upstream
from tests.ports import free_port
from tests.waiting import until

MIB = 1024**2


async def queued(rig: Rig, count: int) -> list[Caller]:
    """`count` callers whose requests wait, in order."""
    callers = []
    for n in range(count):
        caller = await rig.caller()
        caller.request("POST", f"/v1/sketch/echo?{n}", body=b"%d" % n)
        await until(lambda n=n: rig.lane.queued + rig.lane.running == n + 1)
        callers.append(caller)
    return callers


async def test_nine_requests_on_three_workers_go_round_three_times(rig: Rig) -> None:
    await rig.workers("a", "b", "c")
    caller = await rig.caller()
    order = []
    for _ in range(9):
        caller.request("GET", "/v1/sketch/ok")
        order.append((await caller.reply()).get("x-upstream"))
    assert order == ["a", "b", "c"] * 3
    assert [slot.served for slot in rig.lane.slots.values()] == [3, 3, 3]


async def test_concurrency_one_gives_each_worker_one_request_at_a_time(rig: Rig) -> None:
    workers = await rig.workers("a", "b")
    callers = [await rig.caller() for _ in range(6)]
    for caller in callers:
        caller.request("GET", "/v1/sketch/slow")
    await until(lambda: rig.lane.queued == 4)
    await until(lambda: all(w.seen for w in workers), what="the requests to reach the workers")
    assert [len(w.seen) for w in workers] == [1, 1]
    for worker in workers:
        worker.gate.set()
    for caller in callers:
        assert (await caller.reply()).status == 200
    assert sum(w.opened for w in workers) == 2


async def test_a_burst_without_workers_is_bound_when_one_arrives(rig: Rig) -> None:
    callers = await queued(rig, 20)
    assert rig.lane.running == 0
    (a,) = await rig.workers("a")
    for n, caller in enumerate(callers):
        reply = await caller.reply()
        assert reply.json()["target"] == f"/echo?{n}"
        assert reply.get("x-cold-start") == "true"
    assert [s.target for s in a.seen] == [f"/echo?{n}" for n in range(20)], "oldest first"
    assert rig.route.meter.served_total == 20


async def test_a_stream_is_held_through_the_cold_start(rig: Rig) -> None:
    caller = await rig.caller()
    caller.request("GET", "/v1/sketch/sse")
    await until(lambda: rig.lane.queued == 1)
    (a,) = await rig.workers("a")
    head = await caller.head()
    assert (head.status, head.get("x-cold-start")) == (200, "true")
    assert int(head.get("x-queue-ms") or "-1") >= 0
    slot = next(iter(rig.lane.slots.values()))
    assert slot.first_byte_ns is not None
    a.step.release()
    assert await caller.chunk() == b"data: 0\n\n"


async def test_waiting_behind_a_busy_worker_is_no_cold_start_but_is_measured(rig: Rig) -> None:
    (a,) = await rig.workers("a")
    await rig.call("GET", "/v1/sketch/ok")
    first, second = await rig.caller(), await rig.caller()
    first.request("GET", "/v1/sketch/slow")
    await until(lambda: len(a.seen) == 2)
    second.request("GET", "/v1/sketch/ok")
    await until(lambda: rig.lane.queued == 1)
    started_ns = rig.now()
    await until(lambda: rig.now() - started_ns > 30_000_000)
    a.gate.set()
    await first.reply()
    reply = await second.reply()
    assert reply.get("x-cold-start") == "false"
    assert int(reply.get("x-queue-ms") or 0) >= 30
    view = rig.route.meter.view(rig.now())
    assert view.queue_p95_ms is not None
    assert view.queue_p95_ms >= 30


async def test_a_full_queue_refuses_with_retry_after(rig: Rig) -> None:
    rig.lane.queue_limit = 2
    await queued(rig, 2)
    reply = await rig.call("POST", "/v1/sketch", body=b"{}")
    assert (reply.status, reply.code, reply.get("retry-after")) == (503, "queue_full", "1")
    assert rig.lane.queued == 2
    assert rig.route.meter.failed_total == 1


@pytest.mark.parametrize(
    ("lines", "size"),
    [
        ((f"Content-Length: {5 * MIB}",), MIB),
        (("Transfer-Encoding: chunked",), MIB),
        (("Content-Length: 10",), 10),
        ((), 0),
    ],
)
async def test_the_queue_counts_what_a_body_may_take(rig: Rig, lines: tuple[str, ...], size: int) -> None:
    caller = await rig.caller()
    caller.request("POST", "/v1/sketch", *lines)
    await until(lambda: rig.lane.queued == 1)
    assert rig.lane.queued_bytes == size


async def test_a_queue_full_by_bytes_refuses(rig: Rig) -> None:
    rig.add_route("tight", queue_bytes_limit=100)
    reply = await rig.call("POST", "/v1/tight", body=b"x" * 101)
    assert reply.code == "queue_full"


@pytest.mark.parametrize("spool_bytes", [0, 1 << 30])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_large_body_waits_and_then_arrives_whole(rig: Rig, spool_bytes: int, chunked: bool) -> None:
    """With no disk to spare at most 1 MiB of it (and what is in flight in one read) is here, the rest with the client;
    else all of it is read at once."""
    await rig.listen(Limits(spool_bytes=spool_bytes))
    body = bytes(range(251)) * 50_000  # 12.5 MB
    caller = await rig.caller()
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    caller.request("POST", "/v1/sketch/body", framing)
    sending = asyncio.ensure_future(send_all(caller, b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body))
    client = await rig.client()
    if spool_bytes:
        await until(sending.done, what="the client to be done")
        assert rig.gateway.hub.disk.left < spool_bytes - len(body) // 2
    else:
        await until(lambda: not client.transport.is_reading(), what="the client to be held")
    assert rig.lane.queued_bytes == MIB
    (a,) = await rig.workers("a")
    reply = await asyncio.wait_for(caller.reply(), 20)
    assert reply.body == body
    assert rig.gateway.hub.disk.left == spool_bytes
    await sending
    caller.request("GET", "/v1/sketch/ok")
    assert (await caller.reply()).status == 200
    assert a.opened == 1


async def test_a_body_that_comes_while_the_spool_is_read_keeps_its_order(rig: Rig) -> None:
    """The worker takes nothing at first, so the spool empties slowly and the client goes on behind it."""
    await rig.listen(Limits(buffer_bytes=1_000))
    body = bytes(range(251)) * 50_000
    caller = await rig.caller()
    caller.request("POST", "/v1/sketch/body", f"Content-Length: {len(body)}")
    half = len(body) // 2
    await send_all(caller, body[:half])
    await until(lambda: rig.gateway.hub.disk.left <= (1 << 30) - half + 1_000_000)
    sending = asyncio.ensure_future(send_all(caller, body[half:]))
    await rig.workers("a")
    assert (await caller.reply()).body == body
    await sending


async def test_a_full_disk_holds_the_client_and_loses_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.listen(Limits(buffer_bytes=1_000))
    real, room = os.pwrite, 1_000_000

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        if offset + len(data) <= room:
            return real(fd, data, offset)
        if offset >= room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data[: room - offset], offset)

    monkeypatch.setattr("orchestrator.gateway.spool.os.pwrite", pwrite)
    body = bytes(range(251)) * 50_000
    caller = await rig.caller()
    caller.request("POST", "/v1/sketch/body", f"Content-Length: {len(body)}")
    sending = asyncio.ensure_future(send_all(caller, body))
    client = await rig.client()
    await until(lambda: not client.transport.is_reading(), what="the client to be held")
    await rig.workers("a")
    assert (await caller.reply()).body == body
    await sending


async def test_a_spool_that_cannot_be_read_fails_the_request_and_nothing_else(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.listen(Limits(buffer_bytes=1_000))
    monkeypatch.setattr("orchestrator.gateway.spool.os.pread", lambda *_args: b"")
    caller = await rig.caller()
    caller.request("POST", "/v1/sketch/body", "Content-Length: 500000")
    caller.send(b"x" * 500_000)
    await until(lambda: rig.gateway.hub.disk.left <= (1 << 30) - 300_000)
    (a,) = await rig.workers("a")
    reply = await caller.reply()
    assert (reply.status, reply.code) == (500, "spool_lost")
    await until(lambda: a.open == 0)
    assert rig.gateway.hub.disk.left == 1 << 30


async def test_a_spooled_request_whose_worker_is_dead_is_not_lost(rig: Rig) -> None:
    """Nothing of it was sent, so all of it is still here."""
    body = bytes(range(251)) * 20_000
    caller = await rig.caller()
    caller.request("POST", "/v1/sketch/body", f"Content-Length: {len(body)}")
    await send_all(caller, body)
    await until(lambda: rig.gateway.hub.disk.left < 1 << 30)
    rig.lane.set_ring([Slot("id-dead", "dead", "127.0.0.1", free_port(), 1, rig.now())])
    await until(lambda: rig.lane.queued == 1 and next(iter(rig.lane.slots.values())).suspect)
    await rig.workers("a")
    assert (await caller.reply()).body == body


async def send_all(caller: Caller, body: bytes) -> None:
    for at in range(0, len(body), 65_536):
        caller.send(body[at : at + 65_536])
        await caller.writer.drain()


async def test_a_small_body_that_came_while_waiting_goes_out_at_once(rig: Rig) -> None:
    (caller,) = await queued(rig, 1)
    (a,) = await rig.workers("a")
    assert (await caller.reply()).json()["body"] == "0"
    assert a.seen[0].get("content-length") == "1"


async def test_queue_timeout(rig: Rig) -> None:
    rig.route.queue_timeout_s = 0.05
    reply = await rig.call("POST", "/v1/sketch", body=b"{}")
    assert (reply.status, reply.code, reply.get("retry-after")) == (504, "queue_timeout", "10")
    assert rig.lane.queued == 0
    assert rig.route.meter.failed_total == 1


async def test_a_lane_that_closes_refuses_its_waiters(rig: Rig) -> None:
    callers = await queued(rig, 3)
    rig.lane.close(Closed(402, "credit", "Add credit.", retry_after_s=60), evict=True)
    for caller in callers:
        reply = await caller.reply()
        assert (reply.status, reply.code, reply.get("retry-after")) == (402, "credit", "60")
        caller.request("GET", "/healthz")
        assert (await caller.reply()).status == 200


async def test_a_lane_that_closes_without_eviction_serves_those_who_wait(rig: Rig) -> None:
    callers = await queued(rig, 3)
    rig.lane.close(Closed(503, "draining", "Updating."), evict=False)
    await rig.workers("a")
    for caller in callers:
        assert (await caller.reply()).status == 200


async def test_a_client_that_leaves_the_queue_frees_its_place_and_touches_no_worker(rig: Rig) -> None:
    callers = await queued(rig, 3)
    callers[1].close()
    await until(lambda: rig.lane.queued == 2)
    (a,) = await rig.workers("a")
    assert (await callers[0].reply()).json()["target"] == "/echo?0"
    assert (await callers[2].reply()).json()["target"] == "/echo?2"
    assert len(a.seen) == 2
    assert rig.route.meter.failed_total == 0


async def test_a_held_client_that_leaves_the_queue_is_noticed(rig: Rig) -> None:
    """Its bytes are not being read, so only the sweep can see it go."""
    await rig.listen(Limits(buffer_bytes=1_000, spool_bytes=0))
    caller = await rig.caller()
    caller.request("POST", "/v1/sketch", "Content-Length: 50000")
    caller.send(b"x" * 2_000)
    client = await rig.client()
    await until(lambda: not client.transport.is_reading())
    caller.send(b"x" * 1_000)
    assert rig.lane.queued == 1
    caller.close()
    await until(lambda: rig.lane.queued == 0)


async def test_a_client_that_leaves_in_a_large_upload_is_noticed(rig: Rig) -> None:
    """Its end comes after what it has sent: as much as the sockets of both ends hold, if nobody read it."""
    caller = await rig.caller()
    caller.request("POST", "/v1/sketch", f"Content-Length: {200 * MIB}")
    caller.send(b"x" * (64 * MIB))
    await until(lambda: rig.lane.queued == 1)
    caller.close()  # an end in good order: what is in the kernel's hands is still to be sent
    await until(lambda: rig.lane.queued == 0, what="the client's end to be seen")
    assert rig.gateway.hub.disk.left == 1 << 30


async def test_what_waiting_requests_take_of_the_disk_is_bounded(rig: Rig) -> None:
    await rig.listen(Limits(buffer_bytes=1_000, spool_bytes=3 * MIB))
    callers = [await rig.caller() for _ in range(6)]
    for caller in callers:
        caller.request("POST", "/v1/sketch", f"Content-Length: {200 * MIB}")
        caller.send(b"x" * (16 * MIB))
    await until(lambda: not any(client.transport.is_reading() for client in rig.gateway.clients))
    assert rig.lane.queued == 6
    assert 0 <= rig.gateway.hub.disk.left < MIB
    for caller in callers:
        reset_on_close(caller.writer.transport)
        caller.close()
    await until(lambda: rig.lane.queued == 0)
    assert rig.gateway.hub.disk.left == 3 * MIB


async def test_a_request_whose_worker_is_dead_keeps_its_place(rig: Rig) -> None:
    callers = await queued(rig, 3)
    (a,) = [await Upstream("a").start()]
    rig.upstreams.append(a)
    dead = Slot("id-dead", "dead", "127.0.0.1", free_port(), 1, rig.now())
    rig.lane.set_ring([dead])
    await until(lambda: dead.suspect and rig.lane.queued == 3)
    rig.lane.set_ring([dead, rig.slot(a)])
    for caller in callers:
        assert (await caller.reply()).status == 200
    assert [s.target for s in a.seen] == ["/echo?0", "/echo?1", "/echo?2"]


async def test_a_worker_that_leaves_the_ring_finishes_its_request(rig: Rig) -> None:
    (a,) = await rig.workers("a")
    caller = await rig.caller()
    caller.request("GET", "/v1/sketch/slow")
    await until(lambda: a.seen)
    b = await Upstream("b").start()
    rig.upstreams.append(b)
    rig.lane.set_ring([rig.slot(b)])
    assert (await rig.call("GET", "/v1/sketch/ok")).get("x-upstream") == "b"
    a.gate.set()
    assert (await caller.reply()).get("x-upstream") == "a"
    await until(lambda: a.open == 0, what="idle connections to a worker that left to be closed")


async def test_idle_connections_to_workers_are_closed_in_time(rig: Rig) -> None:
    await rig.listen(Limits(worker_idle_s=0.05))
    (a,) = await rig.workers("a")
    await rig.call("GET", "/v1/sketch/ok")
    await until(lambda: a.open == 0)
    assert (await rig.call("GET", "/v1/sketch/ok")).status == 200


async def test_endpoints_share_nothing(rig: Rig) -> None:
    other = rig.add_route("other")
    (b,) = await rig.workers("b", lane=other.lane)
    await queued(rig, 5)
    assert (await rig.call("POST", "/v1/other")).status == 200
    assert (other.lane.queued, rig.lane.queued, len(b.seen)) == (0, 5, 1)
    assert (other.meter.served_total, rig.route.meter.served_total) == (1, 0)
