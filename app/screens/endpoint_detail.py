"""One endpoint on a screen of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import ClassVar, Final

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container

from app import actions
from app.messages import QuestionAnswered, QuestionAsked
from app.present import condition, detail, history, lanes, routing, snippets, traffic
from app.present import events as event_rows
from app.present.condition import Condition, Kind
from app.present.history import RANGES, Past
from app.present.lanes import Density, density_of
from app.present.text import BLANK, Line, Span, Tone, clip_line, line
from app.screens.endpoint_actions import EndpointActions
from app.widgets.panel import Panel
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.ended import AskEnded, EndedWorkers
from orchestrator.contract.query import AskHistory
from orchestrator.contract.routing import AskRouting, Bucket, Routing
from orchestrator.contract.snapshot import EndpointView, EventView, GpuView

MINUTE_NS: Final = 60 * SECOND_NS
HISTOGRAM_ROWS: Final = 8
ENDED_SHOWN: Final = 6
"""Workers that are over below those that run."""


@dataclass(frozen=True, slots=True)
class DetailOf:
    """What all panels of this screen are painted from."""

    endpoint: EndpointView
    gpus: tuple[GpuView, ...]
    model_kind: str
    now_ns: int
    events: tuple[EventView, ...]
    zone: tzinfo | None
    past: Past | None = None
    """The range that the charts show; None shows the live traffic."""
    language: str = snippets.LANGUAGES[0]
    latencies: tuple[Bucket, ...] | None = None
    """Of the last 60 s; None until they are known."""
    ended: EndedWorkers | None = None
    """Workers that are over; None until they are known."""


Painter = Callable[[DetailOf, int, int, Density], Sequence[Line]]


def _charts(shown: DetailOf, room: int, height: int, density: Density) -> list[Line]:
    if shown.past is None:
        return traffic.rows(shown.endpoint, room, height, density)
    return history.rows(shown.past, room, height, density)


def _figures(shown: DetailOf, room: int) -> list[Line]:
    figures = detail.figures(shown.endpoint, room)
    if shown.latencies is None:
        return figures
    title = line(Span("replies of the last 60 s", Tone.MUTED))
    return [*figures, BLANK, clip_line(title, room), *routing.histogram_rows(shown.latencies, room, HISTOGRAM_ROWS)]


_SECTIONS: Final[tuple[tuple[str, str, str, Painter], ...]] = (
    ("summary", "Endpoint", "", lambda d, w, h, _: detail.summary(d.endpoint, d.now_ns, w)),
    ("lanes", "Last two minutes", "", lambda d, w, h, density: lanes.lane(d.endpoint, d.now_ns, w, density)),
    (
        "workers",
        "Workers",
        "No workers now.",
        lambda d, w, h, _: detail.worker_rows(d.endpoint, d.gpus, d.now_ns, w, d.ended),
    ),
    ("cold", "Cold starts", "No start has been measured yet.", lambda d, w, h, _: detail.cold_starts(d.endpoint, w)),
    ("spec", "Specification", "", lambda d, w, h, _: detail.specification(d.endpoint, w)),
    ("events", "Events", event_rows.NO_EVENTS, lambda d, w, h, _: event_rows.rows(d.events, w, d.zone)),
    ("charts", "Traffic", "", lambda d, w, h, density: _charts(d, w, h, density)),
    ("figures", "Figures", "", lambda d, w, h, _: _figures(d, w)),
    ("call", "Call it", "", lambda d, w, h, _: snippets.calling(d.endpoint, d.model_kind, d.language, w)),
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

    def paint(self, width: int, height: int) -> Sequence[Line]:
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
        self._past: Past | None = None
        self._asked: tuple[AskHistory, int] | None = None
        """The question about the range that is shown, and the minute in which it was asked."""
        self._latencies: tuple[Bucket, ...] | None = None
        self._ended: EndedWorkers | None = None
        self._there: tuple[str, frozenset[str]] | None = None
        """The endpoint, and the workers that it had when those that are over were asked for last."""
        self._looked_s = 0
        """Second of the orchestrator's time at which the histogram was asked for last."""

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
                panel.view = DetailOf(
                    endpoint, snapshot.gpus, kind, now_ns, about, self.gpudeck.zone, self._past, self.language,
                    self._latencies, self._ended,
                )  # fmt: skip
        self.query_one("#summary", Panel).note = self.slug
        self.query_one("#charts", Panel).note = (
            "r shows 1 h … 30 d" if self._past is None else f"last {self._past.range.name}"
        )
        self._ask()
        self._ask_latencies()
        self._ask_ended()

    def _ask_ended(self) -> None:
        """At once, and whenever a worker has come or gone."""
        if (endpoint := self.chosen) is None:
            return
        there = self.slug, frozenset(worker.id for worker in endpoint.workers)
        if there != self._there:
            self._there = there
            self.post_message(QuestionAsked(AskEnded(slug=self.slug, limit=ENDED_SHOWN)))

    def _ask_latencies(self) -> None:
        """Once a second, while there is something to ask about."""
        if self.snapshot is None or self.chosen is None:
            return
        second = self.snapshot.taken_at_ns // SECOND_NS
        if second != self._looked_s:
            self._looked_s = second
            self.post_message(QuestionAsked(AskRouting(slug=self.slug, latencies=True)))

    def _ask(self) -> None:
        """Ask for the range that is shown, at once and then every minute."""
        if self._past is None or self.snapshot is None:
            return
        now_ns = self.snapshot.taken_at_ns
        asked = history.question(self.slug, self._past.range, now_ns), now_ns // MINUTE_NS
        if asked != self._asked:
            self._asked = asked
            self.post_message(QuestionAsked(asked[0]))

    @on(QuestionAnswered)
    def _take_latencies(self, event: QuestionAnswered) -> None:
        if event.query == AskRouting(slug=self.slug, latencies=True) and isinstance(event.answer, Routing):
            self._latencies = event.answer.latencies
            self.show()

    @on(QuestionAnswered)
    def _take_ended(self, event: QuestionAnswered) -> None:
        if isinstance(event.answer, EndedWorkers) and event.answer.slug == self.slug:
            self._ended = event.answer
            self.show()

    @on(QuestionAnswered)
    def _take_history(self, event: QuestionAnswered) -> None:
        if self._past is not None and self._asked is not None and event.query == self._asked[0]:
            self._past = Past(self._past.range, event.answer, event.problem)
            self.show()

    def action_next_language(self) -> None:
        """Show the call in the next language."""
        at = snippets.LANGUAGES.index(self.language)
        self.language = snippets.LANGUAGES[(at + 1) % len(snippets.LANGUAGES)]
        self.show()
        self.query_one("#call", Panel).scroll_visible(animate=False)

    def action_next_range(self) -> None:
        """Live, the last hour, day, week, month, and live again."""
        at = -1 if self._past is None else RANGES.index(self._past.range)
        self._past = Past(RANGES[at + 1]) if at + 1 < len(RANGES) else None
        self._asked = None
        self.show()
        self.query_one("#charts", Panel).scroll_visible(animate=False)

    def action_go_to(self, number: int) -> None:
        """Focus the panel with that number."""
        panel = self.query_one(f"#{_SECTIONS[number - 1][0]}", Panel)
        panel.focus()
        panel.scroll_visible(animate=False)

    def action_next_endpoint(self) -> None:
        self._turn(1)

    def action_previous_endpoint(self) -> None:
        self._turn(-1)

    def _turn(self, step: int) -> None:
        """Show the endpoint before or after this one, around the end, with the range of the charts kept."""
        slugs = [endpoint.spec.slug for endpoint in self.snapshot.endpoints] if self.snapshot else []
        if not slugs:
            return
        # From a screen whose endpoint is gone both directions lead to a neighbour of where it stood: the first one.
        self.slug = slugs[(slugs.index(self.slug) + step) % len(slugs)] if self.slug in slugs else slugs[0]
        if self._past is not None:
            self._past = Past(self._past.range)
        self._asked = self._ended = None
        self.show()
