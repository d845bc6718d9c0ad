"""What every full screen shares: it follows the app's snapshot and feed, and says when the terminal is too small."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast
from uuid import uuid4

from textual import events
from textual.app import ComposeResult
from textual.reactive import var
from textual.screen import Screen

from app.actions import WRITING, Where
from app.messages import CommandRequested
from app.present.condition import FeedState
from app.widgets.chrome import SMALLEST, Banner, TitleBar, TooSmall
from app.widgets.key_footer import KeyFooter
from orchestrator.contract.lab import SPEEDS, SetSpeed
from orchestrator.contract.snapshot import EndpointView, Snapshot

if TYPE_CHECKING:
    from app.app import GpudeckApp


LAB_ACTIONS: Final = frozenset({"slower", "faster"})


class LiveScreen(Screen[Any]):
    """A screen with the newest snapshot. Subclasses compose `panels()` and repaint in `show(snapshot)`."""

    WHERE: ClassVar[Where]
    DEFAULT_CSS = """
    LiveScreen { background: $background; }
    LiveScreen.-too-small > * { display: none; }
    LiveScreen.-too-small > TooSmall { display: block; }
    LiveScreen.-too-small ToastRack { display: block; }
    """

    snapshot: var[Snapshot | None] = var(None)
    feed: var[FeedState] = var(FeedState())

    @property
    def gpudeck(self) -> GpudeckApp:
        """The app, by its own type."""
        return cast("GpudeckApp", self.app)

    def compose(self) -> ComposeResult:
        yield TitleBar(readonly=self.gpudeck.readonly)
        yield Banner()
        yield from self.panels()
        yield KeyFooter()
        yield TooSmall()

    def panels(self) -> ComposeResult:
        """The screen's own widgets, between banner and footer."""
        raise NotImplementedError

    def show(self) -> None:
        """Hand the slices of `snapshot` to the widgets."""
        raise NotImplementedError

    def on_mount(self) -> None:
        self.watch(self.app, "snapshot", self._take_snapshot)
        self.watch(self.app, "feed", self._take_feed)

    def on_resize(self, event: events.Resize) -> None:
        wide, high = SMALLEST
        self.set_class(event.size.width < wide or event.size.height < high, "-too-small")
        self.query_one(TooSmall).note(event.size.width, event.size.height)

    def _take_snapshot(self, snapshot: Snapshot | None) -> None:
        self.snapshot = snapshot
        self._refresh_all()

    def _take_feed(self, feed: FeedState) -> None:
        # The age ticks each second also while all is well; only what is drawn counts.
        if feed.stale or feed.stale != self.feed.stale or feed.paused != self.feed.paused:
            self.feed = feed
            self._refresh_all()

    def _refresh_all(self) -> None:
        self.query_one(TitleBar).show(self.snapshot, self.feed)
        self.query_one(Banner).show(self.snapshot, self.feed)
        self.show()

    def endpoint(self, slug: str | None) -> EndpointView | None:
        """The endpoint of that name in the present snapshot."""
        found = self.snapshot.endpoints if self.snapshot else ()
        return next((endpoint for endpoint in found if endpoint.spec.slug == slug), None)

    def kind_of_model(self, slug: str) -> str:
        """Kind of the endpoint's model. By the app's snapshot: a screen's own comes after its first mount."""
        seen = self.gpudeck.snapshot
        if seen is None:
            return "service"
        model = next((each.spec.model for each in seen.endpoints if each.spec.slug == slug), None)
        return next((each.kind for each in seen.models if each.name == model), "service")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in LAB_ACTIONS and (self.snapshot is None or self.snapshot.lab is None):
            return False
        return not (self.gpudeck.readonly and action in WRITING)

    def action_slower(self) -> None:
        self._set_speed(max, [speed for speed in SPEEDS if speed < self._speed])

    def action_faster(self) -> None:
        self._set_speed(min, [speed for speed in SPEEDS if speed > self._speed])

    @property
    def _speed(self) -> int:
        return self.snapshot.lab.speed if self.snapshot is not None and self.snapshot.lab is not None else 1

    def _set_speed(self, nearest: Callable[[list[int]], int], others: list[int]) -> None:
        if others:
            self.post_message(CommandRequested(SetSpeed(id=uuid4().hex, speed=nearest(others)), quiet=True))

    def action_go_back(self) -> None:
        self.app.pop_screen()

    def action_toggle_pause(self) -> None:
        self.gpudeck.toggle_pause()
