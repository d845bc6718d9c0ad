"""What must hold for any bytes from a client and any bytes from a worker. Each function runs the real gateway in memory
and raises AssertionError when something does not hold.

- It neither crashes nor hangs, and gives back every claim.
- However the bytes are cut, they mean the same.
- h11 reads everything that goes to a worker, and everything that goes to a client, without an error and without a rest:
  as many requests as there are replies, and the same bodies as in what the client sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import h11

from tests.fuzz.memory import KEY, Stage, Wire
from tests.gateway.recorder import Read, read_reply, read_requests

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
HEADS = {
    "GET": b"GET /v1/sketch/t HTTP/1.1\r\nHost: localhost\r\nx-api-key: %b\r\n\r\n" % KEY,
    "HEAD": b"HEAD /v1/sketch/t HTTP/1.1\r\nHost: localhost\r\nx-api-key: %b\r\n\r\n" % KEY,
    "POST": b"POST /v1/sketch HTTP/1.1\r\nHost: localhost\r\nx-api-key: %b\r\nContent-Length: 1\r\n\r\na" % KEY,
    "GET of HTTP/1.0": b"GET /v1/sketch/t HTTP/1.0\r\nx-api-key: %b\r\nConnection: keep-alive\r\n\r\n" % KEY,
}


@dataclass(frozen=True)
class Seen:
    """What came of a client's bytes: complete requests as the workers saw them, replies as the client got them."""

    requests: tuple[tuple[bytes, tuple[tuple[bytes, bytes], ...], bytes], ...]
    replies: tuple[tuple[bytes, bytes], ...]
    open: bool


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """`data` cut at `cuts` (taken modulo its length)."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(places)]


def check_requests(data: bytes, cuts: Sequence[int]) -> None:
    """A client sends `data`."""
    whole, cut = send([data]), send(pieces(data, cuts))
    assert whole.requests == cut.requests, "cut differently, it means something else to the worker"
    assert len(whole.replies) == len(cut.replies)
    assert whole.open == cut.open
    for one, other in zip(whole.replies, cut.replies, strict=True):
        refused = one[0] >= b"400" and other[0] >= b"400"  # of two faults, the one that comes first is named
        assert one == other or refused
    compare(data, whole)


def send(parts: Sequence[bytes]) -> Seen:
    stage = Stage()
    answered: dict[Wire, int] = {}
    for part in parts:
        stage.client.give(part)
        while answer(stage, answered):
            pass
    at_workers = [request for wire in stage.workers for request in read_requests(wire.sent)]
    assert all(request.strict for request in at_workers), "a line that h11 reads as two"
    seen = Seen(
        tuple((r.start, tuple(r.fields), r.body) for r in at_workers if r.complete),
        replies_of(stage),
        not (stage.client.closed or stage.client.half_closed),
    )
    stage.leave()
    return seen


def answer(stage: Stage, answered: dict[Wire, int]) -> bool:
    """Answer every request that is complete; False when there was none."""
    some = False
    for wire in stage.workers:
        complete = sum(request.complete for request in read_requests(wire.sent))
        if complete > answered.get(wire, 0) and not wire.closed:
            assert complete == answered.get(wire, 0) + 1, "two requests at once on one connection"
            answered[wire] = complete
            wire.give(OK)
            some = True
    return some


def replies_of(stage: Stage) -> tuple[tuple[bytes, bytes], ...]:
    """Status and body of each reply: every byte that the client got belongs to one."""
    replies = []
    rest = stage.client.sent
    methods = [head.method.decode() for head in stage.connection.taken]
    while rest:
        place = len(replies)
        ended = stage.client.closed or stage.client.half_closed
        _, reply, after = read_reply(rest, method=methods[place] if place < len(methods) else "GET", ended=ended)
        if reply is None:
            assert not ended, "an end without a reply"
            break  # 100 Continue, to a client that goes on waiting
        assert reply.complete, "half a reply, and the worker said all"
        assert reply.strict, "a line that h11 reads as two"
        assert len(after) < len(rest)
        replies.append((reply.start, reply.body if reply.start == b"200" else b""))
        rest = after
    assert len(replies) <= len(methods) + 1, "more replies than requests"
    return tuple(replies)


def compare(data: bytes, seen: Seen) -> None:
    """h11's reading of what the client sent, where it has one, is the gateway's."""
    try:
        sent = read_requests(data)
    except h11.RemoteProtocolError:
        return
    if seen.open:
        complete = sum(request.complete for request in sent)  # the last one may have been refused before its end
        assert complete <= len(seen.replies) <= len(sent), "the gateway sees other requests than h11 does"
    forwarded = list(seen.requests)
    for request, (status, body) in zip(sent, seen.replies, strict=False):
        method = request.start.partition(b" ")[0]
        if status == b"200" and (body == b"ok" or is_answered_head(request)) and forwarded:
            start, fields, at_worker = forwarded.pop(0)
            assert (start.partition(b" ")[0], at_worker) == (method, request.body)
            assert [value for name, value in fields if name == b"host"] == [b"127.0.0.1:9"]
    assert not forwarded, "a request that h11 does not see went to a worker"


def is_answered_head(request: Read) -> bool:
    return request.start.startswith(b"HEAD /v1/") or request.start.startswith(b"HEAD http://")


def check_reply(data: bytes, cuts: Sequence[int], *, kind: str, ends: bool) -> None:
    """A worker answers with `data`, then ends or not."""
    whole, cut = ask([data], kind=kind, ends=ends), ask(pieces(data, cuts), kind=kind, ends=ends)
    assert (whole.state, whole.status) == (cut.state, cut.status)
    assert whole.interim == cut.interim or whole.status == b"502"
    if whole.state == "complete" and whole.status != b"502":
        assert whole.body == cut.body
        compare_reply(data, whole, kind=kind, ends=ends)


@dataclass(frozen=True)
class Answered:
    """What the client of one request got."""

    state: str
    """complete, cut, or pending."""
    status: bytes = b""
    body: bytes = b""
    interim: tuple[int, ...] = ()


def ask(parts: Sequence[bytes], *, kind: str, ends: bool) -> Answered:
    stage = Stage()
    stage.client.give(HEADS[kind])
    (wire,) = stage.workers
    for part in parts:
        wire.give(part)
    if ends:
        wire.end()
    for later in stage.workers[1:]:  # it was tried again, as a worker that died at once allows
        later.give(b"HTTP/1.1 502 X\r\ncontent-length: 0\r\n\r\n")
    result = told(stage, kind.partition(" ")[0])
    check_next(stage, result, wire)
    stage.leave()
    return result


def told(stage: Stage, method: str) -> Answered:
    client = stage.client
    ended = (client.closed or client.half_closed) and not client.aborted
    interim, reply, rest = read_reply(client.sent, method=method, ended=ended)
    assert not rest, "more than one reply to one request"
    if reply is None:
        return Answered("cut" if client.aborted else "pending", interim=tuple(interim))
    assert reply.strict, "a line that h11 reads as two"
    if not reply.complete:
        assert client.aborted or stage.lane.running, "half a reply, and the client is left to wait"
        return Answered("cut" if client.aborted else "pending", reply.start, interim=tuple(interim))
    assert not (client.aborted and "transfer-encoding" not in dict(reply.fields) and ended)
    return Answered("complete", reply.start, reply.body, tuple(interim))


def check_next(stage: Stage, result: Answered, wire: Wire) -> None:
    """The next request on the connection gets its own reply, whatever the worker said before."""
    if result.state != "complete" or stage.client.closed or stage.client.half_closed:
        return
    stage.lane.trust("id-a")  # as a health probe would
    stage.client.sent = b""
    before = {w: len(w.sent) for w in stage.workers}
    stage.client.give(HEADS["GET"])
    asked = [w for w in stage.workers if len(w.sent) > before.get(w, 0)]
    assert len(asked) == 1, "the next request goes to one worker"
    asked[0].give(OK)
    _, reply, rest = read_reply(stage.client.sent, ended=False)
    assert reply is not None
    assert (reply.body, reply.complete, rest) == (b"ok", True, b""), "the next request got another one's reply"


def compare_reply(data: bytes, told: Answered, *, kind: str, ends: bool) -> None:
    """h11's reading of what the worker sent, where it has one, is the gateway's."""
    try:
        _, reply, _ = read_reply(data, method=kind.partition(" ")[0], ended=ends)
    except h11.RemoteProtocolError:
        return
    assert reply is not None, "h11 sees no reply where the gateway does"
    assert (reply.start, reply.body, reply.complete) == (told.status, told.body, True)


Check = Callable[[bytes], None]


def check_any(data: bytes) -> None:
    """`data` decides everything: what is sent, by whom, and how it is cut."""
    if len(data) < 6:
        return
    mode, cuts, rest = data[0], data[1:5], data[5:]
    places = [(cut << 8 | cuts[(i + 1) % 4]) for i, cut in enumerate(cuts)]
    kinds = list(HEADS)
    if mode & 1:
        check_requests(rest, places)
    else:
        check_reply(rest, places, kind=kinds[(mode >> 1) % len(kinds)], ends=bool(mode & 16))
