"""API keys: the list, and the way to make and revoke one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message

from app.format import plain
from app.messages import CommandAnswered
from app.present import keys
from app.present.text import Line, Span, Tone, line, wrap
from app.screens.dialogs.confirm import ConfirmDialog
from app.screens.dialogs.dialog import DialogScreen
from app.screens.dialogs.fields import ActionButton, Lines, ListChoice
from app.screens.dialogs.new_key import NewKeyDialog, SecretDialog
from orchestrator.contract.command import Accepted, Command, RevokeKey
from orchestrator.contract.snapshot import KeyView, Snapshot


class KeyList(ListChoice):
    """The keys, with the cursor of the other tables."""

    WHEELED = True
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "open", "Open", show=False)]

    @dataclass
    class Opened(Message):
        """Enter on the row of `key`, or a double click."""

        key: str

    def action_open(self) -> None:
        if self.chosen is not None:
            self.post_message(self.Opened(self.chosen))

    def on_click(self, event: events.Click) -> None:
        if event.chain > 1:
            self.action_open()

    def _mark(self, key: str) -> Span:
        return Span("▌ ", Tone.ACCENT) if key == self.chosen else Span("  ")


class KeysDialog(DialogScreen):
    """Every key of this host; those that no longer work stay listed."""

    HEADING: ClassVar[str] = "API keys"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "create", "New key"),
        Binding("x,delete", "revoke", "Revoke"),
        Binding("a,q", "cancel", "Close", show=False),
    ]
    DEFAULT_CSS = """
    KeysDialog #frame { width: 110; }
    KeysDialog KeyList { display: none; }
    KeysDialog.-any KeyList { display: block; }
    """

    def body(self) -> ComposeResult:
        yield Lines(self._head, id="head")
        yield KeyList(id="keys")

    def buttons(self) -> ComposeResult:
        yield ActionButton("New key", "n", "create")
        yield ActionButton("Revoke", "x", "revoke", danger=True)
        yield ActionButton("Close", "esc", "cancel")

    def begin(self) -> None:
        self.query_one("#keys" if self.seen.keys else "#do-create").focus()

    def fit(self, width: int, height: int) -> None:
        self.query_one(KeyList).rows_max = max(height - 10, 4)

    def show(self) -> None:
        now_ns = self.seen.taken_at_ns
        found = keys.ordered(self.seen.keys, now_ns)
        table = self.query_one(KeyList)
        table.offer([key.id for key in found], lambda room: keys.rows(found, now_ns, room))
        if table.chosen not in table.keys:
            table.chosen = table.keys[0] if table.keys else None
        self.set_class(bool(found), "-any")
        self.query_one("#do-revoke").disabled = not found
        self.query_one("#head", Lines).paint(self._head)

    def _head(self, room: int) -> list[Line]:
        return [line("  ", keys.head(room - 4))] if self.seen.keys else wrap(keys.NO_KEYS, room, Tone.MUTED)

    @property
    def chosen(self) -> KeyView | None:
        """The key under the cursor."""
        table = self.query_one(KeyList)
        return next((key for key in self.seen.keys if key.id == table.chosen), None)

    def action_create(self) -> None:
        self.app.push_screen(NewKeyDialog(self.seen))

    def action_revoke(self) -> None:
        key = self.chosen
        if key is None:
            return
        if key.state_at(self.seen.taken_at_ns) == "revoked":
            self.say(f"{plain(key.name)} is revoked already.")
            return
        self.say("")
        self.app.push_screen(RevokeDialog(self.seen, key))

    @on(CommandAnswered)
    def _catch_secret(self, event: CommandAnswered) -> None:
        """A new key whose dialog was closed before the answer came: its secret is shown all the same."""
        if isinstance(event.outcome, Accepted) and event.outcome.secret is not None:
            event.stop()
            self.app.push_screen(SecretDialog(self.seen, event.outcome))


class RevokeDialog(ConfirmDialog):
    """Lock a key out."""

    VERB = "Revoke"

    def __init__(self, snapshot: Snapshot, key: KeyView) -> None:
        super().__init__(snapshot)
        self.key = key

    @property
    def heading(self) -> str:
        return f"Revoke {plain(self.key.name)}?"

    def consequences(self, room: int) -> list[Line]:
        now_ns = self.seen.taken_at_ns
        used = "never used" if self.key.last_used_ns is None else f"last used {keys.ago(self.key.last_used_ns, now_ns)}"
        return [
            line(
                Span(plain(self.key.name), Tone.STRONG),
                Span(f"  {plain(self.key.id)} · account {plain(self.key.account)} · {used}", Tone.MUTED),
            ),
            *wrap("Whoever uses it is locked out at once. It cannot be brought back.", room),
        ]

    def make(self, command_id: str) -> Command:
        return RevokeKey(id=command_id, key_id=self.key.id)
