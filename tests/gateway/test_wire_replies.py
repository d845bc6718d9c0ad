"""The tables of replies, over real sockets: what the client gets is read by h11 as the tables say, one reply to one
request, and a body that has no good end at the worker has none at the client."""

from __future__ import annotations

import pytest

from tests.gateway.recorder import OK, Scripted, read_reply
from tests.gateway.rig import Caller, Rig
from tests.gateway.worker_replies import BROKEN, CUT, PASSED
from tests.waiting import until

ONE_LOOP = pytest.mark.asyncio(loop_factories=["uvloop"])


async def scripted(rig: Rig, script: str, *, ends: bool) -> tuple[Scripted, Scripted]:
    """A worker that says this, and another one that must not be asked instead."""
    workers = Scripted("a", script.encode("latin-1"), ends=ends), Scripted("b", b"", ends=False)
    for worker in workers:
        await worker.start()
        rig.upstreams.append(worker)
    rig.lane.set_ring([rig.slot(worker) for worker in workers])
    return workers


async def everything(caller: Caller) -> tuple[bytes, bool]:
    """All bytes up to the end of the connection, and whether that was in good order."""
    data = b""
    try:
        while piece := await caller.reader.read(65_536):
            data += piece
    except ConnectionResetError:
        return data, False
    return data, True


async def ask(rig: Rig, method: str = "GET", *, minor: int = 1) -> tuple[bytes, bool]:
    caller = await rig.caller()
    caller.send(f"{method} /v1/sketch/t HTTP/1.{minor}\r\nHost: localhost\r\nx-api-key: gd_k1_owner\r\n")
    caller.send("Connection: close\r\n\r\n")
    return await everything(caller)


@ONE_LOOP
@pytest.mark.parametrize("minor", [1, 0])
@pytest.mark.parametrize("name", PASSED)
async def test_passed(rig: Rig, name: str, minor: int) -> None:
    case = PASSED[name]
    a, _ = await scripted(rig, case.script, ends=case.ends)
    data, ended = await ask(rig, case.method, minor=minor)
    assert ended
    interim, reply, rest = read_reply(data, method=case.method, ended=True)
    assert reply is not None
    assert (reply.complete, reply.start, reply.body) == (True, b"%d" % case.status, case.body.encode())
    assert reply.strict
    assert (tuple(interim), rest) == (case.interim if minor else (), b"")
    for field, value in case.has:
        if minor or field != "transfer-encoding":
            assert b"|".join(reply.get(field)) == value.encode("latin-1"), field
    for field in case.lacks:
        assert reply.get(field) in ([], [b"close"]), field
    if not minor:
        assert reply.get("transfer-encoding") == []
    await until(rig.idle)
    assert rig.route.meter.failed_total == int(case.status >= 500)
    for _ in range(2):  # its turn comes again after the other worker's
        again, _ = await ask(rig)
        _, reply, rest = read_reply(again, ended=True)
        assert reply is not None
        assert (reply.body, rest) == (OK[-2:], b""), "no byte of the first reply is taken for another"
    assert a.opened == (1 if case.kept else 2)


@ONE_LOOP
@pytest.mark.parametrize("name", BROKEN)
async def test_broken(rig: Rig, name: str) -> None:
    ends = "nothing of its end" in name
    a, b = await scripted(rig, BROKEN[name], ends=ends)
    data, ended = await ask(rig, "POST")
    assert ended
    interim, reply, rest = read_reply(data, method="POST", ended=True)
    assert reply is not None
    assert (reply.start, reply.get("content-type"), rest) == (b"502", [b"application/problem+json"], b"")
    assert set(interim) <= {103}
    await until(lambda: a.open == 0, what="the connection to be dropped")
    assert b.opened == 0
    assert rig.route.meter.failed_total == 1


@ONE_LOOP
@pytest.mark.parametrize("minor", [1, 0])
@pytest.mark.parametrize("name", CUT)
async def test_cut(rig: Rig, name: str, minor: int) -> None:
    script, most = CUT[name]
    a, _ = await scripted(rig, script, ends=True)
    data, ended = await ask(rig, minor=minor)
    assert not ended, "an end in good order is a whole body, to a client that knows no length"
    _, reply, _ = read_reply(data, ended=False)
    assert reply is None or not reply.complete
    assert reply is None or most.encode().startswith(reply.body)
    await until(lambda: a.open == 0)
    assert rig.route.meter.failed_total == 1


@ONE_LOOP
@pytest.mark.parametrize("name", ["chunks", "hints", "204 with a body", "more than announced"])
async def test_passed_in_single_bytes(rig: Rig, name: str) -> None:
    """However the worker's bytes are cut, the client reads the same."""
    case = PASSED[name]
    a, _ = await scripted(rig, case.script, ends=False)
    a.dribbles = True
    data, _ = await ask(rig)
    interim, reply, _ = read_reply(data, ended=True)
    assert reply is not None
    assert (tuple(interim), reply.body, reply.complete) == (case.interim, case.body.encode(), True)
