"""Spans of requests for OpenTelemetry, sent as OTLP over HTTP. An extra: `gpudeck[otel]`, and `otel_endpoint` in the
settings; without both, nothing of OpenTelemetry is imported.

W3C Trace Context says who may touch `traceparent`. Without tracing gpudeck takes no part in traces: the field passes as
it came, and none is made. With it, gpudeck is a participant: it joins the caller's trace or begins one, and the worker
gets the span of its execution as its parent. A caller that did not sample is not sampled here either.

    SERVER  POST /v1/{endpoint}                 arrival to last byte
      INTERNAL  queue | cold start              arrival to dispatch
      CLIENT  execution                         dispatch to last byte; the worker's parent
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from orchestrator.gateway.head import RequestHead
from orchestrator.gateway.observing import Ended, Observer, traceparent_of
from orchestrator.settings import SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

_SAMPLED: Final = 1
_CONTEXT_FIELDS: Final = (b"traceparent:", b"tracestate:")
_METHODS: Final = frozenset({"GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Any other token is a method too, and must not become a name of its own in whoever stores the spans: `_OTHER` in the
attribute and `HTTP` in the name, as the conventions for HTTP spans have it."""


class TracingUnavailable(SettingsError):
    """OpenTelemetry is not installed, or the endpoint is no URL. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Ids of one request's spans. `parent` is the caller's span, None where the trace begins here."""

    trace_id: int
    parent: int | None
    server: int
    execution: int
    sampled: bool


class _TracedHead(RequestHead):
    """A copy of a head that carries its ids, and fields of its own for the worker."""

    __slots__ = ("trace",)

    def __init__(self, head: RequestHead, trace: Trace) -> None:
        super().__init__(head.method, head.target, head.minor)
        for name in RequestHead.__slots__:
            setattr(self, name, getattr(head, name))
        self.back = None  # it follows from the fields, which are about to differ
        self.trace = trace


class Tracer:
    """An `Observer`. `processor` exports in a thread of its own (BatchSpanProcessor)."""

    def __init__(self, processor: SpanProcessor, resource: Any) -> None:
        self._processor = processor
        self._resource = resource

    def admitted(self, head: RequestHead) -> RequestHead:
        trace = begin(traceparent_of(head.kept))
        joined = _TracedHead(head, trace)
        lines = [line for line in head.kept if not line.lower().startswith(_CONTEXT_FIELDS)]
        if trace.parent is not None:  # its state belongs to the trace that goes on
            lines += [line for line in head.kept if line.lower().startswith(_CONTEXT_FIELDS[1])]
        lines.append(spell(trace.trace_id, trace.execution, sampled=trace.sampled))
        joined.kept = lines
        return joined

    def ended(self, request: Ended) -> None:
        head = request.head
        if isinstance(head, _TracedHead) and head.trace.sampled:
            for span in spans_of(request, head.trace, self._resource):
                self._processor.on_end(span)

    def answered(self, head: RequestHead | None, request_id: bytes, status: int, bytes_out: int) -> None:
        """What never reached an endpoint has no span: refusals are counted, and in the access log."""

    def close(self) -> None:
        """Send what is left."""
        self._processor.shutdown()


