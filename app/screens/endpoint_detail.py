"""One endpoint on a screen of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import tzinfo
from typing import ClassVar, Final

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container

from app import actions
from app.present import condition, detail, lanes, traffic
from app.present import events as event_rows
from app.present.condition import Condition, Kind
from app.present.lanes import Density, density_of
from app.present.text import Line
from app.screens.endpoint_actions import EndpointActions
from app.widgets.panel import Panel
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.snapshot import EndpointView, EventView, GpuView


@dataclass(frozen=True, slots=True)
class DetailOf:
    """What all panels of this screen are painted from."""

    endpoint: EndpointView
    gpus: tuple[GpuView, ...]
    model_kind: str
    now_ns: int
    events: tuple[EventView, ...]
    zone: tzinfo | None


Painter = Callable[[DetailOf, int, int, Density], list[Line]]

_SECTIONS: Final[tuple[tuple[str, str, str, Painter], ...]] = (
    ("summary", "Endpoint", "", lambda d, w, h, _: detail.summary(d.endpoint, d.now_ns, w)),
    ("lanes", "Last two minutes", "", lambda d, w, h, density: lanes.lane(d.endpoint, d.now_ns, w, density)),
    ("workers", "Workers", "No workers now.", lambda d, w, h, _: detail.worker_rows(d.endpoint, d.gpus, d.now_ns, w)),
    ("cold", "Cold starts", "No start has been measured yet.", lambda d, w, h, _: detail.cold_starts(d.endpoint, w)),
    ("spec", "Specification", "", lambda d, w, h, _: detail.specification(d.endpoint, w)),
    ("events", "Events", event_rows.NO_EVENTS, lambda d, w, h, _: event_rows.rows(d.events, w, d.zone)),
    ("charts", "Traffic", "", lambda d, w, h, density: traffic.rows(d.endpoint, w, h, density)),
    ("figures", "Figures", "", lambda d, w, h, _: detail.figures(d.endpoint, w)),
    ("call", "Call it", "", lambda d, w, h, _: detail.calling(d.endpoint, d.model_kind, w)),
)
_LEFT: Final = frozenset({"summary", "lanes", "workers", "cold", "spec", "events"})


class DetailPanel(Panel):
    """A panel painted from `DetailOf` by the function it was given."""

    def __init__(self, name: str, title: str, number: int, empty: str, painter: Painter) -> None:
        super().__init__(id=name)
        self._label = (number, title, empty)
        self._painter = painter

    @property
    def label(self) -> tuple[int, str, str]:
        return self._label

    def paint(self, width: int, height: int) -> list[Line]:
        return self._painter(self.view, width, height, self.density) if isinstance(self.view, DetailOf) else []


class EndpointScreen(EndpointActions):
    """Everything about `slug`. When the endpoint is deleted meanwhile, the screen says so and stays until esc."""

    WHERE = actions.Where.ENDPOINT
    CSS_PATH = "endpoint_detail.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        *actions.bindings(actions.Where.ENDPOINT),
        *(Binding(str(n), f"go_to({n})", title, show=False) for n, (_, title, _, _) in enumerate(_SECTIONS, start=1)),
    ]

    def __init__(self, slug: str) -> None:
        super().__init__()
        self.slug = slug

    def panels(self) -> ComposeResult:
        made = {
            name: DetailPanel(name, title, number, empty, painter)
            for number, (name, title, empty, painter) in enumerate(_SECTIONS, start=1)
        }
        with Container(id="detail"):
            with Container(id="main"):
                yield from (panel for name, panel in made.items() if name in _LEFT)
            with Container(id="side"):
                yield from (panel for name, panel in made.items() if name not in _LEFT)

    def on_mount(self) -> None:
        self.query_one("#workers").focus(scroll_visible=False)

    def on_resize(self, event: events.Resize) -> None:
        density = density_of(event.size.width, event.size.height)
        self.set_class(density is Density.COMPACT, "-compact")
        for panel in self.query(Panel):
            panel.density = density

    @property
    def chosen(self) -> EndpointView | None:
        return self.endpoint(self.slug)

    def show(self) -> None:
        endpoint, snapshot = self.chosen, self.snapshot
        state = condition.of_feed(snapshot, self.feed)
        if snapshot is not None and endpoint is None:
            state = Condition(Kind.FAILED, f"{self.slug} no longer exists (esc goes back)")
        kind = "service"
        if snapshot is not None and endpoint is not None:
            kind = next((model.kind for model in snapshot.models if model.name == endpoint.spec.model), kind)
        for panel in self.query(DetailPanel):
            panel.condition = state
            if snapshot is not None and endpoint is not None:
                now_ns = snapshot.taken_at_ns // SECOND_NS * SECOND_NS
                about = tuple(event for event in snapshot.events if event.endpoint == self.slug)
                panel.view = DetailOf(endpoint, snapshot.gpus, kind, now_ns, about, self.gpudeck.zone)
        self.query_one("#summary", Panel).note = self.slug

    def action_go_to(self, number: int) -> None:
        """Focus the panel with that number."""
        panel = self.query_one(f"#{_SECTIONS[number - 1][0]}", Panel)
        panel.focus()
        panel.scroll_visible(animate=False)

    def action_go_back(self) -> None:
        self.app.pop_screen()
