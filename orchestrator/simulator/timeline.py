"""Virtual time: a heap of instants and what happens at them. No clock, no sleep."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from orchestrator.contract.base import SECOND_NS

Action = Callable[[], None]


class Timeline:
    """Runs actions in order of their instants; those of one instant in the order in which they were planned."""

    def __init__(self, start_ns: int) -> None:
        self.now_ns = start_ns
        self._heap: list[tuple[int, int, Action]] = []
        self._order = itertools.count()

    def at(self, at_ns: int, action: Action) -> None:
        """Plan `action` for an instant; one that has passed means as soon as time moves on."""
        heapq.heappush(self._heap, (at_ns, next(self._order), action))

    def later(self, seconds: float, action: Action) -> None:
        """Plan `action` for `seconds` from now."""
        self.at(self.now_ns + int(seconds * SECOND_NS), action)

    @property
    def next_ns(self) -> int | None:
        """The instant of the next action; None when nothing is planned."""
        return self._heap[0][0] if self._heap else None

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass and do everything that falls into them."""
        self.run_to(self.now_ns + int(seconds * SECOND_NS))

    def run_to(self, end_ns: int) -> None:
        """Do everything up to `end_ns`, which is then the present. An action may itself move time on."""
        while self._heap and self._heap[0][0] <= end_ns:
            self.act()
        self.now_ns = max(self.now_ns, end_ns)

    def act(self) -> None:
        """Do the next action, at its instant."""
        at_ns, _, action = heapq.heappop(self._heap)
        self.now_ns = max(self.now_ns, at_ns)
        action()
