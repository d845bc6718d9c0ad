"""The application's one road to the orchestrator: commands and questions out, answers back to the screens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from textual import on, work

from app import messages
from app.preferences import Preferences
from app.preferred import PreferredApp
from app.statements import StatementTorn, whole_statement
from orchestrator.contract.client import OrchestratorClient
from orchestrator.contract.command import Accepted
from orchestrator.contract.query import Query, Unanswered


class AskingApp(PreferredApp):
    """The only holder of the client."""

    def __init__(self, client: OrchestratorClient, preferences: Preferences) -> None:
        super().__init__(preferences)
        self.client = client

    @on(messages.CommandRequested)
    @work(group="commands")
    async def _send(self, event: messages.CommandRequested) -> None:
        try:
            outcome = await self.client.send(event.command)
        except ConnectionError as error:
            self.screen.post_message(messages.CommandUnanswered(event.command, str(error)))
        else:
            self.screen.post_message(messages.CommandAnswered(event.command, outcome, event.quiet))

    @on(messages.CommandAnswered)
    def _toast_outcome(self, event: messages.CommandAnswered) -> None:
        if isinstance(event.outcome, Accepted):
            if not event.quiet:
                self.notify(event.outcome.message, title="Done", timeout=4, markup=False)
        else:
            self.notify(event.outcome.message, title="Refused", severity="error", timeout=12, markup=False)

    @on(messages.CommandUnanswered)
    def _toast_silence(self, event: messages.CommandUnanswered) -> None:
        text = f"No answer from the orchestrator: {event.reason}. Doing it again is safe once it is back."
        self.notify(text, title="Not sent", severity="error", timeout=12, markup=False)

    @on(messages.QuestionAsked)
    @work(group="questions")
    async def _answer(self, event: messages.QuestionAsked) -> None:
        answer, problem = await self._ask(event.query)
        for screen in self.screen_stack:
            screen.post_message(messages.QuestionAnswered(event.query, answer, problem))

    @on(messages.StatementWanted)
    @work(group="questions")
    async def _state(self, event: messages.StatementWanted) -> None:
        arrived = messages.StatementArrived(event.account, event.month)
        try:
            statement, lines = await whole_statement(self._required, event.account, event.month)
            arrived = replace(arrived, statement=statement, lines=tuple(lines))
        except (ConnectionError, LookupError, StatementTorn) as error:
            arrived = replace(arrived, problem=str(error))
        for screen in self.screen_stack:
            screen.post_message(arrived)

    async def _required(self, query: Query) -> Any:
        """The answer, or LookupError with what the orchestrator says instead."""
        answer, problem = await self._ask(query)
        if problem is not None:
            raise LookupError(problem)
        return answer

    async def _ask(self, query: Query) -> tuple[Any, str | None]:
        try:
            answer = await self.client.ask(query)
        except ConnectionError as error:
            return None, f"no answer from the orchestrator: {error}"
        return (None, answer.message) if isinstance(answer, Unanswered) else (answer, None)
