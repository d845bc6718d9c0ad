"""What a replay is judged by: the wait to aim at, and the price book."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Final

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input

from app.format import plain
from app.present.form import Invalid
from app.present.text import Tone, wrap
from app.present.whatif import Terms, read_wait
from app.screens.dialogs.dialog import DialogScreen
from app.screens.dialogs.fields import ActionButton, Choice, Field, InlineChoice, Lines, TextInput, unit
from orchestrator.contract.snapshot import Snapshot

IN_FORCE: Final = ""
"""Key of the choice that names no book."""
MEANING: Final = (
    "The cheapest setting that keeps this wait is recommended. Prices of another book change what settings would "
    "cost, and nothing that is charged."
)


class TermsDialog(DialogScreen):
    """Begins with `terms`; `books` are the names to choose from. Calls `use` with what was chosen, and closes."""

    HEADING: ClassVar[str] = "Replay under other terms"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+s", "submit", "Replay")]
    DEFAULT_CSS = """
    TermsDialog #wait { width: 12; }
    TermsDialog Field { margin-bottom: 1; }
    """

    def __init__(self, snapshot: Snapshot, terms: Terms, books: Sequence[str], use: Callable[[Terms], object]) -> None:
        super().__init__(snapshot)
        self._terms = terms
        self._books = tuple(dict.fromkeys([*books, *([terms.book] if terms.book is not None else [])]))
        self._use = use

    def body(self) -> ComposeResult:
        wait = "" if self._terms.wait_s is None else f"{self._terms.wait_s:g}"
        line = TextInput(wait, id="wait", placeholder="as now", length_max=10)
        yield Field("p95 wait", line, unit("seconds at most"), names=["wait"])
        books = [(IN_FORCE, "those in force"), *((name, plain(name)) for name in self._books)]
        yield Field("Prices", InlineChoice(books, id="book"))
        yield Lines(lambda room: wrap(MEANING, room, Tone.MUTED))

    def buttons(self) -> ComposeResult:
        yield ActionButton("Cancel", "esc", "cancel")
        yield ActionButton("Replay", "^s", "submit", main=True)

    def begin(self) -> None:
        self.query_one("#book", Choice).chosen = self._terms.book or IN_FORCE
        self.query_one("#wait").focus()

    @on(Input.Submitted)
    def action_submit(self) -> None:
        """Hand the terms over, or say what is wrong with the wait."""
        field = next(each for each in self.query(Field) if "wait" in each.names)
        try:
            wait_s = read_wait(self.query_one("#wait", TextInput).value)
        except Invalid as error:
            field.show({"wait": str(error)})
            self.query_one("#wait").focus()
            return
        self.dismiss()
        self._use(Terms(wait_s, self.query_one("#book", Choice).chosen or None))
