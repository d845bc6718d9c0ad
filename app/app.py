"""The application: one feed in, one road for commands and questions out. The rest is the screens' business."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import tzinfo
from typing import Any, ClassVar

from textual import on, work
from textual.app import App
from textual.binding import BindingType
from textual.reactive import reactive

from app import actions, messages
from app.feed import follow
from app.present.condition import FeedState
from app.screens.dashboard import DashboardScreen
from app.screens.dialogs import DIALOGS
from app.screens.help import HelpScreen
from app.signals import exit_on_signals
from app.theme import DARK, THEMES
from orchestrator.contract.client import OrchestratorClient
from orchestrator.contract.command import Accepted
from orchestrator.contract.query import AskLogs, AskQuote, Unanswered
from orchestrator.contract.snapshot import Snapshot


class GpudeckApp(App[str | None]):
    """The TUI over any `OrchestratorClient`.

    Returns from `run` what the quit dialog decided, `leave` or `drain`; None when it just ended (signal, read-only).
    `zone` is for clock times, None means the machine's own; `tick_s` is the second by which the feed ages.
    """

    TITLE = "gpudeck"
    BINDINGS: ClassVar[list[BindingType]] = actions.bindings(actions.Where.APP)
    COMMANDS = App.COMMANDS | {actions.ActionProvider}
    CSS_PATH = "app.tcss"

    snapshot: reactive[Snapshot | None] = reactive(None)
    feed: reactive[FeedState] = reactive(FeedState())

    def __init__(
        self,
        client: OrchestratorClient,
        *,
        readonly: bool = False,
        theme: str = DARK.name,
        zone: tzinfo | None = None,
        tick_s: float = 1.0,
    ) -> None:
        super().__init__()
        self.client = client
        self.readonly = readonly
        self.zone = zone
        self._tick_s = tick_s
        self._newest: Snapshot | None = None
        for each in THEMES:
            self.register_theme(each)
        self.theme = theme if theme in self.available_themes else DARK.name

    def on_mount(self) -> None:
        self.log(signals_without_handler=exit_on_signals(self.exit))
        self.push_screen(DashboardScreen())
        self.set_interval(self._tick_s, self.tick)
        self.run_worker(follow(self.client, self.post_message, asyncio.sleep), name="feed", exit_on_error=True)

    def tick(self) -> None:
        """One second passed without the TUI looking at a clock."""
        self.feed = replace(self.feed, silent_s=self.feed.silent_s + 1)

    @on(messages.SnapshotArrived)
    def _keep_newest(self, event: messages.SnapshotArrived) -> None:
        self._newest = event.snapshot
        self.feed = FeedState(connected=True, paused=self.feed.paused)
        if not self.feed.paused:
            self.snapshot = event.snapshot

    @on(messages.FeedLost)
    def _note_loss(self, event: messages.FeedLost) -> None:
        self.feed = replace(self.feed, connected=False, reason=event.reason)

    def toggle_pause(self) -> None:
        """Hold what is on the screen, or show the newest state again."""
        self.feed = replace(self.feed, paused=not self.feed.paused)
        if not self.feed.paused:
            self.snapshot = self._newest

    @on(messages.CommandRequested)
    @work(group="commands")
    async def _send(self, event: messages.CommandRequested) -> None:
        try:
            outcome = await self.client.send(event.command)
        except ConnectionError as error:
            self.screen.post_message(messages.CommandUnanswered(event.command, str(error)))
        else:
            self.screen.post_message(messages.CommandAnswered(event.command, outcome))

    @on(messages.CommandAnswered)
    def _toast_outcome(self, event: messages.CommandAnswered) -> None:
        if isinstance(event.outcome, Accepted):
            self.notify(event.outcome.message, title="Done", timeout=4, markup=False)
        else:
            self.notify(event.outcome.message, title="Refused", severity="error", timeout=12, markup=False)

    @on(messages.CommandUnanswered)
    def _toast_silence(self, event: messages.CommandUnanswered) -> None:
        text = f"No answer from the orchestrator: {event.reason}. Doing it again is safe once it is back."
        self.notify(text, title="Not sent", severity="error", timeout=12, markup=False)

    @on(messages.QuoteWanted)
    @work(group="questions")
    async def _quote(self, event: messages.QuoteWanted) -> None:
        answer, problem = await self._ask(AskQuote(spec=event.spec))
        for screen in self.screen_stack:
            screen.post_message(messages.QuoteArrived(event.spec, answer, problem))

    @on(messages.LogsWanted)
    @work(group="questions")
    async def _logs(self, event: messages.LogsWanted) -> None:
        answer, problem = await self._ask(AskLogs(slug=event.slug, worker=event.worker, tail=event.tail))
        for screen in self.screen_stack:
            screen.post_message(messages.LogsArrived(event.slug, event.worker, answer, problem))

    async def _ask(self, query: AskQuote | AskLogs) -> tuple[Any, str | None]:
        try:
            answer = await self.client.ask(query)
        except ConnectionError as error:
            return None, f"no answer from the orchestrator: {error}"
        return (None, answer.message) if isinstance(answer, Unanswered) else (answer, None)

    @on(messages.DialogWanted)
    def _open_dialog(self, event: messages.DialogWanted) -> None:
        factory = DIALOGS.get(event.dialog)
        if self.snapshot is not None and factory is not None:
            self.push_screen(factory(self.snapshot, event.slug))
        elif event.dialog is messages.Dialog.QUIT:
            self.exit()

    def action_show_help(self) -> None:
        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen())

    async def action_quit(self) -> None:
        """Ask what becomes of the workers, unless nothing can be asked: read-only, or nobody is there to be told."""
        if self.readonly or not self.feed.connected:
            self.exit()
        else:
            self.post_message(messages.DialogWanted(messages.Dialog.QUIT))
