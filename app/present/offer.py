"""Prices as the form shows them: what can be chosen, what it costs, whether the credit is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from app.format import money, plain, rate_per_hour, rate_per_second
from app.present import form, table
from app.present.form import Change
from app.present.table import Column
from app.present.text import BLANK, ERROR, GOOD, WARNING, Line, Span, Tone, clip_line, flow, line, spread, wrap
from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.contract.query import Quote
from orchestrator.contract.snapshot import CapacityView, Snapshot

TOP_UP_KEY: Final = "^t"
_MODEL_COLUMNS: Final = (
    Column("name", "MODEL", 10, grow=True, grow_max=16),
    Column("kind", "KIND", 7),
    Column("engines", "ENGINES", 14),
    Column("title", "WHAT IT IS", 14, rank=1, grow=True),
)
_GPU_COLUMNS: Final = (
    Column("type", "GPU", 5, grow=True, grow_max=12),
    Column("base", "ALWAYS ON", 11, right=True),
    Column("auto", "EXTRA", 15, rank=1, right=True),
    Column("free", "FREE", 11, right=True),
    Column("mark", "", 9),
)


@dataclass(frozen=True, slots=True)
class Offer:
    """What the form knows of the price: nothing yet (all None), an answer, or why there is none."""

    spec: EndpointSpec | None = None
    quote: Quote | None = None
    problem: str | None = None


def model_rows(snapshot: Snapshot, room: int) -> list[Line]:
    """One row a model of the catalogue: its name, kind, the engines that run it, its title."""
    chosen = table.choose(_MODEL_COLUMNS, room, 2)
    rows = []
    for model in snapshot.models:
        able = form.model_objection(model, snapshot) is None
        engines = " ".join(kind.value for kind in model.engines)
        rows.append(
            table.row(
                {
                    "name": line(Span(plain(model.name), Tone.PLAIN if able else Tone.MUTED)),
                    "kind": line(Span(model.kind, Tone.MUTED)),
                    "engines": line(
                        Span(engines, Tone.MUTED) if able else Span(f"✖ needs {engines or 'another'}", ERROR)
                    ),
                    "title": line(Span(plain(model.title), Tone.MUTED)),
                },
                chosen,
                2,
            )
        )
    return rows


def gpu_types(snapshot: Snapshot) -> tuple[str, ...]:
    """Every type that is priced or present; those a worker can run on come first."""
    names = dict.fromkeys([*(p.gpu_type for p in snapshot.prices), *(c.gpu_type for c in snapshot.capacity)])
    return tuple(sorted(names, key=lambda name: form.gpu_objection(name, snapshot) is not None))


def is_simulated(gpu_type: str, snapshot: Snapshot) -> bool:
    """Whether GPUs of this type here are declared ones, not hardware."""
    return any(gpu.simulated for gpu in snapshot.gpus if gpu.type == gpu_type)


def capacity_of(gpu_type: str, snapshot: Snapshot) -> CapacityView | None:
    return next((each for each in snapshot.capacity if each.gpu_type == gpu_type), None)


def gpu_rows(snapshot: Snapshot, room: int) -> list[Line]:
    """One row a GPU type: price of a worker always on by the hour, of an extra one by the second, what is free."""
    gap = 2 if room >= 62 else 1
    marked = any(is_simulated(name, snapshot) for name in gpu_types(snapshot))
    chosen = table.choose([c for c in _GPU_COLUMNS if marked or c.key != "mark"], room, gap)
    prices = {price.gpu_type: price for price in snapshot.prices}
    rows = []
    for name in gpu_types(snapshot):
        price, there = prices.get(name), capacity_of(name, snapshot)
        able = form.gpu_objection(name, snapshot) is None
        quiet = Tone.PLAIN if able else Tone.FAINT
        free = max(there.total - there.reserved, 0) if there else 0
        rows.append(
            table.row(
                {
                    "type": line(Span(plain(name), Tone.PLAIN if able else Tone.MUTED)),
                    "base": line(Span(f"{rate_per_hour(price.baseline_uh)} on" if price else "", quiet)),
                    "auto": line(Span(f"{rate_per_second(price.autoscale_uh)} extra" if price else "", quiet)),
                    "free": _free(there, free, priced=price is not None),
                    "mark": line(Span("SIMULATED", WARNING) if is_simulated(name, snapshot) else ""),
                },
                chosen,
                gap,
            )
        )
    return rows


def _free(there: CapacityView | None, free: int, *, priced: bool) -> Line:
    if not priced:
        return line(Span("✖ no price", ERROR))
    if there is None or there.total == 0:
        return line(Span("none here", Tone.FAINT))
    return line(Span(f"{free} of {there.total} free", GOOD if free else WARNING))


def waiting(offer: Offer, *, complete: bool, room: int) -> list[Line]:
    """What stands in the place of a price while there is none; nothing when there is one."""
    if not complete:
        return wrap("The price appears once the marked fields are right.", room, Tone.MUTED)
    if offer.problem is not None:
        return wrap(f"✖ no price: {plain(offer.problem)}", room, ERROR)
    if offer.quote is None:
        return [line(Span("◐ ", Tone.STARTING), Span("asking for the price", Tone.MUTED))]
    return []


def panel(spec: EndpointSpec, quote: Quote, snapshot: Snapshot, room: int) -> list[Line]:
    """Price, credit and GPUs beside the form, under headings."""
    extra = spec.maximum - spec.baseline
    price = next((each for each in snapshot.prices if each.gpu_type == spec.gpu_type), None)
    lines = [
        heading("Price", plain(snapshot.price_book), room),
        _pair(f"always on, {spec.baseline} × {spec.gpu_type}", rate_per_hour(quote.baseline_per_hour_u), room),
    ]
    if extra:
        lines.append(
            _pair(
                "1 extra worker" if extra == 1 else f"each of {extra} extra",
                rate_per_hour(quote.autoscale_per_hour_each_u),
                room,
            )
        )
        lines.append(_pair("", f"= {rate_per_second(quote.autoscale_per_hour_each_u)}", room, Tone.MUTED))
    else:
        lines.append(_pair("extra workers", "none", room, Tone.MUTED))
    lines.append(
        spread(
            line(Span("WORST CASE", Tone.STRONG)),
            line(Span(rate_per_hour(quote.worst_case_per_hour_u), Tone.STRONG)),
            room,
        )
    )
    if price is not None:
        parts = [f"{spec.baseline} × {money(price.baseline_uh)}"] if spec.baseline else []
        parts += [f"{extra} × {money(price.autoscale_uh)}"] if extra else []
        lines.append(spread((), line(Span(" + ".join(parts), Tone.FAINT)), room))
    lines += [BLANK, heading("Credit", "", room), _pair("balance", money(quote.balance_u), room)]
    lines.append(_pair("needed for 24 h", money(quote.gate_u), room))
    lines.append(_pair("warns below (10 h)", money(quote.warning_at_u), room))
    lines += _verdict(quote, room)
    lines += [BLANK, heading("GPUs", "", room)]
    lines.append(
        spread(
            line(Span(plain(spec.gpu_type), Tone.MUTED)),
            line(Span(f"{quote.gpus_free} of {quote.gpus_total} free", GOOD if quote.gpus_free else WARNING)),
            room,
        )
    )
    if is_simulated(spec.gpu_type, snapshot):
        lines.append(spread((), line(Span("SIMULATED", WARNING)), room))
    return lines


def strip(spec: EndpointSpec, quote: Quote, snapshot: Snapshot, room: int) -> list[Line]:
    """The same in two or three lines under the form, the worst case first."""
    price = [
        line(Span("WORST CASE ", Tone.STRONG), Span(rate_per_hour(quote.worst_case_per_hour_u), Tone.STRONG)),
        _said("always on", rate_per_hour(quote.baseline_per_hour_u)),
    ]
    if spec.maximum > spec.baseline:
        each_uh = quote.autoscale_per_hour_each_u
        price.append(_said("each extra", f"{rate_per_hour(each_uh)} {rate_per_second(each_uh)}"))
    free = Span(f"{quote.gpus_free} of {quote.gpus_total}", GOOD if quote.gpus_free else WARNING)
    credit = [
        *_verdict(quote, room),
        _said("balance", money(quote.balance_u)),
        _said("needs", money(quote.gate_u)),
        _said("warns below", money(quote.warning_at_u)),
        line(free, Span(f" {plain(spec.gpu_type)} free", Tone.MUTED)),
    ]
    if is_simulated(spec.gpu_type, snapshot):
        credit.append(line(Span("SIMULATED", WARNING)))
    return [*flow(price, room, gap=3), *flow(credit, room, gap=3)]


def _verdict(quote: Quote, room: int) -> list[Line]:
    """The credit check: balance against the 24 h gate."""
    short_u = quote.gate_u - quote.balance_u
    if short_u <= 0:
        return [line(Span("✔ credit ok", GOOD))]
    if quote.refusal is None:
        return wrap("▲ below 24 h; a decrease always passes", room, WARNING)
    cents_u = 10_000
    return flow(
        [
            line(Span(f"✖ short by {money(-(-short_u // cents_u) * cents_u)}", ERROR)),
            line(Span(TOP_UP_KEY, Tone.ACCENT), Span(" tops up", Tone.MUTED)),
        ],
        room,
    )


def diff_rows(changes: tuple[Change, ...], room: int, *, compact: bool = False) -> list[Line]:
    """What an edit changes, one line a field (side by side when `compact`), and what that does to the workers."""
    if not changes:
        return [line(Span("Nothing has changed yet.", Tone.MUTED))]
    name_room = 0 if compact else max(len(change.label) for change in changes) + 1
    rows = [
        line(
            Span("↻ " if change.rolls else "✔ ", Tone.STARTING if change.rolls else GOOD),
            Span(f"{change.label:<{name_room}} ", Tone.MUTED),
            Span(f"{change.before} ", Tone.MUTED),
            Span("→ ", Tone.FAINT),
            Span(change.after, Tone.STRONG),
        )
        for change in changes
    ]
    told = flow(rows, room, gap=3) if compact else [clip_line(row, room) for row in rows]
    if any(change.rolls for change in changes):
        text = "↻ rolls the workers: new ones are ready before old ones drain, no request is lost."
        return [*told, *wrap(text, room, Tone.STARTING)]
    return [*told, *wrap("✔ applies at once, the workers go on.", room, GOOD)]


def heading(name: str, note: str, room: int) -> Line:
    """A heading with a quiet note at its right."""
    return spread(line(Span(name, Tone.ACCENT)), line(Span(note, Tone.FAINT)), room)


def _pair(name: str, value: str, room: int, tone: Tone = Tone.PLAIN) -> Line:
    return spread(line(Span(name, Tone.MUTED)), line(Span(value, tone)), room)


def _said(name: str, value: str) -> Line:
    return line(Span(f"{name} ", Tone.MUTED), Span(value))
