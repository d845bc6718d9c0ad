"""The frame every dialog shares, and how one sends a command and hears back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, cast
from uuid import uuid4

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button

from app.format import plain
from app.messages import CommandAnswered, CommandRequested, CommandUnanswered
from app.present.text import ERROR, Line, Span, Tone, wrap
from app.screens.dialogs.fields import ActionButton, Lines
from orchestrator.contract.command import Accepted, Command, Refused
from orchestrator.contract.snapshot import Snapshot

if TYPE_CHECKING:
    from app.app import GpudeckApp


class DialogScreen(ModalScreen[None]):
    """A modal frame with a title, a body, one status line and buttons.

    Subclasses compose `body()` and `buttons()`, follow the state in `show()`, and say in `accepted` and `refused` what
    an answer means. While a command is under way a second one is not sent.
    """

    HEADING: ClassVar[str] = ""
    COMPACT: ClassVar[tuple[int, int]] = (100, 30)
    """Below this many columns or rows the dialog is drawn tight."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "Cancel"),
        Binding("ctrl+r", "retry", "Send again", show=False),
        Binding("left", "focus_button(-1)", "Previous button", show=False),
        Binding("right", "focus_button(1)", "Next button", show=False),
    ]
    DEFAULT_CSS = """
    DialogScreen { align: center middle; background: $background 60%; }
    DialogScreen #frame {
        width: 72; max-width: 100%; height: auto; max-height: 100%; padding: 1 2; background: $surface;
        border: round $tone-accent; border-title-color: $tone-accent; border-title-style: bold;
        border-subtitle-color: $tone-muted;
    }
    DialogScreen #status { height: auto; max-height: 4; margin-top: 1; display: none; }
    DialogScreen #status.-said { display: block; }
    DialogScreen #buttons { height: 1; margin-top: 1; align-horizontal: right; }
    DialogScreen #do-retry { display: none; }
    DialogScreen.-unheard #do-retry { display: block; }
    DialogScreen.-compact #frame { padding: 0 1; }
    """

    def __init__(self, snapshot: Snapshot, slug: str | None = None) -> None:
        super().__init__()
        self.seen = snapshot
        self.slug = slug
        self._under_way: Command | None = None
        self._unheard: Command | None = None

    @property
    def gpudeck(self) -> GpudeckApp:
        """The app, by its own type."""
        return cast("GpudeckApp", self.app)

    def compose(self) -> ComposeResult:
        with Vertical(id="frame") as frame:
            frame.border_title = Content(self.heading)
            yield from self.body()
            yield Lines(id="status")
            with Horizontal(id="buttons"):
                yield ActionButton("Send again", "^r", "retry")
                yield from self.buttons()

    @property
    def heading(self) -> str:
        """The title of the frame."""
        return self.HEADING

    def body(self) -> ComposeResult:
        """What is between the frame and the status line."""
        raise NotImplementedError

    def buttons(self) -> ComposeResult:
        """The buttons after the one that sends again."""
        raise NotImplementedError

    def show(self) -> None:
        """Repaint from `seen`, the newest snapshot."""

    def accepted(self, command: Command, outcome: Accepted) -> None:
        """`command` took effect. By default the dialog closes and the app says so."""
        self.dismiss()
        self.app.notify(outcome.message, title="Done", timeout=4, markup=False)

    def refused(self, command: Command, outcome: Refused) -> None:
        """`command` changed nothing; what was typed stays."""
        self.say_problem(outcome.message)

    def begin(self) -> None:
        """The dialog stands, `show` has run once: put the focus where typing starts."""

    def fit(self, width: int, height: int) -> None:
        """The terminal has this many columns and rows now; the class `-compact` is right already."""

    # Textual runs the handlers of every class of a screen by itself, so subclasses have `begin` and `fit` instead:
    # an on_mount of theirs that also called this one would subscribe twice.
    def on_mount(self) -> None:
        self.watch(self.app, "snapshot", self._take_snapshot)
        self.begin()

    def on_resize(self, event: events.Resize) -> None:
        width, height = event.size
        self.set_class(width < self.COMPACT[0] or height < self.COMPACT[1], "-compact")
        self.fit(width, height)

    def _take_snapshot(self, snapshot: Snapshot | None) -> None:
        if snapshot is not None:
            self.seen = snapshot
        self.show()

    def say(self, text: str, tone: Tone = Tone.MUTED, mark: str = "") -> None:
        """Put one sentence into the status line; an empty one clears it."""
        status = self.query_one("#status", Lines)
        status.paint(lambda room: _marked(mark, text, tone, room))
        status.set_class(bool(text), "-said")

    def say_problem(self, text: str) -> None:
        """Put what went wrong into the status line."""
        self.say(plain(text), ERROR, "✖ ")

    @property
    def busy(self) -> bool:
        """Whether a command is under way."""
        return self._under_way is not None

    def send(self, make: Callable[[str], Command]) -> None:
        """Ask for the command that `make` builds around an id.

        When the last one went unanswered and this one is the same, it keeps the id: should the first have taken effect
        after all, the orchestrator repeats its answer instead of doing it twice.
        """
        if self.busy:
            return
        again = make(self._unheard.id) if self._unheard is not None else None
        self._request(again if again is not None and again == self._unheard else make(uuid4().hex))

    def _request(self, command: Command) -> None:
        self._under_way, self._unheard = command, None
        self.remove_class("-unheard")
        self.say("waiting for the orchestrator", Tone.STARTING, "◐ ")
        self.post_message(CommandRequested(command))

    @on(CommandAnswered)
    def _take_answer(self, event: CommandAnswered) -> None:
        if self._under_way is None or event.command.id != self._under_way.id:
            return
        event.stop()
        self._under_way = None
        self.say("")
        if isinstance(event.outcome, Accepted):
            self.accepted(event.command, event.outcome)
        else:
            self.refused(event.command, event.outcome)

    @on(CommandUnanswered)
    def _take_silence(self, event: CommandUnanswered) -> None:
        if self._under_way is None or event.command.id != self._under_way.id:
            return
        event.stop()
        self._under_way, self._unheard = None, self._under_way
        self.add_class("-unheard")
        self.say_problem(
            f"No answer: {event.reason}. It may or may not have taken effect; sending it again (^r) is safe, it cannot "
            "happen twice."
        )
        self.query_one("#do-retry", Button).focus()

    def action_retry(self) -> None:
        """Send the very same command again."""
        if self._unheard is not None and not self.busy:
            self._request(self._unheard)

    def action_cancel(self) -> None:
        self.dismiss()

    def action_focus_button(self, step: int) -> None:
        """From one button to the next; elsewhere the arrows belong to the focused field."""
        shown = [button for button in self.query(ActionButton) if button.display and not button.disabled]
        if isinstance(self.focused, ActionButton) and self.focused in shown:
            at = shown.index(self.focused) + step
            shown[min(max(at, 0), len(shown) - 1)].focus()


def _marked(mark: str, text: str, tone: Tone, room: int) -> list[Line]:
    rows = wrap(text, max(room - len(mark), 1), tone)
    return [(Span(mark if index == 0 else " " * len(mark), tone), *row) for index, row in enumerate(rows)]
