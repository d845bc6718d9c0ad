"""Requests that must not reach a worker, byte for byte, with the status each deserves (reliability.md 3.4, W7, W8)."""

from __future__ import annotations

import asyncio

import pytest

from tests.gateway.rig import Rig

OK = "POST /v1/sketch HTTP/1.1\r\nHost: localhost\r\nx-api-key: gd_k1_owner\r\n"
CHUNKED = OK + "Transfer-Encoding: chunked\r\n\r\n"

MALFORMED: dict[str, tuple[str, int]] = {
    "length and chunked": (OK + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked and length": (OK + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400),
    "two lengths": (OK + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
    "two equal lengths": (OK + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
    "list of lengths": (OK + "Content-Length: 3, 3\r\n\r\nabc", 400),
    "signed length": (OK + "Content-Length: +3\r\n\r\nabc", 400),
    "negative length": (OK + "Content-Length: -3\r\n\r\nabc", 400),
    "hexadecimal length": (OK + "Content-Length: 0x3\r\n\r\nabc", 400),
    "underscored length": (OK + "Content-Length: 1_0\r\n\r\nabc", 400),
    "empty length": (OK + "Content-Length:\r\n\r\n", 400),
    "huge length": (OK + "Content-Length: 99999999999999999999\r\n\r\n", 400),
    "space in length": (OK + "Content-Length: 1 0\r\n\r\n", 400),
    "space before colon": (OK + "Content-Length : 3\r\n\r\nabc", 400),
    "tab before colon": (OK + "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", 400),
    "folded line": (OK + "x-a: 1\r\n 2\r\n\r\n", 400),
    "folded coding": (OK + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400),
    "space before first field": ("GET /healthz HTTP/1.1\r\n Host: localhost\r\n\r\n", 400),
    "bare LF after field": (OK + "x-a: 1\n\r\n\r\n", 400),
    "bare LF everywhere": (OK.replace("\r\n", "\n") + "\n", 400),
    "bare LF smuggles a field": (OK + "x-a: 1\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "bare CR": (OK + "x-a: 1\rx-b: 2\r\n\r\n", 400),
    "NUL in value": (OK + "x-a: 1\x002\r\n\r\n", 400),
    "NUL in name": (OK + "x\x00a: 1\r\n\r\n", 400),
    "escape in value": (OK + "x-a: \x1b[31m\r\n\r\n", 400),
    "DEL in value": (OK + "x-a: \x7f\r\n\r\n", 400),
    "vertical tab before chunked": (OK + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    "no colon": (OK + "nonsense\r\n\r\n", 400),
    "known field without colon": (OK + "Expect\r\n\r\n", 400),
    "empty name": (OK + ": 1\r\n\r\n", 400),
    "parenthesis in name": (OK + "x(a): 1\r\n\r\n", 400),
    "non-ASCII name": (OK + "x-\xe4: 1\r\n\r\n", 400),
    "no host": ("GET /healthz HTTP/1.1\r\n\r\n", 400),
    "two hosts": ("GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
    "two keys": (OK + "x-api-key: other\r\n\r\n", 400),
    "two authorizations": (OK + "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n", 400),
    "foreign host": ("GET /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
    "two hosts in one": ("GET /healthz HTTP/1.1\r\nHost: localhost, evil\r\n\r\n", 400),
    "authority unlike host": ("GET http://127.0.0.1/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "absolute https": ("GET https://localhost/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "absolute without authority": ("GET http:///healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "asterisk": ("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "relative target": ("GET healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "authority form": ("GET localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "CONNECT": ("CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
    "TRACE": ("TRACE /v1/sketch HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
    "fragment": ("GET /healthz#a HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "space in target": ("GET /health z HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "two spaces": ("GET  /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "tab after method": ("GET\t/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "space after version": ("GET /healthz HTTP/1.1 \r\nHost: localhost\r\n\r\n", 400),
    "non-ASCII target": ("GET /\xe4 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "control in target": ("GET /\x01 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "method with colon": ("GE:T /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "long method": ("G" * 33 + " /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "no version": ("GET /healthz\r\nHost: localhost\r\n\r\n", 400),
    "lower-case version": ("GET /healthz http/1.1\r\nHost: localhost\r\n\r\n", 400),
    "odd version": ("GET /healthz HTTP/1.10\r\nHost: localhost\r\n\r\n", 400),
    "HTTP/1.2": ("GET /healthz HTTP/1.2\r\nHost: localhost\r\n\r\n", 505),
    "HTTP/2 preface": ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/0.9": ("GET /healthz\r\n\r\n", 400),
    "TLS hello": ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\r\n\r\n", 400),
    "two empty lines first": ("\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "chunked in HTTP/1.0": ("POST /v1/sketch HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "coding twice": (OK + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked, chunked": (OK + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 501),
    "gzip, chunked": (OK + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "identity": (OK + "Transfer-Encoding: identity\r\n\r\n", 501),
    "xchunked": (OK + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    "unknown expectation": (OK + "Expect: 200-ok\r\n\r\n", 417),
    "bad chunk size": (CHUNKED + "zz\r\n", 400),
    "signed chunk size": (CHUNKED + "+3\r\nabc\r\n0\r\n\r\n", 400),
    "prefixed chunk size": (CHUNKED + "0x3\r\nabc\r\n0\r\n\r\n", 400),
    "underscored chunk size": (CHUNKED + "1_0\r\n", 400),
    "empty chunk size": (CHUNKED + "\r\nabc\r\n0\r\n\r\n", 400),
    "huge chunk size": (CHUNKED + "ffffffffffffffffff\r\n", 400),
    "space after chunk size": (CHUNKED + "3 \r\nabc\r\n0\r\n\r\n", 400),
    "bare LF after chunk size": (CHUNKED + "3\nabc\r\n0\r\n\r\n", 400),
    "bare LF chunks": (CHUNKED + "3\nabc\n0\n\n", 400),
    "chunk longer than its size": (CHUNKED + "3\r\nabcd\r\n0\r\n\r\n", 400),
    "control in extension": (CHUNKED + "3;a=\x00\r\nabc\r\n0\r\n\r\n", 400),
    "endless extension": (CHUNKED + "3;" + "a" * 2_000, 400),
    "malformed trailer": (CHUNKED + "0\r\nno colon\r\n\r\n", 400),
    "endless trailers": (CHUNKED + "0\r\n" + "x-a: 1\r\n" * 2_000 + "\r\n", 400),
    "announced body too large": (OK + "Content-Length: 268435457\r\n\r\n", 413),
    "long target": (f"GET /{'a' * 8_192} HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
    "endless target": ("GET /" + "a" * 20_000, 414),
    "101 fields": (OK + "x-a: 1\r\n" * 99 + "\r\n", 431),
    "long field": (OK + f"x-a: {'a' * 17_000}\r\n\r\n", 431),
    "endless field": (OK + "x-a: " + "a" * 17_000, 431),
}


@pytest.mark.parametrize("name", list(MALFORMED))
async def test_malformed_requests_are_refused_and_end_the_connection(rig: Rig, name: str) -> None:
    data, status = MALFORMED[name]
    rig.route.lane.queue_limit = 10  # there is no worker: what is let through waits, and the test fails by its time-out
    caller = await rig.caller()
    caller.send(data)
    reply = await asyncio.wait_for(caller.reply(), 5)
    assert reply.status == status
    assert isinstance(reply.code, str)
    if status != 421:
        assert reply.get("connection") == "close"
        assert await caller.closed() == b"", "nothing after it is taken for a request"


async def test_malformed_requests_never_reach_a_worker(rig: Rig) -> None:
    (a,) = await rig.workers("a")
    for data, _status in MALFORMED.values():
        if "chunked\r\n\r\n" not in data:  # a broken chunk can only be found after its request has begun
            caller = await rig.caller()
            caller.send(data)
            await asyncio.wait_for(caller.reply(), 5)
            caller.close()
    assert a.seen == []
    assert a.opened == 0


@pytest.mark.parametrize("name", ["no host", "bare LF after field", "two lengths", "long field"])
async def test_dribbled_byte_by_byte_the_answer_is_the_same(rig: Rig, name: str) -> None:
    data, status = MALFORMED[name]
    caller = await rig.caller()
    step = max(1, len(data) // 200)
    for at in range(0, len(data), step):
        caller.send(data[at : at + step])
        await asyncio.sleep(0)
    assert (await asyncio.wait_for(caller.reply(), 5)).status == status


async def test_a_broken_chunk_ends_a_request_that_is_under_way(rig: Rig) -> None:
    (a,) = await rig.workers("a")
    caller = await rig.caller()
    caller.send(CHUNKED + "3\r\nabc\r\n")
    while not a.seen:
        await asyncio.sleep(0.01)
    caller.send("zz\r\n")
    reply = await caller.reply()
    assert (reply.status, reply.code) == (400, "bad_chunk")
    assert not a.seen[0].complete


async def test_one_empty_line_before_a_request_is_forgiven(rig: Rig) -> None:
    caller = await rig.caller()
    for _ in range(2):
        caller.send("\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await caller.reply()).status == 200


async def test_a_head_in_single_bytes_is_as_good_as_a_whole_one(rig: Rig) -> None:
    (a,) = await rig.workers("a")
    caller = await rig.caller()
    for byte in OK + "Content-Length: 3\r\n\r\nabc":
        caller.send(byte)
        await asyncio.sleep(0)
    assert (await caller.reply()).status == 200
    assert a.seen[0].body == b"abc"
