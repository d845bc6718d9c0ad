"""Where fuzzing begins: every request and reply of the tables, and the words that matter in between."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.gateway.refused_requests import CASES
from tests.gateway.taken_requests import TAKEN
from tests.gateway.worker_replies import BROKEN, CUT, PASSED

BYTES_MAX = 2_048
REQUEST, REPLY, REPLY_THAT_ENDS = 1, 0, 16
WORDS = [
    word.encode("latin-1")
    for word in (
        "\r\n", "\n", "\r", "\r\n\r\n", "0\r\n\r\n", ":", " ", "\t", ",", ";", "=", '"', "\0", "\x7f", "\xff",
        "GET ", "POST ", "HEAD ", "OPTIONS * ", "PUT ", "/v1/sketch/t", "/v1/sketch", "/healthz", " HTTP/1.1",
        " HTTP/1.0", "HTTP/1.1 200 OK", "HTTP/1.1 204 X", "HTTP/1.1 304 X", "HTTP/1.1 100 X", "HTTP/1.1 101 X",
        "HTTP/1.0 200 OK", "Host: localhost\r\n", "x-api-key: gd_k1_owner\r\n", "Content-Length: ",
        "Content-Length: 3\r\n", "Content-Length: 0\r\n", "Transfer-Encoding: chunked\r\n", "Transfer-Encoding: ",
        "chunked", "identity", "gzip", "Connection: close\r\n", "Connection: keep-alive\r\n", "Connection: ",
        "Upgrade: websocket\r\n", "upgrade", "Expect: 100-continue\r\n", "Trailer: x\r\n", "TE: trailers\r\n",
        "3\r\nabc\r\n", "a\r\n", "ffffffffffffffff", "x: 1\r\n", " folded\r\n", "http://localhost", "%00", "..",
        "//", "#", "?",
    )
]  # fmt: skip


ALIKE = (
    "GET /v1/sketch/t?n={n} HTTP/1.1\r\nHost: localhost\r\nx-api-key: gd_k1_owner\r\nx-request-id: {n}\r\n\r\n",
    "POST /v1/sketch HTTP/1.1\r\nHost: localhost\r\nx-api-key: gd_k1_owner\r\nContent-Length: {n}\r\nX: {n}\r\n\r\n{x}",
    "POST /v1/sketch HTTP/1.1\r\nHost: localhost\r\nX_Odd: {n}\r\nx-api-key: gd_k1_owner\r\nForwarded: {n}\r\n"
    "Idempotency-Key: {n}\r\nX-A: {n}\r\nX-A: b{n}\r\nContent-Length: {n}\r\n\r\n{x}",
)
"""Heads of one connection that differ in a few lines: what it recalls of the first ones is tried on the others."""


def trains() -> list[str]:
    """Each of ALIKE four times in a row."""
    return ["".join(head.format(n=n, x="a" * n) for n in range(1, 5)) for head in ALIKE]


def seeds() -> list[bytes]:
    """Inputs of `check_any`: a mode, four numbers that say where to cut, and the bytes."""
    requests = [data for data, _, _ in CASES.values()] + [case.data for case in TAKEN.values()] + trains()
    replies = [case.script for case in PASSED.values()] + list(BROKEN.values()) + [script for script, _ in CUT.values()]
    found = [bytes([REQUEST, 0, 20, 0, 90]) + data.encode("latin-1") for data in requests]
    for n, script in enumerate(replies):
        mode = (n % 4) << 1 | (REPLY_THAT_ENDS if n % 2 else REPLY)
        found.append(bytes([mode, 0, 9, 0, 40]) + script.encode("latin-1"))
    return [seed for seed in found if len(seed) <= BYTES_MAX]


STEPS = 8
STEP_BYTES = 4
LINES = tuple(
    line.encode("latin-1")
    for line in (
        "x-api-key: gd_k1_owner", "x-api-key: gd_k2_other", "Authorization: Bearer gd_k1_owner", "Host: localhost",
        "Host: 127.0.0.1:80", "Content-Length: 3", "Content-Length: 0", "Transfer-Encoding: chunked",
        "Connection: close", "Connection: keep-alive", "Connection: x-a, upgrade", "Connection: Upgrade",
        "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "x-a: 1",
        "X-A: 2", "x_a: 1", "x-request-id: id-1", "Idempotency-Key: k", "Expect: 100-continue", "Origin: http://a",
        "Sec-Fetch-Site: cross-site", "X-Forwarded-For: 1.2.3.4", "Forwarded: for=1", "X-Real-IP: 1.2.3.4",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Cookie: a=b", "TE: trailers",
    )
)  # fmt: skip
"""Lines that a step of a train may put into a head."""
_HELLO = "Host: localhost\r\nx-api-key: gd_k1_owner\r\n"
STEPPED = (
    "GET /v1/sketch/t?n=1 HTTP/1.1\r\n" + _HELLO + "x-request-id: id-1\r\nx-a: 1",
    "POST /v1/sketch HTTP/1.1\r\n" + _HELLO + "Content-Length: 3\r\nx-a: 1\r\nx-a: 2",
    "POST /v1/sketch/t HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer gd_k1_owner\r\n"
    "Transfer-Encoding: chunked\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
    "Idempotency-Key: k\r\nx_odd: 1",
    "GET /v1/get-user-credits HTTP/1.1\r\n" + _HELLO + "Connection: keep-alive",
    "GET http://localhost/v1/sketch/t HTTP/1.1\r\n" + _HELLO + "Forwarded: for=1\r\nTE: a",
    "GET /v1/sketch/t HTTP/1.0\r\nConnection: keep-alive\r\nx-api-key: gd_k1_owner\r\nX-Forwarded-For: 1.2.3.4",
    "GET /v1/sketch/ws HTTP/1.1\r\n" + _HELLO + "Connection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "GET /healthz HTTP/1.1\r\nHost: localhost",
)
"""Heads that trains begin with, without the empty line."""


def train_seeds() -> list[bytes]:
    """Inputs of `check_train`: STEPS times what is done to the head before it is sent, and the head to begin with."""
    found = []
    for head in STEPPED:
        for kinds in ((0, 0, 0, 12, 13, 0, 0, 0), (0, 0, 14, 13, 0, 13, 0, 0), (0, 13, 0, 13, 12, 0, 13, 0)):
            found.append(b"".join(bytes([0x20 + kind, 0, 0, 0]) for kind in kinds) + head.encode("latin-1"))
        for kind in range(15):
            steps = b"".join(bytes([0x20 + (kind if n > 2 and n % 2 else 0), n, 3 * n, n + kind]) for n in range(STEPS))
            found.append(steps + head.encode("latin-1"))
        for line in range(head.count("\r\n") + 1):
            found.append(b"".join(bytes([1, line, n, n]) for n in range(STEPS)) + head.encode("latin-1"))
    return found


def mutants(count: int, seed: int, known: list[bytes]) -> Iterator[bytes]:
    """`count` inputs near `known`, the same for the same number."""
    chance = random.Random(seed)
    for _ in range(count):
        data = bytearray(chance.choice(known))
        for _ in range(chance.randint(1, 6)):
            _mutate(data, chance, known)
        yield bytes(data[:BYTES_MAX])


def _mutate(data: bytearray, chance: random.Random, known: list[bytes]) -> None:
    at = chance.randrange(len(data) + 1)
    kind = chance.randrange(6)
    if kind == 0:
        data[at:at] = chance.choice(WORDS)
    elif kind == 1:
        data[at : at + chance.randint(1, 8)] = chance.choice(WORDS)
    elif kind == 2:
        del data[at : at + chance.randint(1, 12)]
    elif kind == 3 and at < len(data):
        data[at] = chance.randrange(256)
    elif kind == 4:
        other = chance.choice(known)
        start = chance.randrange(5, len(other))
        data[at:at] = other[start : start + chance.randint(1, 200)]
    else:
        start = chance.randrange(len(data) + 1)
        data[at:at] = data[start : start + chance.randint(1, 100)]
