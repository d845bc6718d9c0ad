"""Accounts: the list, and the ways to create one, to add credit, and to say where warnings go."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input

from app.format import plain
from app.present import accounts
from app.present.form import Invalid
from app.present.text import Line, Tone, line, wrap
from app.screens.dialogs.dialog import DialogScreen
from app.screens.dialogs.fields import ActionButton, Field, Lines, TextInput
from app.screens.dialogs.keys import KeyList
from app.screens.dialogs.top_up import TopUpDialog
from orchestrator.contract.command import Command, CreateAccount, Refused, SetMail
from orchestrator.contract.snapshot import AccountView, Snapshot


class AccountsDialog(DialogScreen):
    """Every account of this host, in the orchestrator's order."""

    HEADING: ClassVar[str] = "Accounts"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "create", "New account"),
        Binding("t", "top_up", "Top up"),
        Binding("m", "mail", "Warnings to"),
        Binding("C,q", "cancel", "Close", show=False),
    ]
    DEFAULT_CSS = """
    AccountsDialog #frame { width: 112; }
    AccountsDialog #chosen { margin-top: 1; }
    """

    def body(self) -> ComposeResult:
        yield Lines(lambda room: [line("  ", accounts.head(room - 4))], id="head")
        yield KeyList(id="accounts")
        yield Lines(self._chosen_rows, id="chosen")

    def buttons(self) -> ComposeResult:
        yield ActionButton("New", "n", "create")
        yield ActionButton("Top up", "t", "top_up")
        yield ActionButton("Mail", "m", "mail")
        yield ActionButton("Close", "esc", "cancel")

    def begin(self) -> None:
        self.query_one("#accounts").focus()

    def fit(self, width: int, height: int) -> None:
        self.query_one(KeyList).rows_max = max(height - 12, 4)

    def show(self) -> None:
        found = self.seen.accounts
        table = self.query_one(KeyList)
        table.offer([each.name for each in found], lambda room: accounts.rows(found, room))
        if table.chosen not in table.keys:
            table.chosen = table.keys[0] if table.keys else None
        self._follow()

    @on(KeyList.Picked)
    def _follow(self) -> None:
        self.query_one("#chosen", Lines).paint(self._chosen_rows)

    @property
    def chosen(self) -> AccountView | None:
        """The account under the cursor."""
        table = self.query_one(KeyList)
        return next((each for each in self.seen.accounts if each.name == table.chosen), None)

    def _chosen_rows(self, room: int) -> list[Line]:
        account = self.chosen
        return accounts.chosen_rows(account, room) if account else wrap("There is no account yet.", room, Tone.MUTED)

    def action_create(self) -> None:
        self.app.push_screen(NewAccountDialog(self.seen))

    @on(KeyList.Opened)
    def action_top_up(self) -> None:
        if account := self.chosen:
            self.app.push_screen(TopUpDialog(self.seen, account=account.name))

    def action_mail(self) -> None:
        if account := self.chosen:
            self.app.push_screen(MailDialog(self.seen, account))


class AccountForm(DialogScreen):
    """One or two lines to type, each judged while it is typed. Subclasses say which, and what they make."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "submit", "Save"),
        Binding("down", "app.focus_next", "Next", show=False),
        Binding("up", "app.focus_previous", "Previous", show=False),
    ]

    def parts(self) -> dict[str, Callable[[], object]]:
        """Id of each line and how to read it; reading raises Invalid."""
        raise NotImplementedError

    def make(self, command_id: str) -> Command:
        """The command, once every part can be read."""
        raise NotImplementedError

    def text(self, name: str) -> str:
        """What is typed in that line."""
        return self.query_one(f"#{name}", TextInput).value

    def begin(self) -> None:
        self.query_one(TextInput).focus()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self._judge({event.input.id or ""})

    def _judge(self, said: set[str]) -> list[str]:
        """The lines that cannot be read, with the reasons beside those in `said`."""
        problems: dict[str, str] = {}
        for name, read in self.parts().items():
            try:
                read()
            except Invalid as error:
                problems[name] = str(error)
        for field in self.query(Field):
            if said & set(field.names):
                field.show(problems)
        return list(problems)

    @on(Input.Submitted)
    def action_submit(self) -> None:
        wrong = self._judge(set(self.parts()))
        if wrong:
            self.query_one(f"#{wrong[0]}").focus()
        else:
            self.send(self.make)

    def refused(self, command: Command, outcome: Refused) -> None:
        super().refused(command, outcome)
        self.query_one(TextInput).focus()


def _mail_field(value: str = "") -> Field:
    return Field(
        "Warnings to", TextInput(value, id="mail", length_max=254, placeholder="empty: the operator"), names=["mail"]
    )


class NewAccountDialog(AccountForm):
    """A name, and where its warnings go."""

    HEADING: ClassVar[str] = "New account"

    def body(self) -> ComposeResult:
        yield Field("Name", TextInput(id="name", length_max=64, placeholder="a team or a project"), names=["name"])
        yield _mail_field()
        yield Lines(lambda room: wrap("It begins with nothing: top it up before its first endpoint.", room, Tone.MUTED))

    def buttons(self) -> ComposeResult:
        yield ActionButton("Cancel", "esc", "cancel")
        yield ActionButton("Create account", "^s", "submit", main=True)

    def parts(self) -> dict[str, Callable[[], object]]:
        return {"name": self._new_name, "mail": lambda: accounts.mail_address(self.text("mail"))}

    def _new_name(self) -> str:
        return accounts.account_name(self.text("name"), [each.name for each in self.seen.accounts])

    def make(self, command_id: str) -> Command:
        return CreateAccount(id=command_id, name=self._new_name(), mail=accounts.mail_address(self.text("mail")))


class MailDialog(AccountForm):
    """Where the warnings of one account go."""

    def __init__(self, snapshot: Snapshot, account: AccountView) -> None:
        super().__init__(snapshot)
        self._account = account

    @property
    def heading(self) -> str:
        return f"Warnings of {plain(self._account.name)}"

    def body(self) -> ComposeResult:
        yield _mail_field(self._account.mail or "")
        text = "Mails when credit runs low, and when endpoints are stopped for it; empty sends them to the operator."
        yield Lines(lambda room: wrap(text, room, Tone.MUTED))

    def buttons(self) -> ComposeResult:
        yield ActionButton("Cancel", "esc", "cancel")
        yield ActionButton("Save", "^s", "submit", main=True)

    def parts(self) -> dict[str, Callable[[], object]]:
        return {"mail": lambda: accounts.mail_address(self.text("mail"))}

    def make(self, command_id: str) -> Command:
        return SetMail(id=command_id, account=self._account.name, mail=accounts.mail_address(self.text("mail")))
