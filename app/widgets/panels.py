"""The dashboard's other panels: each one names its presenter and nothing more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import ClassVar

from app.present import events, gpus, lanes, money, traffic
from app.present.text import Line
from app.widgets.panel import Panel
from orchestrator.contract.snapshot import AccountView, EndpointView, EventView, GpuView


@dataclass(frozen=True, slots=True)
class LanesOf:
    """Endpoints and the second they are seen at."""

    endpoints: tuple[EndpointView, ...]
    now_ns: int


class WorkerLanes(Panel):
    """`view` is a `LanesOf`."""

    NUMBER = 2
    NAME = "Workers"
    EMPTY: ClassVar[str] = "No endpoints, so no workers."

    def paint(self, width: int, height: int) -> Sequence[Line]:
        if not isinstance(self.view, LanesOf):
            return []
        return lanes.rows(self.view.endpoints, self.view.now_ns, width, self.density)


@dataclass(frozen=True, slots=True)
class GpusOf:
    """GPUs and the endpoints whose workers may hold them."""

    gpus: tuple[GpuView, ...]
    endpoints: tuple[EndpointView, ...]


class GpuStrip(Panel):
    """`view` is a `GpusOf`."""

    NUMBER = 3
    NAME = "GPUs"
    EMPTY: ClassVar[str] = gpus.NO_GPUS

    def paint(self, width: int, height: int) -> Sequence[Line]:
        if not isinstance(self.view, GpusOf):
            return []
        return gpus.rows(self.view.gpus, self.view.endpoints, width, self.density)


class TrafficPanel(Panel):
    """`view` is the selected `EndpointView`."""

    NUMBER = 4
    NAME = "Traffic"
    EMPTY: ClassVar[str] = traffic.NO_TRAFFIC

    def paint(self, width: int, height: int) -> list[Line]:
        if not isinstance(self.view, EndpointView):
            return []
        return traffic.rows(self.view, width, height, self.density)


@dataclass(frozen=True, slots=True)
class MoneyOf:
    """An account and its balance over time, and the other accounts."""

    account: AccountView
    series_u: tuple[int, ...]
    others: tuple[AccountView, ...] = ()


class MoneyPanel(Panel):
    """`view` is a `MoneyOf`."""

    NUMBER = 5
    NAME = "Cost and credit"
    EMPTY: ClassVar[str] = money.NO_ACCOUNT

    def paint(self, width: int, height: int) -> list[Line]:
        if not isinstance(self.view, MoneyOf):
            return []
        view = self.view
        return money.rows(view.account, view.series_u, width, height, self.density, view.others)


class EventLog(Panel):
    """`view` is a tuple of `EventView`, newest last."""

    NUMBER = 6
    NAME = "Events"
    EMPTY: ClassVar[str] = events.NO_EVENTS

    def __init__(self, zone: tzinfo | None, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._zone = zone

    def paint(self, width: int, height: int) -> Sequence[Line]:
        found: tuple[EventView, ...] = self.view if isinstance(self.view, tuple) else ()
        return events.rows(found, width, self._zone)
