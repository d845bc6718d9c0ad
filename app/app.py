"""The application: one feed in, one road for commands and questions out. The rest is the screens' business."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import tzinfo
from pathlib import Path
from typing import ClassVar, Final

from textual import on
from textual.app import App
from textual.binding import BindingType
from textual.reactive import reactive

from app import actions, messages, reporting
from app.asking import AskingApp
from app.feed import follow
from app.preferences import Preferences
from app.present.condition import FeedState
from app.reporting import Reporter
from app.screens.dashboard import DashboardScreen
from app.screens.dialogs import DIALOGS
from app.screens.help import HelpScreen
from app.signals import exit_on_signals
from orchestrator.contract.client import OrchestratorClient
from orchestrator.contract.snapshot import Snapshot

DEFAULTS: Final = Preferences()


class GpudeckApp(AskingApp):
    """The TUI over any `OrchestratorClient`.

    Returns from `run` what the quit dialog decided, `leave` or `drain`; None when it just ended (signal, read-only).
    `zone` is for clock times, None means the machine's own; `tick_s` is the second by which the feed ages; `loadtests`
    is where the results of load tests are kept, None keeps none; `reporter` runs the orchestrator's own programs, None
    means about this user's deck.
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
        zone: tzinfo | None = None,
        tick_s: float = 1.0,
        loadtests: Path | None = None,
        preferences: Preferences = DEFAULTS,
        reporter: Reporter | None = None,
    ) -> None:
        super().__init__(client, preferences)
        self.readonly = readonly
        self.zone = zone
        self.loadtests = loadtests
        self.reporter = reporter or reporting.reporter()
        self._tick_s = tick_s
        self._newest: Snapshot | None = None

    def on_mount(self) -> None:
        self.log(signals_without_handler=exit_on_signals(self.exit))
        self.push_screen(DashboardScreen())
        self.set_interval(self._tick_s, self.tick)
        feed = follow(self.client, self.post_message, asyncio.sleep, self.pictures_per_second)
        self.run_worker(feed, name="feed", exit_on_error=True)
        self.say_problems()

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

    @on(messages.DialogWanted)
    def _open_dialog(self, event: messages.DialogWanted) -> None:
        factory = DIALOGS.get(event.dialog)
        if self.snapshot is not None and factory is not None:
            more = {} if event.changes is None else {"changes": event.changes}
            self.push_screen(factory(self.snapshot, event.slug, **more))
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
