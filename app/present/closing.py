"""What stopping something means, in words and figures: an endpoint, or everything."""

from __future__ import annotations

from typing import NamedTuple

from app.format import counted, money, plain, rate_per_hour
from app.present.glyphs import endpoint_mark
from app.present.text import BLANK, Line, Span, Tone, flow, line, wrap
from orchestrator.contract.snapshot import EndpointView, Snapshot, WorkerState

_ENDED = frozenset({WorkerState.STOPPED, WorkerState.FAILED})


class Running(NamedTuple):
    """What is alive now: workers the engine has, requests in flight and queued, micro-dollars per hour."""

    workers: int
    requests: int
    queued: int
    per_hour_u: int


def running(*endpoints: EndpointView) -> Running:
    """The sum over `endpoints`."""
    return Running(
        sum(worker.state not in _ENDED for each in endpoints for worker in each.workers),
        sum(each.traffic.running for each in endpoints),
        sum(each.traffic.queued for each in endpoints),
        sum(each.cost.per_hour_u for each in endpoints),
    )


def stopping(endpoint: EndpointView, room: int, *, forget: bool) -> list[Line]:
    """What disabling (or, with `forget`, deleting) `endpoint` does, one line a consequence."""
    now = running(endpoint)
    mark = endpoint_mark(endpoint)
    spec = endpoint.spec
    lines = [
        line(
            Span(spec.slug, Tone.STRONG),
            Span(f"  {spec.setup} × {plain(spec.gpu_type)}  ", Tone.MUTED),
            *mark.spans(),
        ),
        BLANK,
    ]
    if now.requests or now.queued:
        waiting = f", {now.queued:,} queued" if now.queued else ""
        lines += _point(f"drains: {counted(now.requests, 'running request')}{waiting} may finish first", room)
    else:
        lines += _point("nothing to drain: no request is running", room)
    if now.workers:
        lines += _point(f"stops {counted(now.workers, 'worker')}, which cost {rate_per_hour(now.per_hour_u)} now", room)
    lines += _point("new requests are refused at once", room)
    total, today = money(endpoint.cost.total_u), money(endpoint.cost.today_u)
    lines += _point(f"its bill so far stays: {total} in all, {today} today", room)
    if forget:
        lines += _point("its specification is gone; the name becomes free", room)
    else:
        lines += _point("it stays listed; d starts it again, past the credit check", room)
    return lines


def quitting(snapshot: Snapshot, room: int) -> list[Line]:
    """What runs now, for the head of the quit dialog."""
    now = running(*snapshot.endpoints)
    if not now.workers:
        more = ": it starts workers when somebody calls." if snapshot.endpoints else "."
        return [
            *wrap("Nothing runs and nothing is billed.", room, Tone.STRONG),
            *wrap(f"The orchestrator still listens{more}", room, Tone.MUTED),
        ]
    ends = sum(bool(running(each).workers) for each in snapshot.endpoints)
    cost = line(
        Span(counted(now.workers, "worker"), Tone.STRONG),
        Span(f" of {counted(ends, 'endpoint')} cost ", Tone.MUTED),
        Span(rate_per_hour(now.per_hour_u), Tone.STRONG),
        Span(",", Tone.MUTED),
    )
    return flow([cost, line(Span(f"{counted(now.requests, 'request')} in flight.", Tone.MUTED))], room, gap=1)


def leaving(snapshot: Snapshot, room: int) -> list[Line]:
    """What leaving everything running means."""
    now = running(*snapshot.endpoints)
    if not now.workers:
        return wrap("only this screen closes; endpoints go on answering", room, Tone.MUTED)
    go = "goes" if now.workers == 1 else "go"
    text = f"{counted(now.workers, 'worker')} {go} on at {rate_per_hour(now.per_hour_u)}; gpudeck opens this again"
    return wrap(text, room, Tone.MUTED)


def draining(snapshot: Snapshot, room: int) -> list[Line]:
    """What draining and stopping everything means."""
    now = running(*snapshot.endpoints)
    if not now.workers:
        return wrap("ends the orchestrator; the ledger and the endpoints are kept", room, Tone.MUTED)
    stop = "stops" if now.workers == 1 else "stop"
    text = f"requests finish, {counted(now.workers, 'worker')} {stop}, every bill is closed; endpoints are kept"
    return wrap(text, room, Tone.MUTED)


def _point(text: str, room: int) -> list[Line]:
    rows = wrap(text, room - 2)
    return [line(Span("· " if index == 0 else "  ", Tone.ACCENT), row) for index, row in enumerate(rows)]
