"""How many requests waited, second by second, for the dashboard. Pure: the caller brings the time."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

from orchestrator.contract.base import SECOND_NS
from orchestrator.core.routing import Route

SERIES_KEPT: Final = 120
"""Seconds."""


class QueueDepths:
    """`sample` may be called at every tick: it looks once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._depths: dict[str, deque[int]] = {}

    def sample(self, now_ns: int, routes: Mapping[str, Route]) -> None:
        """Note the depth of every lane, if this second has none yet; endpoints that are gone are forgotten."""
        second = now_ns // SECOND_NS
        if second == self._second:
            return
        self._second = second
        for slug, route in routes.items():
            self._depths.setdefault(slug, deque(maxlen=SERIES_KEPT)).append(route.lane.queued)
        for slug in [s for s in self._depths if s not in routes]:
            del self._depths[slug]

    def series(self) -> dict[str, tuple[int, ...]]:
        """Per endpoint, oldest first."""
        return {slug: tuple(depths) for slug, depths in self._depths.items()}
