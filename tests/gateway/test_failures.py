"""Workers that refuse, die, lie or take too long."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.core.lane import Slot
from tests.gateway.rig import Caller, Rig
from tests.ports import free_port
from tests.waiting import until


async def with_a_dead_worker_first(rig: Rig) -> Slot:
    """Ring: one that refuses connections, then `b`."""
    await rig.workers("b")
    dead = Slot("id-dead", "dead", "127.0.0.1", free_port(), 1, rig.now())
    rig.lane.set_ring([dead, *rig.lane.slots.values()])
    # The cursor names b as served last only after it has served: begin with the dead one.
    return dead


async def test_a_refused_connection_may_always_be_tried_elsewhere(rig: Rig) -> None:
    dead = await with_a_dead_worker_first(rig)
    caller = await rig.caller()
    for _ in range(2):
        caller.request("POST", "/v1/sketch", body=b"{}")
        reply = await caller.reply()
        assert (reply.status, reply.get("x-worker-id")) == (200, "id-b")
    assert (dead.suspect, dead.in_flight, dead.served) == (True, 0, 0)
    assert (rig.route.meter.served_total, rig.route.meter.failed_total) == (2, 0)


async def test_a_body_still_coming_survives_a_refused_connection(rig: Rig) -> None:
    await with_a_dead_worker_first(rig)
    caller = await rig.caller()
    caller.request("POST", "/v1/sketch/body", "Content-Length: 6")
    caller.send("abc")
    await until(lambda: rig.upstreams[0].seen)
    caller.send("def")
    assert (await caller.reply()).body == b"abcdef"


async def test_the_only_worker_refuses_and_the_request_waits_for_its_successor(rig: Rig) -> None:
    rig.lane.set_ring([Slot("id-dead", "dead", "127.0.0.1", free_port(), 1, rig.now())])
    caller = await rig.caller()
    caller.request("POST", "/v1/sketch", body=b"{}")
    await until(lambda: rig.lane.queued == 1)
    await rig.workers("b")
    assert (await caller.reply()).status == 200


async def test_two_refusals_are_502(rig: Rig) -> None:
    slots = [Slot(f"id-{n}", f"w{n}", "127.0.0.1", free_port(), 1, rig.now()) for n in range(3)]
    rig.lane.set_ring(slots)
    reply = await rig.call("GET", "/v1/sketch/ok")
    assert (reply.status, reply.code) == (502, "worker_unreachable")
    assert [slot.suspect for slot in slots] == [True, True, False]
    assert rig.route.meter.failed_total == 1


@pytest.mark.parametrize(
    ("method", "lines", "body", "status"),
    [
        ("GET", (), b"", 200),
        ("PUT", (), b"x" * 1_000, 200),
        ("POST", ("Idempotency-Key: 1",), b"{}", 200),
        ("POST", (), b"{}", 502),
        ("PATCH", (), b"", 502),
        ("PUT", (), b"x" * (1024**2 + 1), 502),
    ],
)
@pytest.mark.parametrize("how", ["die", "half-head"])
async def test_death_before_the_reply_is_repeated_only_when_that_is_safe(
    rig: Rig, how: str, method: str, lines: tuple[str, ...], body: bytes, status: int
) -> None:
    a, b = await rig.workers("a", "b")
    b.reply_die = b.reply_half_head = b.reply_ok  # type: ignore[method-assign]
    reply = await rig.call(method, f"/v1/sketch/{how}", *lines, body=body)
    assert reply.status == status
    slot_a, slot_b = rig.lane.slots.values()
    assert (slot_a.suspect, slot_b.suspect) == (True, False)
    if status == 200:
        assert reply.get("x-worker-id") == "id-b"
        assert b.seen[0].body == body
    else:
        assert reply.code == "worker_lost"
        assert b.seen == []
    assert len(a.seen) == 1
    assert rig.route.meter.failed_total == (status != 200)


async def test_death_of_the_second_worker_too_is_502(rig: Rig) -> None:
    workers = await rig.workers("a", "b", "c")
    assert (await rig.call("GET", "/v1/sketch/die")).status == 502
    assert [len(w.seen) for w in workers] == [1, 1, 0]


async def test_a_kept_connection_that_ran_out_is_replaced_without_blame(rig: Rig) -> None:
    """The worker closes it while the request is on its way. Same worker, new connection, nobody is suspected."""
    (a,) = await rig.workers("a")
    await rig.call("GET", "/v1/sketch/ok")
    real = a.reply_ok
    first = True

    async def once_dead(*args: object) -> bool:
        nonlocal first
        if first:
            first = False
            return False
        return await real(*args)  # type: ignore[arg-type]

    a.reply_ok = once_dead  # type: ignore[method-assign, assignment]
    reply = await rig.call("GET", "/v1/sketch/ok")
    assert (reply.status, a.opened, len(a.seen)) == (200, 2, 3)
    assert not next(iter(rig.lane.slots.values())).suspect


async def test_a_connection_the_worker_closed_while_idle_is_not_used(rig: Rig) -> None:
    (a,) = await rig.workers("a")
    await rig.call("GET", "/v1/sketch/ok")
    port = a.port
    await a.stop()
    await until(lambda: rig.gateway.worker_connections == 0)
    await a.start(port)
    reply = await rig.call("POST", "/v1/sketch", body=b"{}")
    assert (reply.status, len(a.seen)) == (200, 2)


@pytest.mark.parametrize("how", ["half", "half-chunked", "lies-chunk"])
async def test_death_in_the_body_cuts_the_client(rig: Rig, how: str) -> None:
    await rig.workers("a")
    caller = await rig.caller()
    caller.request("GET", f"/v1/sketch/{how}")
    head = await caller.head()
    assert head.status == 200
    rest = b""
    try:
        while piece := await caller.reader.read(65_536):
            rest += piece
    except ConnectionResetError:
        pass
    else:
        pytest.fail("the connection ended in good order")
    assert not rest.endswith(b"0\r\n\r\n")
    await until(rig.idle)
    assert (rig.route.meter.served_total, rig.route.meter.failed_total) == (0, 1)


async def test_an_http_1_0_client_gets_a_reset_and_not_an_end(rig: Rig) -> None:
    """There the end of the connection is the end of the body: only a reset says that it is not."""
    await rig.workers("a")
    caller = await rig.caller()
    caller.send("GET /v1/sketch/half-chunked HTTP/1.0\r\nx-api-key: gd_k1_owner\r\n\r\n")
    await caller.head()
    with pytest.raises(ConnectionResetError):
        await caller.reader.read()


async def test_more_bytes_than_announced_never_become_another_reply(rig: Rig) -> None:
    (a,) = await rig.workers("a")
    caller = await rig.caller()
    caller.request("GET", "/v1/sketch/lies-long")
    assert (await caller.reply()).body == b"ok"
    caller.request("GET", "/v1/sketch/ok")
    assert len((await caller.reply()).body) == 200
    assert a.opened == 2


async def test_bytes_on_an_idle_connection_never_become_a_reply(rig: Rig) -> None:
    (a,) = await rig.workers("a")
    caller = await rig.caller()
    caller.request("GET", "/v1/sketch/lies-late")
    assert len((await caller.reply()).body) == 200
    assert rig.gateway.worker_connections == 1
    a.gate.set()
    await until(lambda: rig.gateway.worker_connections == 0)
    caller.request("GET", "/v1/sketch/ok")
    assert len((await caller.reply()).body) == 200


async def test_a_workers_5xx_is_passed_on_and_counted(rig: Rig) -> None:
    await rig.workers("a")
    reply = await rig.call("POST", "/v1/sketch/failing")
    assert (reply.status, reply.body) == (500, b"oops")
    assert (rig.route.meter.served_total, rig.route.meter.failed_total) == (0, 1)


@pytest.mark.parametrize("cancels", [False, True])
async def test_execution_timeout_before_the_reply(rig: Rig, cancels: bool) -> None:
    (a,) = await rig.workers("a")
    rig.route.cancels = cancels
    caller = await rig.caller()
    caller.request("POST", "/v1/sketch/slow", body=b"{}")
    await until(lambda: a.seen)
    await rig.skip(rig.route.execution_timeout_s)
    reply = await caller.reply()
    assert (reply.status, reply.code) == (504, "execution_timeout")
    slot = next(iter(rig.lane.slots.values()))
    assert (slot.recycle, slot.in_flight) == (not cancels, 0)
    await until(lambda: a.hung_up == 1, what="the worker to see its connection end")
    caller.request("GET", "/healthz")
    assert (await caller.reply()).status == 200
    assert rig.route.meter.failed_total == 1


async def test_execution_timeout_in_the_reply_cuts_the_client(rig: Rig) -> None:
    (a,) = await rig.workers("a")
    caller = await rig.caller()
    caller.request("GET", "/v1/sketch/sse")
    await caller.head()
    a.step.release()
    await caller.chunk()
    await rig.skip(rig.route.execution_timeout_s)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await caller.chunk()
    await until(lambda: a.hung_up == 1)


async def test_execution_timeout_does_not_hand_the_worker_to_the_next_waiter(rig: Rig) -> None:
    (a,) = await rig.workers("a")
    rig.route.queue_timeout_s = 2 * rig.route.execution_timeout_s
    first, second = await rig.caller(), await rig.caller()
    first.request("GET", "/v1/sketch/slow")
    await until(lambda: a.seen)
    second.request("GET", "/v1/sketch/ok")
    await until(lambda: rig.lane.queued == 1)
    await rig.skip(rig.route.execution_timeout_s)
    assert (await first.reply()).status == 504
    assert (rig.lane.queued, len(a.seen)) == (1, 1)


@pytest.mark.parametrize("target", ["slow", "sse"])
async def test_a_client_that_leaves_closes_the_worker_connection(rig: Rig, target: str) -> None:
    (a,) = await rig.workers("a")
    caller = await rig.caller()
    caller.request("GET", f"/v1/sketch/{target}")
    await until(lambda: a.seen)
    caller.close()
    await until(lambda: a.hung_up == 1)
    assert rig.idle()
    assert (rig.route.meter.served_total, rig.route.meter.failed_total) == (1, 0)


async def test_a_client_that_leaves_in_its_upload(rig: Rig) -> None:
    (a,) = await rig.workers("a")
    caller = await rig.caller()
    caller.request("POST", "/v1/sketch/body", "Content-Length: 1000000")
    caller.send(b"x" * 10_000)
    await until(lambda: a.seen)
    caller.close()
    await until(lambda: a.open == 0)
    assert not a.seen[0].complete
    assert rig.idle()


async def test_a_worker_that_answers_before_the_body_is_complete(rig: Rig) -> None:
    """413 from the model, for instance: the client gets it, the half-used connection to the worker is not kept."""
    (a,) = await rig.workers("a")

    async def at_once(_seen: object, _r: object, w: asyncio.StreamWriter) -> bool:
        w.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
        await a.gate.wait()
        return False

    a.reply_deaf = at_once  # type: ignore[method-assign, assignment]
    caller: Caller = await rig.caller()
    caller.request("POST", "/v1/sketch/deaf", "Content-Length: 1000000")
    caller.send(b"x" * 10_000)
    assert (await caller.reply()).status == 413
    await until(rig.idle)
    assert rig.gateway.worker_connections == 0
