"""The measurement as text and as a JSON document, and which of the promised figures it meets. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any, Final

from orchestrator.bench.gateway_rounds import (
    LATENCY,
    MEMORY,
    MEMORY_CONNECTIONS,
    OURS,
    PACE_LOAD,
    SCENARIOS,
    Load,
    Results,
)
from orchestrator.bench.table import aligned

DIRECT: Final = "direct"
SATURATED: Final = 0.9
"""A proxy whose core was less busy than this was not at its limit: the load, the upstreams or other programs were. Its
capacity is then what its CPU per request allows."""
PACE_REACHED: Final = 0.98
"""Share of the rate asked for below which a run was not at that rate."""
LATE_MAX: Final = 0.5
"""Part of a p99 that may be the client's own lateness: beyond, it is the client that was measured."""
WAITED_MAX: Final = 0.01
"""Share of the time for which other programs may keep a proxy from its core."""
AGREEING: Final = 0.8
"""Share of the rounds that must come to the verdict of their median."""
MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Figure:
    """One promised figure: what was measured, and the limit it must keep to."""

    name: str
    value: float
    limit: float
    at_least: bool = False
    settled: bool = True
    """False when the load could not be applied as it should have been: the value says nothing."""

    @property
    def verdict(self) -> str:
        if not self.settled:
            return "unsettled"
        return "met" if self.met else "missed"

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def figures_of(results: Results) -> list[Figure]:
    """The figures of issue 5 that `results` has the measurements for."""
    found = []
    ours, nginx = _load(results, "get", 32, OURS), _load(results, "get", 32, "nginx")
    if ours and nginx:
        name = "requests/s at 32 connections, to nginx's"
        found.append(Figure(name, capacity_ratio(ours, nginx)[0], 0.6, at_least=True))
    added, others = added_us(results, OURS), added_us(results, "nginx")
    if added is not None and others:
        found.append(Figure("median added to one connection's requests, to nginx's", added / others, 1.3))
    if OURS in results.paced and "nginx" in results.paced:
        found.append(_tail_figure(results))
    if OURS in results.memory_bytes:
        found.append(Figure(f"MiB with {MEMORY_CONNECTIONS:,} connections", results.memory_bytes[OURS] / MIB, 60))
    return found


def _tail_figure(results: Results) -> Figure:
    """Our p99 to nginx's, of the same round each. Settled when the load was what it should have been, other programs
    left the proxies alone, and the rounds agree."""
    both = [results.paced[name] for name in (OURS, "nginx")]
    rounds = zip(results.paced_rounds[OURS], results.paced_rounds["nginx"], strict=True)
    ratios = [ours.p99_us / other.p99_us for ours, other in rounds]
    name = f"p99 at {PACE_LOAD:.0%} load, to nginx's"
    figure = Figure(name, median(ratios), 2.0)
    agreeing = sum(Figure(name, ratio, 2.0).met is figure.met for ratio in ratios) / len(ratios)
    undisturbed = all(
        paced.rate >= PACE_REACHED * paced.asked
        and paced.late_p99_us <= LATE_MAX * paced.p99_us
        and paced.waited <= WAITED_MAX
        for paced in both
    )
    return replace(figure, settled=undisturbed and agreeing >= AGREEING)


def capacity_ratio(ours: Load, other: Load) -> tuple[float, bool]:
    """Our throughput to another's, and whether it was measured: both cores were busy. Else it is computed from the CPU
    time that a request costs either; 0 of nothing."""
    if min(ours.busy, other.busy) >= SATURATED:
        return ours.rate / other.rate, True
    return (other.cpu_us / ours.cpu_us if ours.cpu_us else 0.0), False


def added_us(results: Results, name: str) -> float | None:
    """What a proxy adds to the median of one connection's small requests; None when that was not measured."""
    direct, behind = _load(results, "get", 1, DIRECT), _load(results, "get", 1, name)
    return behind.p50_us - direct.p50_us if direct and behind else None


def document(results: Results, setting: dict[str, Any]) -> dict[str, Any]:
    """Everything as one JSON object; `setting` says how it was measured."""
    loads = [
        {"scenario": scenario, "connections": connections, "target": target, **asdict(load)}
        for (scenario, connections, target), load in results.loads.items()
    ]
    figures = [asdict(figure) | {"verdict": figure.verdict} for figure in figures_of(results)]
    return {
        **setting,
        "figures": figures,
        "loads": loads,
        LATENCY: {name: asdict(paced) for name, paced in results.paced.items()},
        f"{LATENCY}_rounds_p99_us": {name: [p.p99_us for p in of] for name, of in results.paced_rounds.items()},
        f"{MEMORY}_bytes": results.memory_bytes,
    }


