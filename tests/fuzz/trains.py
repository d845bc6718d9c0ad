"""Requests that resemble one another, one after the other on a connection, against the same ones on a new connection
each: what a connection remembers of its heads (`gateway/recall.py`) must change nothing that anybody can see.

Between two of them the world may change: a key is revoked, expires or is confined, an endpoint goes, comes back, moves
its predict path or closes. An equal head that is judged by what was true before would show as a difference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.contract.endpoint import Visibility
from orchestrator.core.lane import Closed
from orchestrator.core.routing import KeyGrant
from orchestrator.gateway.answers import CONTINUE
from orchestrator.gateway.recall import KNOWN_BYTES, MISSES_MAX
from orchestrator.gateway.states import HEAD
from tests.fuzz.corpus import LINES, STEP_BYTES, STEPS, WORDS
from tests.fuzz.memory import KEY, NOW_NS, Stage, WatchedConnection, Wire

DONE = b"HTTP/1.1 204 No Content\r\n\r\n"
BODY_MAX = 4_096
"""A request that announces more is left alone after its head."""
CUMULATIVE, CUT, COUNTED, CHANGE = 0x80, 0x40, 0x20, 0x1F
"""Bits of a step's first byte: it is done to the head before and not to the first one; the head comes in two pieces;
what clients change from request to request carries the step's number; the rest is what `step` does."""
_COUNTED_NAMES = frozenset({b"x-request-id", b"x-a", b"x_odd", b"traceparent", b"content-length", b"forwarded"})
_DIGEST = hashlib.sha256(KEY).digest()


@dataclass(frozen=True)
class Judged:
    """What came of one request."""

    told: bytes
    """Every byte that the client got,"""
    forwarded: bytes
    """and a worker."""
    closed: bool

    @property
    def refused(self) -> bool:
        return self.told[9:10] in (b"4", b"5") and not self.forwarded


@dataclass
class Trained:
    """How much of a train was recalled, so that a run can say that it tested something."""

    heads: int = 0
    recalled: int = 0


def check_train(data: bytes) -> Trained:
    """`data` decides everything: see `train_seeds`. Raises AssertionError."""
    seen = Trained()
    first = data[STEPS * STEP_BYTES :]
    if not first:
        return seen
    stage = Stage()
    for slot in stage.hub.pools:
        slot.first_byte_ns = NOW_NS  # else the very first reply says that its worker started cold
    worlds = changes(stage)
    kept, wire = stage.connection, stage.client
    head = first
    for number in range(STEPS):
        kind, line, place, value = data[number * STEP_BYTES : (number + 1) * STEP_BYTES]
        head = head if kind & CUMULATIVE else first
        if kind & COUNTED:
            head = counted(head, number)
        kind, change = kind & ~CHANGE, kind & CHANGE
        head = step(head, change, line, place, value)
        if change == 10:
            worlds[value % len(worlds)]()
        elif change == 14:
            kept._recall._misses = MISSES_MAX  # as after so many heads that had nothing in common
        whole = head + b"\r\n\r\n"
        cut = place % len(whole) if kind & CUT else 0
        before = kept._recall.recalled
        one = judge(stage, kept, wire, [piece for piece in (whole[:cut], whole[cut:]) if piece])
        seen.heads += 1
        seen.recalled += kept._recall.recalled - before
        alone, other = stage.connect()
        another = judge(stage, alone, other, [whole])
        assert one.closed == another.closed
        if not (cut and one.refused and another.refused):  # of two faults, the one that comes first is named
            assert one == another
        other.abort()
        if one.closed or not one.told or kept._state != HEAD or kept._tail or kept._blank:
            break  # the next one would not begin a head
    wire.abort()
    stage.leave()
    return seen


