"""Why an endpoint has the workers it has: its decision journal, on a screen of its own."""

from __future__ import annotations

from datetime import tzinfo
from typing import ClassVar, Final

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType

from app import actions
from app.messages import QuestionAnswered, QuestionAsked
from app.present import condition, decisions
from app.present.condition import Condition, Kind
from app.present.text import Line
from app.screens.live import LiveScreen
from app.screens.whatif import WhatIfScreen
from app.widgets.panel import Panel
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.decision import AskDecisions, Decisions

LAST: Final = 200
PERIOD_NS: Final = 10 * SECOND_NS
"""How often a journal is read in which nothing seems to have changed."""


class DecisionPanel(Panel):
    """`view` is a `Decisions`."""

    NAME = "Decisions"
    EMPTY: ClassVar[str] = decisions.NO_DECISIONS

    def __init__(self, zone: tzinfo | None) -> None:
        super().__init__(id="decisions")
        self._zone = zone

    def paint(self, width: int, height: int) -> list[Line]:
        return decisions.rows(self.view.lines, width, self._zone) if isinstance(self.view, Decisions) else []


class DecisionsScreen(LiveScreen):
    """Asks when it opens, whenever the endpoint wants another number of workers or has another problem, and once in a
    while."""

    WHERE = actions.Where.DECISIONS
    BINDINGS: ClassVar[list[BindingType]] = actions.bindings(actions.Where.DECISIONS)
    DEFAULT_CSS = """
    DecisionsScreen DecisionPanel { height: 1fr; }
    """

    def __init__(self, slug: str) -> None:
        super().__init__()
        self.slug = slug
        self._query = AskDecisions(slug=slug, last=LAST)
        self._asked: object = None
        self._problem: str | None = None

    def panels(self) -> ComposeResult:
        yield DecisionPanel(self.gpudeck.zone)

    def on_mount(self) -> None:
        self.query_one(DecisionPanel).focus()

    def show(self) -> None:
        panel = self.query_one(DecisionPanel)
        state = condition.of_feed(self.snapshot, self.feed)
        if state.kind is Kind.LIVE and self._problem is not None:
            state = Condition(Kind.FAILED, self._problem)
        panel.condition = state
        panel.note = self.slug
        self._ask()

    def _ask(self) -> None:
        if self.snapshot is None:
            return
        endpoint = self.endpoint(self.slug)
        decision = endpoint.decision if endpoint is not None else None
        asked = (
            self.snapshot.taken_at_ns // PERIOD_NS,
            decision.desired if decision is not None else None,
            endpoint.problem.code if endpoint is not None and endpoint.problem is not None else None,
        )
        if asked != self._asked:
            self._asked = asked
            self.post_message(QuestionAsked(self._query))

    @on(QuestionAnswered)
    def _take(self, event: QuestionAnswered) -> None:
        if event.query != self._query:
            return
        self._problem = event.problem
        if isinstance(event.answer, Decisions):
            self.query_one(DecisionPanel).view = event.answer
        self.show()

    def action_show_whatif(self) -> None:
        self.app.push_screen(WhatIfScreen(self.slug))
