"""Requests that come while the state of an earlier life is being read: held, not failed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.gateway.rig import KEY, Caller, Rig
from tests.waiting import until


async def held(rig: Rig, send: Callable[[Caller], None]) -> Caller:
    """A caller whose request waits for the end of the restoration."""
    rig.table.restoring = True
    caller = await rig.caller()
    send(caller)
    await until(lambda: any(client.request is not None for client in rig.gateway.clients), what="the request to wait")
    return caller


@pytest.mark.parametrize("size", [0, 3, 300_000, 3_000_000])
async def test_it_is_served_once_everything_is_known(rig: Rig, size: int) -> None:
    (worker,) = await rig.workers("a")
    body = b"x" * size
    caller = await held(rig, lambda c: c.request("POST", "/v1/sketch/body", body=body))
    assert worker.seen == []
    rig.table.restoring = False
    assert (await caller.reply()).body == body
    caller.request("GET", "/v1/sketch/x")
    assert (await caller.reply()).status == 200, "the connection goes on"


async def test_a_chunked_body_and_a_client_that_expects(rig: Rig) -> None:
    (worker,) = await rig.workers("a")
    head = f"POST /v1/sketch/body HTTP/1.1\r\nHost: localhost\r\nx-api-key: {KEY}\r\nTransfer-Encoding: chunked\r\n"
    caller = await held(rig, lambda c: c.send(head + "Expect: 100-continue\r\n\r\n"))
    rig.table.restoring = False
    assert (await caller.head()).status == 100
    caller.send("3\r\nabc\r\n0\r\n\r\n")
    assert (await caller.reply()).status == 200
    assert worker.seen[0].body == b"abc"


@pytest.mark.parametrize("key", ["nobody", None])
async def test_nobody_is_told_that_a_key_is_wrong_before_it_is_known(rig: Rig, key: str | None) -> None:
    caller = await held(rig, lambda c: c.request("POST", "/v1/sketch", body=b"abc", key=key))
    assert (await rig.call("GET", "/healthz", key=None)).status == 200
    rig.table.restoring = False
    assert (await caller.reply()).code == "key_invalid"


@pytest.mark.parametrize("path", ["/v1/none", "/v1/get-user-credits"])
async def test_its_body_never_goes_to_the_request_behind_it(rig: Rig, path: str) -> None:
    """Answered by us, it has no use for its body: a worker would read that as a request which nobody has checked."""
    (worker,) = await rig.workers("a")
    evil = b"GET /evil HTTP/1.1\r\nHost: x\r\n\r\n"

    def send(caller: Caller) -> None:
        """In one write, so that all of it is there when the first is answered."""
        caller.request("POST" if path == "/v1/none" else "GET", path, body=evil)
        caller.request("POST", "/v1/sketch/body", body=b"abc")
        caller.request("GET", "/v1/sketch/last")

    caller = await held(rig, send)
    rig.table.restoring = False
    assert (await caller.reply()).status == (404 if path == "/v1/none" else 200)
    assert (await caller.reply()).body == b"abc"
    assert (await caller.reply()).status == 200
    assert [(seen.target, seen.body) for seen in worker.seen] == [("/body", b"abc"), ("/last", b"")]


async def test_a_client_that_leaves_meanwhile_leaves_nothing(rig: Rig) -> None:
    caller = await held(rig, lambda c: c.request("POST", "/v1/sketch", body=b"abc"))
    caller.close()
    await until(lambda: rig.gateway.connections == 0, what="the connection to go")
    rig.table.restoring = False


async def test_patience_ends(rig: Rig) -> None:
    caller = await held(rig, lambda c: c.request("GET", "/v1/sketch/x"))
    await rig.skip(31)
    reply = await caller.reply()
    assert (reply.status, reply.code, reply.get("retry-after")) == (503, "starting", "1")
    rig.table.restoring = False
