"""The access log: one JSON line for every request that is over, and nothing in it that must not be."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.gateway.observing import traceparent_of
from orchestrator.telemetry.accesslog import QUEUE_MAX, AccessLog
from tests.gateway.rig import KEY, Rig
from tests.waiting import until

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


async def test_every_request_is_a_line(rig: Rig, path: Path) -> None:
    log = AccessLog(path, rig.now)
    rig.gateway.hub.observer = log
    await rig.workers("a")
    await rig.call("POST", "/v1/sketch/body?token=s3cret", "x-request-id: mine", f"traceparent: {TRACE}", body=b"abcd")
    await rig.call("GET", "/v1/sketch/failing")
    await rig.call("GET", "/v1/sketch/x", key="gd_wrong")
    await rig.call("GET", "/v1/models")
    await rig.call("GET", "/healthz")
    caller = await rig.caller()
    caller.send("nonsense\r\n\r\n")
    await caller.reply()
    await until(lambda: len(lines_of(path)) >= 5, what="the lines")
    log.close()
    first, failing, refused, models, malformed = lines_of(path)
    assert first == {
        "time": first["time"], "request_id": "mine", "method": "POST", "endpoint": "sketch", "account": "local",
        "key_id": "k1", "worker": "id-a", "status": 200, "bytes_in": 4, "bytes_out": 4, "queue_ms": 0.0,
        "total_ms": first["total_ms"], "cold_start": True, "traceparent": TRACE,
    }  # fmt: skip
    assert first["total_ms"] > 0
    assert first["time"].endswith("Z")
    assert (failing["status"], failing["bytes_out"], failing["traceparent"]) == (500, 4, None)
    assert (refused["status"], refused["endpoint"], "key_id" in refused) == (401, "sketch", False)
    assert (models["status"], models["method"]) == (200, "GET")
    assert (malformed["status"], malformed["method"]) == (400, None)
    text = path.read_text()
    assert KEY not in text
    assert "s3cret" not in text
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_request_that_failed_on_its_way_is_one_line(rig: Rig, path: Path) -> None:
    log = AccessLog(path, rig.now)
    rig.gateway.hub.observer = log
    await rig.workers("a")
    await rig.call("POST", "/v1/sketch/die")
    rig.lane.trust("id-a")
    caller = await rig.caller()
    caller.request("GET", "/v1/sketch/slow")
    await until(lambda: len(rig.upstreams[0].seen) == 2, what="the worker to be asked")
    caller.close()
    await until(lambda: len(lines_of(path)) >= 2, what="the lines")
    log.close()
    assert [line["status"] for line in lines_of(path)] == [502, 499]


async def test_who_leaves_before_we_know_the_endpoint_is_a_line_too(rig: Rig, path: Path) -> None:
    log = AccessLog(path, rig.now)
    rig.gateway.hub.observer = log
    caller = await rig.caller()
    caller.request("POST", "/v1/chat/completions", "Content-Length: 100", "x-request-id: mine")
    await until(lambda: any(client.request is not None for client in rig.gateway.clients), what="the head")
    caller.close()
    await until(lambda: lines_of(path), what="the line")
    log.close()
    (line,) = lines_of(path)
    assert (line["status"], line["request_id"], line["method"]) == (499, "mine", "POST")


async def test_it_is_rotated_by_size(rig: Rig, path: Path) -> None:
    log = AccessLog(path, rig.now, file_bytes_max=1_000)
    for n in range(60):
        log.answered(None, b"%d" % n, 400, 0)
        if n % 10 == 9:
            await until(lambda: not log._records, what="the lines to be written")
    log.close()
    files = sorted(path.parent.glob("access.log*"))
    assert [file.name for file in files] in (
        ["access.log.1", "access.log.2", "access.log.3"],
        ["access.log", "access.log.1", "access.log.2", "access.log.3"],
    )
    newest = [line["request_id"] for file in reversed(files) for line in lines_of(file)]
    assert newest == [str(n) for n in range(60)][-len(newest) :], "in order, the oldest gone first"


async def test_what_does_not_fit_is_counted_not_waited_for(path: Path) -> None:
    path.mkdir()  # it cannot be written
    log = AccessLog(path, lambda: 0)
    for _ in range(QUEUE_MAX * 2):
        log.answered(None, b"x", 400, 0)
    await until(lambda: not log._records, what="the failed write")
    path.rmdir()
    log.answered(None, b"after", 400, 0)
    log.close()
    assert lines_of(path)[-1]["request_id"] == "after"


def test_a_disk_that_is_full_costs_whole_lines_and_they_are_counted(path: Path) -> None:
    log = AccessLog(path, lambda: 0)
    log.close()  # its thread has ended: from here on the test says when it writes
    log.answered(None, b"before", 400, 0)
    log._write()
    for _ in range(2):
        for _ in range(1_000):
            log.answered(None, b"x", 400, 0)
        with file_size_limit(64 * 1024):
            log._write()
    log.answered(None, b"after", 400, 0)
    log._write()
    before, count, after = lines_of(path)
    assert (before["request_id"], count["dropped"], after["request_id"]) == ("before", 2_000, "after")


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Files cannot grow beyond `size`: as on a full disk, the beginning of a write fits and the rest does not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("lines", "valid"),
    [
        ((f"traceparent: {TRACE}",), True),
        ((f"TraceParent:{TRACE} ",), True),
        ((f"traceparent: {TRACE}", f"traceparent: {TRACE}"), False),
        ((f"traceparent: {TRACE}-more",), False),
        ((f"traceparent: {TRACE}-",), False),
        ((f"traceparent: 01{TRACE[2:]}-more",), True),
        ((f"traceparent: 01{TRACE[2:]}.more",), False),
        (("traceparent: 00-" + "0" * 32 + "-00f067aa0ba902b7-01",), False),
        (("traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01",), False),
        ((f"traceparent: ff{TRACE[2:]}",), False),
        ((f"traceparent: {TRACE.upper()}",), False),
        (("traceparent: 00-xyz",), False),
        (("x: y",), False),
        ((), False),
    ],
)
def test_only_a_valid_traceparent_counts(lines: tuple[str, ...], valid: bool) -> None:
    assert (traceparent_of([line.encode() for line in lines]) is not None) is valid


async def test_without_tracing_the_field_passes_as_it_came_and_none_is_made(rig: Rig) -> None:
    (worker,) = await rig.workers("a")
    await rig.call("GET", "/v1/sketch/x", f"traceparent: {TRACE}", "tracestate: a=b")
    await rig.call("GET", "/v1/sketch/x", "traceparent: not one")
    await rig.call("GET", "/v1/sketch/x")
    assert [seen.get("traceparent") for seen in worker.seen] == [TRACE, "not one", None]
    assert worker.seen[0].get("tracestate") == "a=b"
    await asyncio.sleep(0)
