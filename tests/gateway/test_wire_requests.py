"""The tables of requests, over real sockets: what is refused reaches no worker, and of what is taken every byte that a
worker gets is read by h11 as the table says, and as h11 reads what the client sent."""

from __future__ import annotations

import asyncio

import h11
import pytest

from tests.gateway.recorder import Read, Recorder, read_requests
from tests.gateway.refused_requests import CASES, STAYS_OPEN
from tests.gateway.rig import PATIENCE_S, Reply, Rig
from tests.gateway.taken_requests import TAKEN, Taken
from tests.waiting import until

ONE_LOOP = pytest.mark.asyncio(loop_factories=["uvloop"])
"""What the bytes mean does not depend on the event loop; that both deliver them is tested elsewhere."""
UNDER_WAY = "bad_chunk"
"""Can be found only after the request has begun."""


async def recorded(rig: Rig) -> Recorder:
    recorder = Recorder("a")
    await recorder.start()
    rig.upstreams.append(recorder)
    rig.lane.set_ring([rig.slot(recorder, concurrency=8)])
    return recorder


@ONE_LOOP
@pytest.mark.parametrize("name", CASES)
async def test_refused(rig: Rig, name: str) -> None:
    data, status, code = CASES[name]
    recorder = await recorded(rig)
    caller = await rig.caller()
    caller.send(data)
    reply = await caller.reply()
    assert (reply.status, reply.code) == (status, code)
    if code not in STAYS_OPEN:
        assert ("connection", "close") in reply.fields
        assert await caller.closed() == b"", "nothing after it is taken for a request"
    if code == UNDER_WAY:
        await until(lambda: recorder.open == 0)
        assert not any(request.complete for request in recorder.requests())
    else:
        assert recorder.opened == 0


@ONE_LOOP
@pytest.mark.parametrize("name", ["bad_field: folded line", "host_missing: no host", "bad_chunk: bare LF after chunk"])
async def test_refused_byte_by_byte(rig: Rig, name: str) -> None:
    data, status, code = CASES[name]
    await recorded(rig)
    caller = await rig.caller()
    for byte in data:
        caller.send(byte)
        await asyncio.sleep(0)
    reply = await caller.reply()
    assert (reply.status, reply.code) == (status, code)


@ONE_LOOP
@pytest.mark.parametrize("name", TAKEN)
async def test_taken(rig: Rig, name: str) -> None:
    case = TAKEN[name]
    recorder = await recorded(rig)
    caller = await rig.caller()
    caller.send(case.data)
    replies = [await caller.reply(head_only=name == "HEAD") for _ in case.statuses]
    assert tuple(reply.status for reply in replies) == case.statuses
    check_workers_view(case, recorder)
    check_clients_view(case, recorder)
    assert await nothing_more(caller, replies[-1])


@ONE_LOOP
@pytest.mark.parametrize("name", ["pipelined with bodies", "extensions go no further", "an empty line between"])
async def test_taken_byte_by_byte(rig: Rig, name: str) -> None:
    case = TAKEN[name]
    recorder = await recorded(rig)
    caller = await rig.caller()
    for byte in case.data:
        caller.send(byte)
        await asyncio.sleep(0)
    assert tuple([(await caller.reply()).status for _ in case.statuses]) == case.statuses
    check_workers_view(case, recorder)


def check_workers_view(case: Taken, recorder: Recorder) -> None:
    seen = recorder.requests()
    assert [(request.start, request.body) for request in seen] == [(a.encode(), b.encode()) for a, b in case.seen]
    assert all(request.complete and request.strict and not request.trailers for request in seen)
    for raw in recorder.raw:
        assert raw.count(b" HTTP/1.1\r\nhost: 127.0.0.1:") >= len(read_requests(raw)), "always HTTP/1.1, our own Host"
    for name, value in case.has.items():
        got = b"|".join(seen[0].get(name)).decode("latin-1")
        assert got == value or (name == "host" and got.startswith(value)), f"{name}: {got}"
    for name in case.lacks:
        assert seen[0].get(name) == [], name


def check_clients_view(case: Taken, recorder: Recorder) -> None:
    """h11 reads the same bodies, in the same order, in what the client sent."""
    try:
        sent = [request for request in read_requests(case.data.encode("latin-1")) if is_for_worker(request)]
    except h11.RemoteProtocolError:
        return  # it is stricter in something: then the worker's view above is all there is to compare
    seen = recorder.requests()
    assert [request.body for request in sent][: len(seen)] == [request.body for request in seen]
    assert [method(request) for request in sent][: len(seen)] == [method(request) for request in seen]


def is_for_worker(request: Read) -> bool:
    return b"/v1/sketch" in request.start


def method(request: Read) -> bytes:
    return request.start.partition(b" ")[0]


async def nothing_more(caller, last: Reply) -> bool:
    """No second answer comes to what was one request: an end, or silence until the next request is answered."""
    if last.get("connection") == "close":
        return await caller.closed() == b""
    caller.send("OPTIONS * HTTP/1.1\r\nHost: localhost\r\nx-request-id: last\r\nConnection: close\r\n\r\n")
    async with asyncio.timeout(PATIENCE_S):
        rest = await caller.reader.read()
    return rest.startswith(b"HTTP/1.1 200 OK\r\nallow: GET") and rest.endswith(b"x-request-id: last\r\n\r\n")


def test_the_tables_are_large_enough_and_the_second_reader_agrees_with_most() -> None:
    """h11 reads nearly all that is taken: where it does not, it is stricter, and named here."""
    assert len(CASES) + len(TAKEN) >= 200
    stricter = []
    for name, case in TAKEN.items():
        try:
            read_requests(case.data.encode("latin-1"))
        except h11.RemoteProtocolError:
            stricter.append(name)
    assert sorted(stricter) == ["a second request that is none", "an empty line between", "an empty line first"]
