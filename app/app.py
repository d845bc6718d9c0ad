"""The application: one feed in, one road for commands and questions out. The rest is the screens' business."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import tzinfo
from pathlib import Path
from typing import ClassVar, Final

from textual import on
from textual.app import App
from textual.binding import BindingType
from textual.driver import Driver
from textual.drivers.linux_driver import LinuxDriver
from textual.reactive import var

from app import actions, messages, reporting
from app.asking import AskingApp
from app.driver import ContinuedDriver
from app.feed import follow
from app.preferences import Preferences
from app.present.condition import FeedState
from app.reporting import Reporter
from app.screens.dashboard import DashboardScreen
from app.screens.dialogs import DIALOGS
from app.screens.help import HelpScreen
from orchestrator.contract.client import OrchestratorClient
from orchestrator.contract.snapshot import Snapshot

DEFAULTS: Final = Preferences()
DRAWN_S: Final = 1.0


class GpudeckApp(AskingApp):
    """The TUI over any `OrchestratorClient`.

    Returns from `run` what the quit dialog decided, `leave` or `drain`; None when it just ended (signal, read-only).
    `zone` is for clock times, None means the machine's own; `tick_s` is the second by which the feed ages; `loadtests`
    is where the results of load tests are kept, None keeps none; `reporter` runs the orchestrator's own programs, None
    means about this user's deck.
    """

    TITLE = "gpudeck"
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings(actions.Where.APP), *actions.FOCUS_BINDINGS]
    COMMANDS = App.COMMANDS | {actions.ActionProvider}
    CSS_PATH = "app.tcss"

    snapshot: var[Snapshot | None] = var(None)
    feed: var[FeedState] = var(FeedState())

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
        self._stands = False
        self._unwanted = False

    def get_driver_class(self) -> type[Driver]:
        usual = super().get_driver_class()
        return ContinuedDriver if usual is LinuxDriver else usual

    def leave(self) -> None:
        """End because somebody outside wants it. While the dashboard mounts, only when that is done: after `exit`
        Textual mounts no more panels, and the screen that looks for its own would end in a traceback."""
        self._unwanted = True
        if self._stands:
            self.exit()

    async def on_mount(self) -> None:
        self.set_interval(self._tick_s, self.tick)
        feed = follow(self.client, self.post_message, asyncio.sleep, self.pictures_per_second, self.drawn)
        self.run_worker(feed, name="feed", exit_on_error=True)
        await self.push_screen(DashboardScreen())
        self._stands = True
        if self._unwanted:
            self.exit()
        self.say_problems()

    def tick(self) -> None:
        """One second passed without the TUI looking at a clock."""
        self.feed = replace(self.feed, silent_s=self.feed.silent_s + 1)

    async def drawn(self) -> None:
        """Returns when what has been posted is on the screen, after DRAWN_S in any case: a screen that was left
        meanwhile draws nothing any more."""
        done = asyncio.Event()
        self.call_after_refresh(done.set)
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAWN_S):
                await done.wait()

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
