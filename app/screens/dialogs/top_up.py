"""Adding credit."""

from __future__ import annotations

from typing import ClassVar, Final

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input

from app.format import money, plain
from app.present import credit, form
from app.present.form import Invalid
from app.present.text import BLANK, Line, Tone, wrap
from app.screens.dialogs.dialog import DialogScreen
from app.screens.dialogs.fields import ActionButton, Choice, Field, InlineChoice, Lines, TextInput
from orchestrator.contract.command import Command, Refused, TopUp
from orchestrator.contract.snapshot import AccountView, Snapshot

_AMOUNTS: Final = ("10", "50", "100", "500")


class TopUpDialog(DialogScreen):
    """An amount in dollars, and what it does to the balance and the runways while it is typed."""

    HEADING: ClassVar[str] = "Top up"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "submit", "Add credit"),
        Binding("down", "app.focus_next", "Next", show=False),
        Binding("up", "app.focus_previous", "Previous", show=False),
    ]
    DEFAULT_CSS = """
    TopUpDialog #frame { width: 66; }
    TopUpDialog #amount { width: 18; }
    TopUpDialog #after { margin-top: 1; }
    """

    def __init__(self, snapshot: Snapshot, slug: str | None = None, *, account: str = "local") -> None:
        super().__init__(snapshot, slug)
        self._first = account
        """The account that is chosen when it opens, if there is one of that name."""

    def body(self) -> ComposeResult:
        accounts = self.seen.accounts
        if len(accounts) > 1:
            names = [(account.name, plain(account.name)) for account in accounts]
            yield Field("Account", InlineChoice(names, id="account"), names=["account"])
        yield Field(
            "Dollars", TextInput(id="amount", placeholder="50 or 12.50", length_max=24), names=["amount"], hint=""
        )
        yield Field("", InlineChoice([(each, f"${each}") for each in _AMOUNTS], id="amounts"))
        yield Lines(self._after, id="after")

    def buttons(self) -> ComposeResult:
        yield ActionButton("Cancel", "esc", "cancel")
        yield ActionButton("Add credit", "^s", "submit", main=True)

    def begin(self) -> None:
        first = next((a.name for a in self.seen.accounts if a.name == self._first), None)
        for choice in self.query("#account").results(Choice):
            choice.chosen = first or self.seen.accounts[0].name
        self.show()
        self.query_one("#amount").focus()

    @property
    def account(self) -> AccountView | None:
        """The account that gets the credit."""
        chosen = next((choice.chosen for choice in self.query("#account").results(Choice)), None)
        found = self.seen.accounts
        return next((each for each in found if each.name == chosen), found[0] if found else None)

    def amount_u(self) -> int:
        """Micro-dollars as typed. Raises Invalid."""
        return form.parse_amount(self.query_one("#amount", TextInput).value)

    def show(self) -> None:
        self.query_one("#after", Lines).paint(self._after)

    def _after(self, room: int) -> list[Line]:
        account = self.account
        if account is None:
            return wrap("There is no account yet.", room, Tone.MUTED)
        try:
            amount_u: int | None = self.amount_u()
        except Invalid:
            amount_u = None
        lines = credit.rows(self.seen, account, amount_u, room)
        if account.suspended:
            text = "Its endpoints stay stopped: once the credit is there, start each one with d."
            lines += [BLANK, *wrap(text, room, Tone.STARTING)]
        return lines

    @on(Input.Changed, "#amount")
    def _typed(self, event: Input.Changed) -> None:
        text = event.value.strip()
        self.query_one("#amounts", InlineChoice).chosen = text if text in _AMOUNTS else None
        self._judge(said=bool(text))
        self.show()

    def _judge(self, *, said: bool) -> int | None:
        """The amount, or None with the reason beside the field."""
        field = next(each for each in self.query(Field) if "amount" in each.names)
        try:
            amount_u = self.amount_u()
        except Invalid as error:
            field.show({"amount": str(error)} if said else {})
            return None
        field.show({})
        field.hint(f"adds {money(amount_u)}")
        return amount_u

    @on(Choice.Picked)
    def _picked(self, event: Choice.Picked) -> None:
        if event.choice.id == "amounts":
            self.query_one("#amount", TextInput).value = event.key
        self.show()

    @on(Input.Submitted)
    def action_submit(self) -> None:
        amount_u, account = self._judge(said=True), self.account
        if amount_u is None or account is None:
            self.query_one("#amount").focus()
            return
        name = account.name
        self.send(lambda command_id: TopUp(id=command_id, account=name, amount_u=amount_u))

    def refused(self, command: Command, outcome: Refused) -> None:
        super().refused(command, outcome)
        self.query_one("#amount").focus()