def open_tracer(endpoint: str, version: str, processor: SpanProcessor | None = None) -> Tracer:
    """A tracer that exports to `endpoint`, such as http://127.0.0.1:4318. Raises TracingUnavailable."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise TracingUnavailable("otel_endpoint: OpenTelemetry is not installed; install gpudeck[otel]") from error
    if not endpoint.startswith(("http://", "https://")):
        raise TracingUnavailable("otel_endpoint: must be a URL such as http://127.0.0.1:4318")
    if processor is None:
        processor = BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces"))
    return Tracer(processor, Resource.create({"service.name": "gpudeck", "service.version": version}))


def begin(
    traceparent: bytes | None, random: Callable[[int], int] = lambda size: int.from_bytes(secrets.token_bytes(size))
) -> Trace:
    """The ids of a request that came with this `traceparent` (checked by `traceparent_of`), or with none."""
    server, execution = random(8) or 1, random(8) or 1
    if traceparent is None:
        return Trace(random(16) or 1, None, server, execution, sampled=True)
    _, trace_id, parent, flags = traceparent.split(b"-")[:4]
    return Trace(int(trace_id, 16), int(parent, 16), server, execution, sampled=bool(int(flags, 16) & _SAMPLED))


def spell(trace_id: int, span_id: int, *, sampled: bool) -> bytes:
    """The field line for the worker, in version 00."""
    return b"traceparent: 00-%032x-%016x-%02x" % (trace_id, span_id, _SAMPLED if sampled else 0)


def spans_of(request: Ended, trace: Trace, resource: Any) -> list[Any]:
    """The request's spans as the SDK exports them, children first."""
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

    flags = TraceFlags(_SAMPLED)

    def context(span_id: int, *, remote: bool = False) -> SpanContext:
        return SpanContext(trace.trace_id, span_id, is_remote=remote, trace_flags=flags)

    def span(name: str, span_id: int, parent: SpanContext | None, kind: SpanKind, begin_ns: int, end_ns: int) -> Any:
        failed = request.status >= 500 and kind is not SpanKind.INTERNAL
        return ReadableSpan(
            name=name,
            context=context(span_id),
            parent=parent,
            resource=resource,
            attributes=_attributes(request) if kind is not SpanKind.INTERNAL else {"gpudeck.endpoint": request.slug},
            kind=kind,
            status=Status(StatusCode.ERROR if failed else StatusCode.UNSET),
            start_time=begin_ns,
            end_time=end_ns,
        )

    arrived_ns = request.at_ns - request.total_ns
    dispatched_ns = arrived_ns + request.queue_ns
    server = context(trace.server)
    method = request.head.method.decode("ascii", "replace")
    method = method if method in _METHODS else "HTTP"
    found = []
    if request.queue_ns:
        name = "cold start" if request.cold else "queue"
        queue_id = trace.server ^ trace.execution or 1  # a third id out of two random ones
        found.append(span(name, queue_id, server, SpanKind.INTERNAL, arrived_ns, dispatched_ns))
    if request.worker_id is not None:
        found.append(span("execution", trace.execution, server, SpanKind.CLIENT, dispatched_ns, request.at_ns))
    parent = None if trace.parent is None else context(trace.parent, remote=True)
    route = f"{method} /v1/{request.slug}"
    return [*found, span(route, trace.server, parent, SpanKind.SERVER, arrived_ns, request.at_ns)]


def _attributes(request: Ended) -> dict[str, str | int | bool]:
    """Names of the stable HTTP conventions where there is one."""
    method = request.head.method.decode("ascii", "replace")
    told: dict[str, str | int | bool] = {
        "http.request.method": method if method in _METHODS else "_OTHER",
        "http.response.status_code": request.status,
        "http.request.body.size": request.bytes_in,
        "http.response.body.size": request.bytes_out,
        "http.route": f"/v1/{request.slug}",
        "gpudeck.endpoint": request.slug,
        "gpudeck.account": request.account,
        "gpudeck.key_id": request.key_id,
        "gpudeck.request_id": request.request_id.decode("ascii", "replace"),
        "gpudeck.cold_start": request.cold,
    }
    if method not in _METHODS:
        told["http.request.method_original"] = method
    if request.worker_id is not None:
        told["gpudeck.worker_id"] = request.worker_id
    if request.status >= 500:
        told["error.type"] = str(request.status)
    return told


class Both:
    """Two observers as one. The log is told of the head with the trace that was joined."""

    def __init__(self, tracer: Tracer, log: Observer) -> None:
        self._tracer = tracer
        self._log = log

    def admitted(self, head: RequestHead) -> RequestHead:
        return self._tracer.admitted(head)

    def ended(self, request: Ended) -> None:
        self._tracer.ended(request)
        self._log.ended(request)

    def answered(self, head: RequestHead | None, request_id: bytes, status: int, bytes_out: int) -> None:
        self._log.answered(head, request_id, status, bytes_out)
