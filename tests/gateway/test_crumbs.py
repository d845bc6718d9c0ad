"""Bodies that come in crumbs: what waits costs what it holds, not twenty times that, and it arrives unchanged."""

from __future__ import annotations

import tracemalloc

import pytest

from tests.fuzz.memory import KEY, Stage
from tests.gateway.recorder import OK, read_requests

BODY_BYTES = 80_000
CRUMB = b"2\r\nab\r\n"
AT_ONCE = BODY_BYTES // 8
CASES = pytest.mark.parametrize(
    ("path", "first"),
    [(b"/v1/sketch/t", b""), (b"/v1/chat/completions", b'11\r\n{"model":"sketch"\r\n')],
    ids=["a body that waits for a worker", "one whose model is looked for"],
)


def begun(stage: Stage, path: bytes, first: bytes) -> None:
    lines = b"Host: localhost\r\nx-api-key: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % KEY
    stage.client.give(b"POST %b HTTP/1.1\r\n%b%b" % (path, lines, first))


@CASES
@pytest.mark.parametrize("crumbs_at_once", [1, AT_ONCE], ids=["one at a time", "many at a time"])
def test_memory(path: bytes, first: bytes, crumbs_at_once: int) -> None:
    stage = Stage()
    stage.lane.set_ring([])
    begun(stage, path, first)
    # One at a time is slow: enough of them to tell one cost from the other.
    crumbs = BODY_BYTES // 2 if crumbs_at_once > 1 else 10_000
    piece = CRUMB * crumbs_at_once
    tracemalloc.start()
    try:
        for _ in range(crumbs // crumbs_at_once):
            stage.client.give(piece)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2 * 2 * crumbs + 20_000
    stage.client.end()


def test_every_crumb_arrives() -> None:
    stage = Stage()
    slots = list(stage.hub.pools)
    stage.lane.set_ring([])
    begun(stage, b"/v1/sketch/t", b"")
    for _ in range(2_000):
        stage.client.give(CRUMB)
    stage.client.give(CRUMB * 2_000)
    stage.lane.set_ring(slots)
    stage.settle()
    stage.client.give(CRUMB * 3 + b"0\r\n\r\n")
    (worker,) = stage.workers
    (request,) = read_requests(worker.sent)
    assert (request.complete, request.body) == (True, b"ab" * 4_003)
    worker.give(OK)
    assert stage.client.sent.endswith(b"ok")
    stage.leave()
