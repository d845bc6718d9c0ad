"""What is remembered of heads saves work and decides nothing: whoever repeats a head is judged anew."""

from __future__ import annotations

import hashlib

import pytest

from orchestrator.clock import system_now
from orchestrator.core.routing import RoutingTable
from orchestrator.gateway import wire
from orchestrator.gateway.answers import Refusal
from orchestrator.gateway.head import scan_reply
from orchestrator.gateway.hub import Hub
from orchestrator.gateway.limits import Access, Limits
from tests.gateway.rig import KEY, OTHER_KEY, Rig
from tests.waiting import until


async def test_a_key_that_is_revoked_between_two_equal_requests_is_refused(rig: Rig) -> None:
    await rig.workers("a")
    caller = await rig.caller()
    for _ in range(2):
        caller.request("GET", "/v1/sketch/ok")
        assert (await caller.reply()).status == 200
    rig.table.keys.pop(hashlib.sha256(KEY.encode()).digest())
    caller.request("GET", "/v1/sketch/ok")
    reply = await caller.reply()
    assert (reply.status, reply.code) == (401, "key_invalid")


@pytest.mark.parametrize("rounds", [0, 10])
async def test_nobody_gets_the_key_of_another_who_shares_the_connection(rig: Rig, rounds: int) -> None:
    """Proxies in front send requests of many callers over one connection. A head too long to be remembered comes in
    between, or heads differ too often for another pattern to be made."""
    (worker,) = await rig.workers("a")
    caller = await rig.caller()

    async def call(key: str, number: int, *lines: str) -> int:
        caller.request("GET", "/v1/sketch/ok", f"x-request-id: id-{number}", *lines, key=key)
        return (await caller.reply()).status

    assert [await call(OTHER_KEY, number) for number in (1, 2, 3)] == [403] * 3
    for number in range(rounds):
        assert await call(KEY, number) == 200
        assert await call(OTHER_KEY, number) == 403
    assert await call(KEY, 4, f"x-long: {'x' * 2_000}") == 200
    assert await call(KEY, 5) == 200
    assert await call(OTHER_KEY, 6) == 403
    assert len(worker.seen) == 2 + rounds


async def test_an_endpoint_that_is_removed_or_changed_between_two_equal_requests_is_looked_up_anew(rig: Rig) -> None:
    (a,) = await rig.workers("a")
    caller = await rig.caller()
    for path in ("/echo", "/body"):
        rig.route.predict_path = path
        caller.request("POST", "/v1/sketch", body=b"x")
        assert (await caller.reply()).status == 200
    assert [seen.target for seen in a.seen] == ["/echo", "/body"]
    del rig.table.routes["sketch"]
    caller.request("POST", "/v1/sketch", body=b"x")
    reply = await caller.reply()
    rig.table.routes["sketch"] = rig.route
    assert (reply.status, reply.code) == (404, "no_such_endpoint")


async def test_equal_heads_with_other_bodies_and_other_heads_with_equal_beginnings(rig: Rig) -> None:
    (a,) = await rig.workers("a")
    caller = await rig.caller()
    for body in (b"one", b"two", b"six"):
        caller.request("POST", "/v1/sketch/body", body=body)
        assert (await caller.reply()).body == body
    # In one write, the first of them equal to the last head: three requests, not one and a strange body.
    head = f"POST /v1/sketch/body HTTP/1.1\r\nHost: localhost\r\nx-api-key: {KEY}\r\nContent-Length: 3\r\n\r\n"
    longer = head.replace("Length: 3", "Length: 30").replace("POST", "PUT")
    caller.send(head + "abc" + longer + "d" * 30 + head + "efg")
    assert [(await caller.reply()).body for _ in range(3)] == [b"abc", b"d" * 30, b"efg"]
    assert [seen.method for seen in a.seen] == ["POST"] * 4 + ["PUT", "POST"]


async def test_an_equal_head_that_comes_byte_by_byte_is_waited_for(rig: Rig) -> None:
    await rig.workers("a")
    caller = await rig.caller()
    head = f"GET /v1/sketch/ok HTTP/1.1\r\nHost: localhost\r\nx-api-key: {KEY}\r\n\r\n"
    for pieces in ([head], [head[:-1], head[-1:]], [head[:20], head[20:]]):
        for piece in pieces:
            caller.send(piece)
            await caller.writer.drain()
        assert (await caller.reply()).status == 200


async def test_a_refused_head_is_refused_again(rig: Rig) -> None:
    caller = await rig.caller()
    for _ in range(3):
        caller.request("GET", "/v1/sketch/ok", "Origin: https://elsewhere.example")
        reply = await caller.reply()
        assert (reply.status, reply.code) == (403, "origin_refused")


async def test_a_request_keeps_the_execution_timeout_it_began_with(rig: Rig) -> None:
    (a,) = await rig.workers("a")
    caller = await rig.caller()
    caller.request("GET", "/v1/sketch/slow")
    await until(lambda: len(a.seen) == 1)
    rig.route.execution_timeout_s = 1
    await rig.skip(2)
    a.gate.set()
    assert (await caller.reply()).status == 200


def test_one_reply_head_is_one_object_and_still_counts_its_fields() -> None:
    head = b"HTTP/1.1 200 OK\r\nx-a: 1\r\nx-b: 2\r\ncontent-length: 5"
    assert scan_reply(head, 3) is not scan_reply(head, 3)
    assert scan_reply(head, 3) is scan_reply(head, 100)
    with pytest.raises(Refusal) as refused:
        scan_reply(head, 2)
    assert refused.value.status == 502
    assert scan_reply(head + b"0", 3).content_length == 50


def test_a_broken_reply_head_stays_broken_and_a_long_one_is_not_kept() -> None:
    for _ in range(2):
        with pytest.raises(Refusal):
            scan_reply(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6", 100)
    long = b"HTTP/1.1 200 OK\r\nx-a: " + b"1" * 2_000
    first, second, third = (scan_reply(long, 100) for _ in range(3))
    assert first is not second
    assert second is not third


@pytest.mark.parametrize(
    ("worker_ns", "shown"),
    [(0, b"0.0"), (99_999, b"0.0"), (1_250_000, b"1.2"), (99_900_000, b"99.9"), (100_000_000, b"100.0"),
     (61_234_567_890, b"61234.6")],
)  # fmt: skip
def test_a_duration_is_written_in_tenths_of_milliseconds(worker_ns: int, shown: bytes) -> None:
    reply = scan_reply(b"HTTP/1.1 200 OK\r\ncontent-length: 2", 100)
    waited = wire.waited_lines("w-1", 7_900_000, cold=True)
    head = wire.reply_head(
        reply, chunked=False, connection=b"", request_id=b"id", waited=waited, worker_ns=worker_ns, balance=b"1.00",
        body=b"ok",
    )  # fmt: skip
    assert head == (
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-request-id: id\r\nx-worker-id: w-1\r\nx-queue-ms: 7\r\n"
        b"x-cold-start: true\r\nserver-timing: queue;dur=7, worker;dur=%b\r\nx-remaining-credits: 1.00\r\n\r\nok"
        % shown
    )


def test_request_ids_are_hexadecimal_and_never_repeat() -> None:
    hub = Hub(RoutingTable(), system_now(), Limits(), Access())
    ids = [hub.next_id() for _ in range(70_000)]
    assert len(set(ids)) == len(ids)
    assert {len(number) for number in ids} == {16}
    assert [int(number, 16) for number in ids] == list(range(int(ids[0], 16), int(ids[0], 16) + len(ids)))