def text(results: Results, names: Sequence[str], setting: Sequence[str]) -> str:
    """Tables for people. `names` are the targets in order, `setting` lines that say how it was measured."""
    blocks = ["\n".join(setting)]
    if results.loads:
        blocks.append("Requests per second, closed loop\n" + aligned(_rate_rows(results, names)))
        blocks.append("CPU per request in µs, and how busy the proxy's core was\n" + aligned(_cpu_rows(results, names)))
    if any(connections == 1 for _, connections, _ in results.loads):
        blocks.append("Median latency of one connection in µs\n" + aligned(_single_rows(results, names)))
    if results.paced:
        rate = max(paced.asked for paced in results.paced.values())
        title = f"Latency in µs at a fixed {rate:,.0f} requests/s, open loop, with real-time priority where allowed\n"
        blocks.append(title + aligned(_paced_rows(results)))
    if results.memory_bytes:
        rows = [["", *results.memory_bytes], ["MiB", *(f"{n / MIB:.1f}" for n in results.memory_bytes.values())]]
        blocks.append(f"Memory with {MEMORY_CONNECTIONS:,} connections\n" + aligned(rows))
    figures = figures_of(results)
    if figures:
        rows = [["to reach", "", "limit", ""]]
        for figure in figures:
            sign = "≥" if figure.at_least else "≤"
            rows.append([figure.name, f"{figure.value:.2f}", f"{sign} {figure.limit:g}", figure.verdict])
        blocks.append(aligned(rows))
    return "\n\n".join(blocks) + "\n"


def _rate_rows(results: Results, names: Sequence[str]) -> Iterator[list[str]]:
    others = [name for name in names if name not in (DIRECT, OURS)]
    yield ["", "conn.", *names, *(f"to {name}" for name in others)]
    for title, scenario, connections in _rows(results):
        loads = [_load(results, scenario, connections, name) for name in names]
        ours = _load(results, scenario, connections, OURS)
        ratios = [_ratio(ours, _load(results, scenario, connections, name)) for name in others]
        yield [title, str(connections), *(f"{load.rate:,.0f}" if load else "–" for load in loads), *ratios]


def _ratio(ours: Load | None, other: Load | None) -> str:
    if ours is None or other is None:
        return "–"
    ratio, measured = capacity_ratio(ours, other)
    return f"{ratio:.2f}" if measured else f"{ratio:.2f}*"


def _cpu_rows(results: Results, names: Sequence[str]) -> Iterator[list[str]]:
    proxies = [name for name in names if name != DIRECT]
    yield ["", "conn.", *(column for name in proxies for column in (name, "kernel", "busy"))]
    for title, scenario, connections in _rows(results):
        row = [title, str(connections)]
        for name in proxies:
            load = _load(results, scenario, connections, name)
            row += [f"{load.cpu_us:,.1f}", f"{load.kernel_us:,.1f}", f"{load.busy:.0%}"] if load else ["–"] * 3
        yield row


def _single_rows(results: Results, names: Sequence[str]) -> Iterator[list[str]]:
    yield ["", *names]
    for title, scenario, connections in _rows(results):
        if connections == 1:
            loads = [_load(results, scenario, 1, name) for name in names]
            yield [title, *(f"{load.p50_us:,.0f}" if load else "–" for load in loads)]
    if any(added_us(results, name) is not None for name in names):
        shown = [added_us(results, name) if name != DIRECT else None for name in names]
        yield [f"added to {SCENARIOS[0].title}", *("–" if us is None else f"{us:,.0f}" for us in shown)]


def _paced_rows(results: Results) -> Iterator[list[str]]:
    yield ["", *results.paced]
    yield ["p50", *(f"{paced.p50_us:,.0f}" for paced in results.paced.values())]
    yield ["p99", *(f"{paced.p99_us:,.0f}" for paced in results.paced.values())]
    yield ["p99, lowest round", *(f"{min(p.p99_us for p in of):,.0f}" for of in results.paced_rounds.values())]
    yield ["p99, highest round", *(f"{max(p.p99_us for p in of):,.0f}" for of in results.paced_rounds.values())]
    yield ["p99, median burst of 0.4 s", *(f"{paced.burst_p99_us:,.0f}" for paced in results.paced.values())]
    yield ["p99 of the client's own lateness", *(f"{paced.late_p99_us:,.0f}" for paced in results.paced.values())]
    yield ["requests/s reached", *(f"{paced.rate:,.0f}" for paced in results.paced.values())]
    yield ["CPU per request", *(f"{paced.cpu_us:,.1f}" if paced.cpu_us else "–" for paced in results.paced.values())]
    # Why a tail is long: a pause is made up for only in what is left of the core.
    yield ["how busy its core was", *(f"{paced.busy:.0%}" if paced.busy else "–" for paced in results.paced.values())]
    late = (f"{paced.late_per_pause:.1f} ms" if paced.busy else "–" for paced in results.paced.values())
    yield ["requests late by 1 ms of pause", *late]
    yield ["kept from its core", *(f"{paced.waited:.1%}" for paced in results.paced.values())]


def _rows(results: Results) -> Iterator[tuple[str, str, int]]:
    """Title, scenario and connections of every row, in the order of SCENARIOS."""
    for scenario in SCENARIOS:
        for connections in sorted({count for name, count, _ in results.loads if name == scenario.name}):
            yield scenario.title, scenario.name, connections


def _load(results: Results, scenario: str, connections: int, target: str) -> Load | None:
    return results.loads.get((scenario, connections, target))
