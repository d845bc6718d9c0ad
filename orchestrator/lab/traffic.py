"""Traffic that never ends, for every endpoint of a lab: each is called in a rhythm of its own, day after day."""

from __future__ import annotations

import zlib
from random import Random
from typing import Final

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.simulator.deck import Deck
from orchestrator.simulator.traces import DAY_S, SHAPES

RHYTHMS: Final = ("diurnal", "on-off", "spike")
SERVICE_S: Final = 6.0
BUSY: Final = 0.6
"""Share of the endpoint's maximum that its traffic keeps busy at the peak."""


class Callers:
    """Calls every endpoint that there is, from when it is seen first until it is gone."""

    def __init__(self, deck: Deck, seed: int) -> None:
        self._deck = deck
        self._seed = seed
        self._known: set[str] = set()

    def look(self) -> None:
        """Begin to call endpoints that are new. Those that have gone are forgotten by themselves."""
        for slug, endpoint in self._deck.state.endpoints.items():
            if slug not in self._known:
                self._known.add(slug)
                self._begin(endpoint.spec)

    def _begin(self, spec: EndpointSpec) -> None:
        deck, slug = self._deck, spec.slug
        number = zlib.crc32(slug.encode())
        dice = Random(f"{self._seed}/{slug}")  # noqa: S311 - a simulation's dice
        share = SHAPES["diurnal" if slug == "demo" else RHYTHMS[number % len(RHYTHMS)]]

        def plan() -> None:
            endpoint = deck.state.endpoints.get(slug)
            if endpoint is None:
                self._known.discard(slug)
                return
            peak_hz = BUSY * endpoint.spec.maximum * endpoint.concurrency / SERVICE_S
            deck.later(dice.expovariate(peak_hz), arrive)

        def arrive() -> None:
            plan()
            of_day_s = deck.now_ns / SECOND_NS % DAY_S
            if slug in deck.table.routes and dice.random() < share(of_day_s, DAY_S):
                deck.call(slug, int(dice.lognormvariate(0.0, 0.3) * SERVICE_S * SECOND_NS))

        plan()
