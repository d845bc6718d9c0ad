"""The text format of Prometheus (version 0.0.4). Pure: text from values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
Number = int | float
Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Buckets:
    """A histogram: `counts` of values up to each of `bounds` (not cumulative), then those beyond; their sum."""

    bounds: Sequence[float]
    counts: Sequence[int]
    total: float

    def __post_init__(self) -> None:
        assert len(self.counts) == len(self.bounds) + 1, "one more count than bounds: what lies beyond the last"


@dataclass(slots=True)
class Family:
    """One metric with all its series. The name has the unit, and `_total` for counters."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    series: list[tuple[Labels, Number | Buckets]] = field(default_factory=list)

    def add(self, value: Number | Buckets | None, **labels: str) -> None:
        """A series; None is left out: what is not known is not 0."""
        if value is not None:
            self.series.append((labels, value))


def render(families: Iterable[Family]) -> bytes:
    """The whole exposition. Families without series are left out."""
    lines: list[str] = []
    for family in families:
        if not family.series:
            continue
        lines.append(f"# HELP {family.name} {_escaped(family.text)}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        for labels, value in family.series:
            if isinstance(value, Buckets):
                lines.extend(_histogram(family.name, labels, value))
            else:
                lines.append(f"{family.name}{_labels(labels)} {_number(value)}")
    return "\n".join([*lines, ""]).encode()


def _histogram(name: str, labels: Labels, value: Buckets) -> Iterable[str]:
    below = 0
    for bound, count in zip([*map(_number, value.bounds), "+Inf"], value.counts, strict=True):
        below += count
        yield f"{name}_bucket{_labels({**labels, 'le': bound})} {below}"
    yield f"{name}_sum{_labels(labels)} {_number(value.total)}"
    yield f"{name}_count{_labels(labels)} {below}"


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value, quotes=True)}"' for name, value in labels.items()) + "}"


def _escaped(text: str, *, quotes: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def _number(value: Number) -> str:
    return str(value) if isinstance(value, int) else repr(value)