def judge(stage: Stage, connection: WatchedConnection, wire: Wire, pieces: list[bytes]) -> Judged:
    """Send a request, answer it if it gets as far as a worker, and see what everybody got."""
    stage.hub._counter, wire.sent = 0, b""
    for worker in stage.workers:
        worker.sent = b""
    taken = len(connection.taken)
    for piece in pieces:
        wire.give(piece)
    if len(connection.taken) > taken and not (wire.closed or wire.half_closed):
        head = connection.taken[-1]
        if head.chunked:
            wire.give(b"1\r\nb\r\n0\r\n\r\n")
        elif 0 < head.content_length <= BODY_MAX:
            wire.give(b"b" * head.content_length)
    for worker in stage.workers:
        if not worker.closed and worker.protocol.exchange is not None:  # type: ignore[attr-defined]
            worker.give(DONE)
    stage.settle()
    told = wire.sent.replace(CONTINUE, b"")  # asked for only if the worker was there before the body
    return Judged(told, b"".join(worker.sent for worker in stage.workers), wire.closed or wire.half_closed)


def step(head: bytes, kind: int, number: int, place: int, value: int) -> bytes:
    """The head after one step. 0, 10 and 14 leave it as it is."""
    lines = head.split(b"\r\n")
    number %= len(lines)
    if kind == 6:
        lines.insert(place % (len(lines) + 1), lines[number])
    elif kind == 7:
        other = value % len(lines)
        lines[number], lines[other] = lines[other], lines[number]
    elif kind == 8:
        del lines[number]
    elif kind == 9:
        lines.insert(number + 1, LINES[value % len(LINES)])
    elif kind == 12:
        lines.append(b"x-long: " + b"x" * KNOWN_BYTES)
    elif kind == 13:
        lines = [line.replace(KEY, b"gd_k2_other") for line in lines]
    elif kind == 1:
        lines[number] = numbered(lines[number], value, first=number == 0)
    else:
        lines[number] = edited(lines[number], kind, place, value)
    return b"\r\n".join(lines)


def edited(line: bytes, kind: int, place: int, value: int) -> bytes:
    """The line with a byte or a word put in, left out or changed."""
    place %= len(line) + 1
    before, there, after = line[:place], line[place : place + 1], line[place + 1 :]
    if kind == 2:
        return before + bytes([value]) + there + after
    if kind == 3:
        return before + after
    if kind == 4:
        return before + WORDS[value % len(WORDS)] + there + after
    if kind == 5:
        return before + there.swapcase() + after
    if kind == 11:
        return before + bytes([value]) + after
    return line


def counted(head: bytes, number: int) -> bytes:
    """The head with a number in its target and in the fields that clients count by."""
    lines = head.split(b"\r\n")
    for place, line in enumerate(lines):
        if not place or line.partition(b":")[0].lower() in _COUNTED_NAMES:
            lines[place] = numbered(line, number, first=not place)
    return b"\r\n".join(lines)


def numbered(line: bytes, value: int, *, first: bool) -> bytes:
    """The line with another value, as clients count: a target with another query, a field with another number."""
    if first:
        before, space, version = line.rpartition(b" ")
        return before.partition(b"?")[0] + b"?n=%d" % value + space + version
    name, colon, _ = line.partition(b":")
    return name + colon + b" %d" % (value % 8 if name.lower() == b"content-length" else value)


def changes(stage: Stage) -> list[Callable[[], None]]:
    """What may happen between two requests."""
    table, lane = stage.hub.table, stage.lane
    grant, route = table.keys[_DIGEST], table.routes["sketch"]

    def keyed(**said: object) -> Callable[[], None]:
        return lambda: table.keys.update({_DIGEST: KeyGrant("k1", **{"account": "local", **said})})  # type: ignore[arg-type]

    def moved(path: str, visibility: Visibility = Visibility.PRIVATE) -> Callable[[], None]:
        def move() -> None:
            route.predict_path, route.visibility = path, visibility

        return move

    return [
        lambda: table.keys.pop(_DIGEST, None) and None,
        lambda: table.keys.update({_DIGEST: grant}),
        keyed(expires_ns=NOW_NS),
        keyed(expires_ns=NOW_NS + 1),
        keyed(account="other"),
        keyed(endpoints=frozenset({"another"})),
        keyed(endpoints=frozenset({"sketch"})),
        lambda: table.routes.pop("sketch", None) and None,
        lambda: table.routes.update({"sketch": route}),
        moved("/elsewhere?a=b"),
        moved("/predict", Visibility.PUBLIC),
        lambda: lane.close(Closed(402, "credit_exhausted", "No credit."), evict=True),
        lane.open,
        lambda: table.balances_u.update(local=25_500_000),
    ]
