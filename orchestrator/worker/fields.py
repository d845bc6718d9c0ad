"""Reading options that arrive as JSON values or as text (form fields, query string), with one error style for both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from orchestrator.worker.problem import Problem, shown

TRUE: Final = frozenset({"1", "true", "yes", "on"})
FALSE: Final = frozenset({"0", "false", "no", "off"})


class Fields:
    """Options of one request. Raises Problem 422 for an unknown name: a typo would otherwise be silently ignored."""

    def __init__(self, values: Mapping[str, object], known: frozenset[str]) -> None:
        for name in values:
            if name not in known:
                names = ", ".join(sorted(known))
                raise Problem(422, "unknown_field", f"no such field; known are {names}", field=shown(name)[1:-1])
        self._values = values

    def get(self, name: str) -> object:
        """The value as it came, None when absent or null."""
        return self._values.get(name)

    def number(self, name: str, low: float, high: float) -> float | None:
        """A finite number in low..high, None when absent. Raises Problem 422."""
        value = self._values.get(name)
        if value is None:
            return None
        number = math.nan
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            # An integer of a thousand digits has no float: it is out of every range here, not a crash.
            number = float(value) if abs(value) < 1e300 else math.inf
        elif isinstance(value, str):
            try:
                number = float(value)
            except ValueError:
                number = math.nan
        if not low <= number <= high:
            raise Problem(
                422,
                "invalid_field",
                f"{name}: give a number from {low:g} to {high:g}",
                field=name,
                limit=f"{low:g}..{high:g}",
            )
        return number

    def integer(self, name: str, low: int, high: int) -> int | None:
        """A whole number in low..high, None when absent. Raises Problem 422."""
        number = self.number(name, low, high)
        if number is None:
            return None
        if not number.is_integer():
            raise Problem(
                422, "invalid_field", f"{name}: give a whole number from {low} to {high}", field=name, limit=high
            )
        return int(number)

    def flag(self, name: str, default: bool = False) -> bool:
        """true or false (text: 1/0, yes/no, on/off too). Raises Problem 422."""
        value = self._values.get(name)
        if value is None:
            return default
        if isinstance(value, bool):
            return value
        text = value.lower() if isinstance(value, str) else ""
        if text not in TRUE | FALSE:
            raise Problem(422, "invalid_field", f"{name}: give true or false", field=name, limit="true, false")
        return text in TRUE

    def choice(self, name: str, options: Sequence[str], default: str) -> str:
        """One of `options`. Raises Problem 422 naming them all."""
        value = self._values.get(name)
        if value is None:
            return default
        if not isinstance(value, str) or value not in options:
            listed = ", ".join(options)
            raise Problem(422, "invalid_field", f"{name}: give one of {listed}", field=name, limit=listed)
        return value
