"""The round-robin inspector: the ring with its cursor, who is passed over and why, the reserve, and the queue."""

from __future__ import annotations

from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container

from app import actions
from app.messages import QuestionAnswered, QuestionAsked
from app.present import condition, routing
from app.present.condition import Condition, Kind
from app.present.lanes import Density, density_of
from app.present.text import BLANK, Line
from app.screens.live import LiveScreen
from app.widgets.panel import Panel
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.routing import AskRouting, Routing


class RingPanel(Panel):
    """`view` is a `Routing`."""

    NUMBER = 1
    NAME = "Round robin"
    EMPTY: ClassVar[str] = routing.NO_WORKERS

    def paint(self, width: int, height: int) -> list[Line]:
        if not isinstance(self.view, Routing) or not self.view.places:
            return []
        return [*routing.ring_rows(self.view, width), BLANK, *routing.legend_rows(width)]


class QueuePanel(Panel):
    """`view` is a `Routing`."""

    NUMBER = 2
    NAME = "Queue"

    def paint(self, width: int, height: int) -> list[Line]:
        return routing.queue_rows(self.view, width) if isinstance(self.view, Routing) else []


class LatencyPanel(Panel):
    """`view` is a `Routing`."""

    NUMBER = 3
    NAME = "Waits of the last 60 s"

    def paint(self, width: int, height: int) -> list[Line]:
        if not isinstance(self.view, Routing):
            return []
        return routing.histogram_rows(self.view.waits, width, max(height, 4))


PANELS = (RingPanel, QueuePanel, LatencyPanel)


class InspectorScreen(LiveScreen):
    """Asks with every snapshot, and never while an answer is awaited: the gateway is asked, not the picture of it."""

    WHERE = actions.Where.INSPECTOR
    CSS_PATH = "inspector.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        *actions.bindings(actions.Where.INSPECTOR),
        *(Binding(str(panel.NUMBER), f"go_to({panel.NUMBER})", panel.NAME, show=False) for panel in PANELS),
    ]

    def __init__(self, slug: str) -> None:
        super().__init__()
        self.slug = slug
        self._asked: int | None = None
        """Number of the snapshot that was there at the last question."""
        self._looked_s = 0
        """Second of the orchestrator's time at which the histogram was asked for last."""
        self._waiting: AskRouting | None = None
        self._problem: str | None = None

    def panels(self) -> ComposeResult:
        with Container(id="lane"):
            yield RingPanel(id="ring")
            with Container(id="beside"):
                yield QueuePanel(id="queue")
                yield LatencyPanel(id="waits")

    def on_mount(self) -> None:
        self.query_one(RingPanel).focus()

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(density_of(event.size.width, event.size.height) is Density.COMPACT, "-compact")

    def show(self) -> None:
        state = condition.of_feed(self.snapshot, self.feed)
        if state.kind is Kind.LIVE and self._problem is not None:
            state = Condition(Kind.FAILED, self._problem)
        for panel in self.query(Panel):
            panel.condition = state
        self.query_one(RingPanel).note = self.slug
        if self.snapshot is not None and self.snapshot.seq != self._asked and self._waiting is None:
            second = self.snapshot.taken_at_ns // SECOND_NS
            self._waiting = AskRouting(slug=self.slug, latencies=second != self._looked_s)
            self._asked, self._looked_s = self.snapshot.seq, second
            self.post_message(QuestionAsked(self._waiting))

    @on(QuestionAnswered)
    def _take(self, event: QuestionAnswered) -> None:
        if self._waiting is None or event.query != self._waiting:
            return
        self._problem = event.problem
        if isinstance(event.answer, Routing):
            self.query_one(RingPanel).view = self.query_one(QueuePanel).view = event.answer
            if self._waiting.latencies:
                self.query_one(LatencyPanel).view = event.answer
        self._waiting = None
        self.show()

    def action_go_to(self, number: int) -> None:
        """Focus the panel with that number."""
        self.query_one(PANELS[number - 1]).focus()
