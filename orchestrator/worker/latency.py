"""Latency distributions, written as in `0.1`, `exponential:0.1`, `lognormal:0.2:0.5`, `uniform:0.05:0.2` (seconds)."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Final

SECONDS_MAX: Final = 3_600.0
FORMS: Final = {
    "constant": ("seconds",),
    "exponential": ("mean",),
    "lognormal": ("median", "sigma"),
    "uniform": ("low", "high"),
}


@dataclass(frozen=True, slots=True)
class Latency:
    """A distribution of seconds; draws are cut at SECONDS_MAX."""

    form: str
    values: tuple[float, ...]

    def draw(self, rng: random.Random) -> float:
        """Seconds, from 0 to SECONDS_MAX."""
        first, *rest = self.values
        if self.form == "exponential":
            seconds = rng.expovariate(1 / first) if first > 0 else 0.0
        elif self.form == "lognormal":
            seconds = rng.lognormvariate(math.log(first), rest[0]) if first > 0 else 0.0
        elif self.form == "uniform":
            seconds = rng.uniform(first, rest[0])
        else:
            seconds = first
        return min(seconds, SECONDS_MAX)


def parse_latency(text: str) -> Latency:
    """Raises ValueError, a sentence that lists the forms."""
    form, *numbers = text.split(":") if ":" in text else ["constant", text]
    names = FORMS.get(form)
    if names is None or len(names) != len(numbers):
        forms = ", ".join(f"{name}:{':'.join(parts)}" for name, parts in FORMS.items())
        raise ValueError(f"{text[:60]!a} is no latency; write seconds, or one of {forms}")
    try:
        values = tuple(float(number) for number in numbers)
    except ValueError as error:
        raise ValueError(f"{text[:60]!a}: {' and '.join(names)} must be numbers") from error
    if not all(0 <= value <= SECONDS_MAX for value in values):
        raise ValueError(f"{text[:60]!a}: every number must be from 0 to {SECONDS_MAX:g}")
    if form == "uniform" and values[0] > values[1]:
        raise ValueError(f"{text[:60]!a}: low is more than high")
    return Latency(form, values)
