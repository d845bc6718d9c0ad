"""The measurement as text and as a JSON document, and which of the promised figures it meets. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
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

DIRECT: Final = "direct"
SATURATED: Final = 0.9
"""A proxy whose core was less busy than this was not at its limit: the load, the upstreams or other programs were. Its
capacity is then what its CPU per request allows."""
PACE_REACHED: Final = 0.98
"""Share of the rate asked for below which a run was not at that rate."""
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
        ratio = results.paced[OURS].p99_us / results.paced["nginx"].p99_us
        reached = min(paced.rate / paced.asked for paced in results.paced.values())
        name = f"p99 at {PACE_LOAD:.0%} load, to nginx's"
        found.append(Figure(name, ratio, 2.0, settled=reached >= PACE_REACHED))
    if OURS in results.memory_bytes:
        found.append(Figure(f"MiB with {MEMORY_CONNECTIONS:,} connections", results.memory_bytes[OURS] / MIB, 60))
    return found


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
        f"{MEMORY}_bytes": results.memory_bytes,
    }


def text(results: Results, names: Sequence[str], setting: Sequence[str]) -> str:
    """Tables for people. `names` are the targets in order, `setting` lines that say how it was measured."""
    blocks = ["\n".join(setting)]
    if results.loads:
        blocks.append("Requests per second, closed loop\n" + _table(_rate_rows(results, names)))
        blocks.append("CPU per request in µs, and how busy the proxy's core was\n" + _table(_cpu_rows(results, names)))
    if any(connections == 1 for _, connections, _ in results.loads):
        blocks.append("Median latency of one connection in µs\n" + _table(_single_rows(results, names)))
    if results.paced:
        rate = max(paced.asked for paced in results.paced.values())
        title = f"Latency in µs at a fixed {rate:,.0f} requests/s, open loop\n"
        blocks.append(title + _table(_paced_rows(results)))
    if results.memory_bytes:
        rows = [["", *results.memory_bytes], ["MiB", *(f"{n / MIB:.1f}" for n in results.memory_bytes.values())]]
        blocks.append(f"Memory with {MEMORY_CONNECTIONS:,} connections\n" + _table(rows))
    figures = figures_of(results)
    if figures:
        rows = [["to reach", "", "limit", ""]]
        for figure in figures:
            sign = "≥" if figure.at_least else "≤"
            rows.append([figure.name, f"{figure.value:.2f}", f"{sign} {figure.limit:g}", figure.verdict])
        blocks.append(_table(rows))
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
    yield ["p99 of the client's own lateness", *(f"{paced.late_p99_us:,.0f}" for paced in results.paced.values())]
    yield ["requests/s reached", *(f"{paced.rate:,.0f}" for paced in results.paced.values())]


def _rows(results: Results) -> Iterator[tuple[str, str, int]]:
    """Title, scenario and connections of every row, in the order of SCENARIOS."""
    for scenario in SCENARIOS:
        for connections in sorted({count for name, count, _ in results.loads if name == scenario.name}):
            yield scenario.title, scenario.name, connections


def _load(results: Results, scenario: str, connections: int, target: str) -> Load | None:
    return results.loads.get((scenario, connections, target))


def _table(rows: Iterator[list[str]] | list[list[str]]) -> str:
    """Aligned text: the first column left, all others right."""
    table = list(rows)
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if not i else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    ]
    return "\n".join(f"  {line.rstrip()}" for line in lines)
