"""Making an API key, and showing its secret on the one occasion there is."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input, Static

from app.format import plain
from app.present import form, keys
from app.present.form import Invalid
from app.present.text import Line, Span, Tone, line, wrap
from app.screens.dialogs.dialog import DialogScreen
from app.screens.dialogs.fields import ActionButton, Choice, Field, InlineChoice, Lines, TextInput
from app.screens.dialogs.scope import ScopeChoice
from orchestrator.contract.command import Accepted, Command, CreateKey, Refused
from orchestrator.contract.snapshot import Snapshot


class NewKeyDialog(DialogScreen):
    """A name, the endpoints it may call, and days to live if it should end by itself."""

    HEADING: ClassVar[str] = "New API key"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "submit", "Create"),
        Binding("down", "app.focus_next", "Next", show=False),
        Binding("up", "app.focus_previous", "Previous", show=False),
    ]

    def body(self) -> ComposeResult:
        yield Field("Name", TextInput(id="name", length_max=64, placeholder="who or what uses it"), names=["name"])
        yield Field("Expires", TextInput(id="ttl", short=True), names=["ttl"], hint="days, empty: never")
        accounts = self.seen.accounts
        if len(accounts) > 1:
            names = [(account.name, plain(account.name)) for account in accounts]
            yield Field("Account", InlineChoice(names, id="account"), names=["account"])
        yield Field("May call", ScopeChoice(id="scope"), names=["endpoints"])

    def fit(self, width: int, height: int) -> None:
        self.query_one(ScopeChoice).rows_max = max(height - 14, 3)

    def show(self) -> None:
        self.query_one(ScopeChoice).offer_endpoints(self.seen.endpoints, self._account())

    def buttons(self) -> ComposeResult:
        yield ActionButton("Cancel", "esc", "cancel")
        yield ActionButton("Create key", "^s", "submit", main=True)

    def begin(self) -> None:
        self.query_one("#frame").border_subtitle = Content("space ticks an endpoint")
        for choice in self.query("#account").results(Choice):
            choice.chosen = self._account()
        self.query_one("#name").focus()

    def _account(self) -> str:
        chosen = next((choice.chosen for choice in self.query("#account").results(Choice)), None)
        names = [account.name for account in self.seen.accounts]
        return chosen or ("local" if "local" in names or not names else names[0])

    def _text(self, name: str) -> str:
        return self.query_one(f"#{name}", TextInput).value

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self._judge({event.input.id or ""})

    @on(Choice.Picked, "#account")
    def _change_account(self) -> None:
        self.show()

    @on(ScopeChoice.Ticked)
    def _change_scope(self) -> None:
        self.show()
        self._judge({"endpoints"})

    def _judge(self, said: set[str]) -> tuple[str, int | None] | None:
        """Name and seconds to live, or None with the reasons beside the fields in `said`."""
        problems: dict[str, str] = {}
        too_many = keys.scope_problem(self.query_one(ScopeChoice).scope)
        if too_many is not None:
            problems["endpoints"] = too_many
        name, ttl_s = "", None
        try:
            name = form.key_name(self._text("name"))
        except Invalid as error:
            problems["name"] = str(error)
        try:
            ttl_s = form.key_ttl_s(self._text("ttl"))
        except Invalid as error:
            problems["ttl"] = str(error)
        for field in self.query(Field):
            if said & set(field.names):
                field.show(problems)
        if not problems:
            return name, ttl_s
        if len(said) > 1:
            self._focus_field(next(iter(problems)))
        return None

    def _focus_field(self, name: str) -> None:
        # Not `#endpoints`: the dashboard lays that out, and its style sheet holds for the whole app.
        self.query_one("#scope" if name == "endpoints" else f"#{name}").focus()

    @on(Input.Submitted)
    def action_submit(self) -> None:
        found = self._judge({"name", "ttl", "endpoints"})
        if found is not None:
            name, ttl_s = found
            account, scope = self._account(), self.query_one(ScopeChoice).scope
            self.send(
                lambda command_id: CreateKey(id=command_id, account=account, name=name, ttl_s=ttl_s, endpoints=scope)
            )

    def accepted(self, command: Command, outcome: Accepted) -> None:
        self.dismiss()
        self.app.push_screen(SecretDialog(self.seen, outcome))

    def refused(self, command: Command, outcome: Refused) -> None:
        for field in self.query(Field):
            if outcome.field in field.names:
                field.show({outcome.field: outcome.message.removeprefix(f"{outcome.field}: ")})
                self._focus_field(outcome.field or "name")
                return
        super().refused(command, outcome)


class SecretDialog(DialogScreen):
    """The secret of a key just made. It is nowhere else, so only an explicit `d` closes this."""

    HEADING: ClassVar[str] = "Your new API key"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "copy_secret", "Copy"),
        Binding("y", "copy_recipe", "Copy curl"),
        Binding("d", "done", "I have it"),
    ]
    DEFAULT_CSS = """
    SecretDialog #frame { width: 96; border: round $tone-starting; border-title-color: $tone-starting; }
    SecretDialog #secret { background: $tone-track; color: $tone-strong; text-style: bold; padding: 0 1; margin: 1 0; }
    SecretDialog #recipe { color: $tone-info; }
    """

    def __init__(self, snapshot: Snapshot, outcome: Accepted) -> None:
        super().__init__(snapshot)
        self._outcome = outcome

    @property
    def secret(self) -> str | None:
        """None when the answer that carried it was lost on the way."""
        return self._outcome.secret

    def body(self) -> ComposeResult:
        yield Lines(self._head)
        if self.secret is not None:
            yield Static(Content(plain(self.secret)), id="secret")
            yield Static(Content(f"{keys.export('…')}\n{keys.recipe(self.seen.gateway_url)}"), id="recipe")

    def _head(self, room: int) -> list[Line]:
        if self.secret is None:
            text = (
                f"The key {plain(self._outcome.key_id or '')} exists, but the answer with its secret was lost and "
                "cannot be repeated. Revoke it (x in the list) and make another."
            )
            return wrap(text, room, Tone.FAILED)
        return [
            line(Span("▲ ", Tone.STARTING), Span("This is the only time it is shown.", Tone.STRONG)),
            *wrap("gpudeck keeps a fingerprint, not the key itself.", room, Tone.MUTED),
        ]

    def buttons(self) -> ComposeResult:
        if self.secret is not None:
            yield ActionButton("Copy key", "c", "copy_secret")
            yield ActionButton("Copy curl", "y", "copy_recipe")
        yield ActionButton("I have it, close", "d", "done")

    def begin(self) -> None:
        self.query_one("#do-copy_secret" if self.secret is not None else "#do-done").focus()

    def action_copy_secret(self) -> None:
        if self.secret is not None:
            self.app.copy_to_clipboard(self.secret)
            self.say("Copied, if your terminal allows it (OSC 52). Paste it somewhere before you close this.")

    def action_copy_recipe(self) -> None:
        if self.secret is not None:
            self.app.copy_to_clipboard(f"{keys.export(self.secret)}\n{keys.recipe(self.seen.gateway_url)}\n")
            self.say("Copied both lines, if your terminal allows it (OSC 52).")

    def action_done(self) -> None:
        self.dismiss()

    def action_cancel(self) -> None:
        if self.secret is None:
            self.dismiss()
        else:
            self.say("Press d once you have the key: it cannot be shown again.", Tone.STARTING, "▲ ")
