"""OpenTelemetry: the spans of a request, and the trace that its worker joins."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from orchestrator.settings import SettingsError
from orchestrator.telemetry.tracing import open_tracer
from tests.gateway.rig import Rig
from tests.waiting import until

pytest.importorskip("opentelemetry.sdk", reason="gpudeck[otel] is not installed")

TRACE_ID = 0x4BF92F3577B34DA6A3CE929D0E0E4736
PARENT = 0x00F067AA0BA902B7


class Kept:
    """A span processor that keeps what it is given."""

    def __init__(self) -> None:
        self.spans: list[Any] = []

    def on_end(self, span: Any) -> None:
        self.spans.append(span)

    def shutdown(self) -> None:
        """Nothing is sent."""


@pytest.fixture
def kept(rig: Rig) -> Kept:
    processor = Kept()
    rig.gateway.hub.observer = open_tracer("http://127.0.0.1:1", "0.1.0", processor)  # type: ignore[arg-type]
    return processor


async def test_a_callers_trace_goes_on_through_the_worker(rig: Rig, kept: Kept) -> None:
    (worker,) = await rig.workers("a")
    caller = await rig.caller()
    for _ in range(2):  # the same bytes twice: a remembered head must not remember a trace
        caller.request(
            "GET", "/v1/sketch/x", f"traceparent: 00-{TRACE_ID:032x}-{PARENT:016x}-01", "tracestate: vendor=1"
        )
        assert (await caller.reply()).status == 200
    first, second = worker.seen
    assert first.get("tracestate") == "vendor=1"
    execution, server = kept.spans[0], kept.spans[1]
    assert first.get("traceparent") == f"00-{TRACE_ID:032x}-{execution.context.span_id:016x}-01"
    assert second.get("traceparent") != first.get("traceparent")
    assert (execution.name, server.name) == ("execution", "GET /v1/sketch")
    assert execution.parent.span_id == server.context.span_id
    assert (server.parent.span_id, server.parent.is_remote) == (PARENT, True)
    assert {span.context.trace_id for span in kept.spans} == {TRACE_ID}
    assert server.attributes["http.response.status_code"] == 200
    assert server.attributes["gpudeck.worker_id"] == "id-a"
    assert server.start_time <= execution.start_time <= execution.end_time <= server.end_time
    assert len({span.context.span_id for span in kept.spans}) == 4


async def test_a_trace_begins_here_when_none_came(rig: Rig, kept: Kept) -> None:
    (worker,) = await rig.workers("a")
    await rig.call("GET", "/v1/sketch/failing", "tracestate: orphan=1", "traceparent: broken")
    assert worker.seen[0].get("tracestate") is None, "a state without a trace belongs to nobody"
    server = kept.spans[-1]
    assert server.parent is None
    assert server.status.status_code.name == "ERROR"
    traceparent = worker.seen[0].get("traceparent")
    assert traceparent is not None
    assert int(traceparent.split("-")[1], 16) == server.context.trace_id != TRACE_ID


async def test_waiting_is_a_span_and_a_cold_start_is_called_so(rig: Rig, kept: Kept) -> None:
    waiting = asyncio.ensure_future(rig.call("GET", "/v1/sketch/x"))
    await until(lambda: rig.lane.queued == 1, what="the request to wait")
    await rig.workers("late")
    await waiting
    assert [span.name for span in kept.spans] == ["cold start", "execution", "GET /v1/sketch"]
    assert kept.spans[0].end_time == kept.spans[1].start_time


async def test_a_method_of_the_callers_own_makes_no_name_of_its_own(rig: Rig, kept: Kept) -> None:
    await rig.workers("a")
    await rig.call("BREW", "/v1/sketch/x")
    server = kept.spans[-1]
    assert server.name == "HTTP /v1/sketch"
    assert server.attributes["http.request.method"] == "_OTHER"
    assert server.attributes["http.request.method_original"] == "BREW"


async def test_who_did_not_sample_is_not_sampled_here(rig: Rig, kept: Kept) -> None:
    (worker,) = await rig.workers("a")
    await rig.call("GET", "/v1/sketch/x", f"traceparent: 00-{TRACE_ID:032x}-{PARENT:016x}-00")
    assert kept.spans == []
    assert str(worker.seen[0].get("traceparent")).endswith("-00")


async def test_a_refused_request_leaves_nothing_behind(rig: Rig, kept: Kept) -> None:
    rig.lane.queue_limit = 0
    assert (await rig.call("GET", "/v1/sketch/x")).status == 503
    assert kept.spans == []


class Collector(BaseHTTPRequestHandler):
    got: list[tuple[str, str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.got.append((self.path, self.headers["content-type"], body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, str, bytes]]]]:
    got: list[tuple[str, str, bytes]] = []
    server = HTTPServer(("127.0.0.1", 0), type("Own", (Collector,), {"got": got}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    thread.join()
    server.server_close()


async def test_spans_arrive_at_a_collector_as_otlp(
    rig: Rig, collector: tuple[str, list[tuple[str, str, bytes]]]
) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    url, got = collector
    tracer = open_tracer(url, "9.9")
    rig.gateway.hub.observer = tracer
    await rig.workers("a")
    await rig.call("GET", "/v1/sketch/x")
    await asyncio.to_thread(tracer.close)
    ((path, kind, body),) = got
    assert (path, kind) == ("/v1/traces", "application/x-protobuf")
    sent = ExportTraceServiceRequest.FromString(body).resource_spans[0]
    assert {a.key: a.value.string_value for a in sent.resource.attributes}["service.name"] == "gpudeck"
    assert [span.name for span in sent.scope_spans[0].spans] == ["execution", "GET /v1/sketch"]


@pytest.mark.parametrize("url", ["localhost:4318", "ftp://x"])
def test_a_wrong_endpoint_is_named(url: str) -> None:
    with pytest.raises(SettingsError, match="otel_endpoint"):
        open_tracer(url, "0")


def test_nothing_of_it_is_imported_unless_asked_for() -> None:
    code = "import sys, orchestrator.wiring; sys.exit(any(n.startswith('opentelemetry') for n in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
