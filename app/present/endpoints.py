"""The endpoint table: one row an endpoint, the most telling figures first."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from app.format import count, latency, money
from app.present import table
from app.present.chart import area
from app.present.glyphs import endpoint_mark, present_workers, worker_mark
from app.present.rows import Rows
from app.present.table import Column
from app.present.text import Line, Span, Tone, line, on_ground, pad
from orchestrator.contract.snapshot import EndpointState, EndpointView, Snapshot

COLUMNS: Final = (
    Column("name", "ENDPOINT", 12, grow=True, grow_max=24),
    Column("setup", "SETUP", 5),
    Column("gpu", "GPU", 5, rank=5, grow=True, grow_max=10),
    Column("model", "MODEL", 14, rank=10),
    Column("state", "STATE", 11),
    Column("workers", "WORKERS", 7, rank=2),
    Column("queue", "QUEUE", 5, right=True),
    Column("rpm", "RPM", 5, right=True),
    Column("spark", "LAST 60 S", 16, rank=7, grow=True, grow_max=30),
    Column("p50", "P50", 7, rank=8, right=True),
    Column("p95", "P95", 7, rank=3, right=True),
    Column("errors", "ERR", 4, rank=9, right=True),
    Column("cost", "$/H", 7, right=True),
    Column("today", "TODAY", 8, rank=6, right=True),
)
_PIPS_MAX: Final = 10
NO_ENDPOINTS: Final = "No endpoints yet.\nPress n to create one. The dev preset (0-1) costs nothing while idle."


def matching(endpoints: tuple[EndpointView, ...], needle: str) -> tuple[EndpointView, ...]:
    """The endpoints with `needle` in name, model, GPU type or state, in any case; all of them when it is empty."""
    wanted = needle.strip().casefold()
    if not wanted:
        return endpoints
    return tuple(
        endpoint
        for endpoint in endpoints
        if any(
            wanted in text.casefold()
            for text in (endpoint.spec.slug, endpoint.spec.model, endpoint.spec.gpu_type, endpoint_mark(endpoint).word)
        )
    )


def title(snapshot: Snapshot) -> str:
    """How many there are and how many serve, for the frame."""
    serving = sum(endpoint.state is EndpointState.SERVING for endpoint in snapshot.endpoints)
    return f"{serving} of {len(snapshot.endpoints)} serving" if snapshot.endpoints else "none"


def rows(endpoints: tuple[EndpointView, ...], selected: str | None, room: int) -> Rows:
    """The head and one row an endpoint, each exactly `room` cells; the selected one carries a bar and a ground."""
    gap = 2 if room >= 100 else 1
    pips_room = max((min(endpoint.spec.maximum, _PIPS_MAX) for endpoint in endpoints), default=0)
    columns = [replace(c, width=max(c.width, pips_room)) if c.key == "workers" else c for c in COLUMNS]
    chosen = table.choose(columns, room - 2, gap)
    found = Rows()
    found.add([line("  ", table.head(chosen, gap))])
    found.each(endpoints, lambda each: _row(each, chosen, gap, room if each.spec.slug == selected else None))
    return found


def _row(endpoint: EndpointView, chosen: list[tuple[Column, int]], gap: int, marked: int | None) -> Line:
    """`marked` is the room of a selected row."""
    widths = {column.key: size for column, size in chosen}
    body = table.row(_cells(endpoint, marked is not None, widths), chosen, gap)
    if marked is None:
        return line("  ", body)
    return pad(on_ground(line(Span("▌", Tone.ACCENT), " ", body), Tone.SELECTED), marked)


def pips(endpoint: EndpointView) -> Line:
    """One glyph a worker and a dot for each that may still start: `●●◐··` is three of at most five."""
    workers = present_workers(endpoint)
    spare = max(endpoint.spec.maximum - len(workers), 0)
    if len(workers) + spare > _PIPS_MAX:
        return line(f"{len(workers)} of {endpoint.spec.maximum}")
    marks = [worker_mark(worker) for worker in workers]
    return line(*(Span(mark.glyph, mark.tone) for mark in marks), Span("·" * spare, Tone.FAINT))


def _cells(endpoint: EndpointView, selected: bool, widths: dict[str, int]) -> dict[str, Line]:
    spec, traffic, cost = endpoint.spec, endpoint.traffic, endpoint.cost
    quiet = not traffic.rpm
    return {
        "name": line(Span(spec.slug, Tone.STRONG if selected else Tone.PLAIN)),
        "setup": line(spec.setup),
        "gpu": line(Span(spec.gpu_type, Tone.MUTED)),
        "model": line(Span(spec.model, Tone.MUTED)),
        "state": line(endpoint_mark(endpoint).spans()),
        "workers": pips(endpoint),
        "queue": line(Span(count(traffic.queued), Tone.STARTING if traffic.queued else Tone.FAINT)),
        "rpm": line(Span(count(traffic.rpm), Tone.FAINT if quiet else Tone.PLAIN)),
        "spark": area(traffic.requests_series[-60:], widths.get("spark", 0))[0],
        "p50": line(Span(latency(traffic.p50_ms), Tone.FAINT if traffic.p50_ms is None else Tone.PLAIN)),
        "p95": line(Span(latency(traffic.p95_ms), Tone.FAINT if traffic.p95_ms is None else Tone.PLAIN)),
        "errors": line(Span(count(traffic.failed_total), Tone.FAILED if traffic.failed_total else Tone.FAINT)),
        "cost": line(Span(money(cost.per_hour_u), Tone.PLAIN if cost.per_hour_u else Tone.FAINT)),
        "today": line(Span(money(cost.today_u), Tone.PLAIN if cost.today_u else Tone.FAINT)),
    }
