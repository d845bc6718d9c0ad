"""What can be done to one endpoint, the same on the dashboard and on its own screen."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import uuid4

from textual import on

from app.messages import CommandAnswered, CommandRequested, CommandUnanswered, Dialog, DialogWanted
from app.present.snippets import LANGUAGES, snippet
from app.screens.decisions import DecisionsScreen
from app.screens.doctor import DoctorScreen
from app.screens.faults import FaultScreen
from app.screens.inspector import InspectorScreen
from app.screens.ledger import LedgerScreen
from app.screens.live import LiveScreen
from app.screens.loadtest import LoadTestScreen
from app.screens.logs import LogsScreen
from app.screens.playground import PlaygroundScreen
from app.screens.settings import SettingsScreen
from app.screens.whatif import WhatIfScreen
from orchestrator.contract.command import EnableEndpoint, Refused, UpdateEndpoint
from orchestrator.contract.endpoint import EndpointChanges
from orchestrator.contract.snapshot import EndpointState, EndpointView

_OFF = frozenset({EndpointState.DISABLED, EndpointState.SUSPENDED, EndpointState.FAILED})


@dataclass
class _Asked:
    """A setup that was asked for and is not seen yet, and the commands that still have no answer."""

    baseline: int
    maximum: int
    ids: set[str] = field(default_factory=set)


class EndpointActions(LiveScreen):
    """Actions on `chosen`, the endpoint that this screen is about at this moment."""

    language: str = LANGUAGES[0]
    """Of the call that is copied."""

    def __init__(self) -> None:
        super().__init__()
        self._asked_setups: dict[str, _Asked] = {}

    @property
    def chosen(self) -> EndpointView | None:
        """The endpoint the next action is about."""
        raise NotImplementedError

    def _required(self) -> EndpointView | None:
        endpoint = self.chosen
        if endpoint is None:
            self.notify("No endpoint is selected.", severity="warning", markup=False)
        return endpoint

    def action_edit_endpoint(self) -> None:
        if endpoint := self._required():
            self.post_message(DialogWanted(Dialog.EDIT, endpoint.spec.slug))

    def action_delete_endpoint(self) -> None:
        if endpoint := self._required():
            self.post_message(DialogWanted(Dialog.DELETE, endpoint.spec.slug))

    def action_toggle_endpoint(self) -> None:
        if endpoint := self._required():
            if endpoint.state in _OFF:
                self.post_message(CommandRequested(EnableEndpoint(id=uuid4().hex, slug=endpoint.spec.slug)))
            else:
                self.post_message(DialogWanted(Dialog.DISABLE, endpoint.spec.slug))

    def action_raise_maximum(self) -> None:
        self._resize(maximum=1)

    def action_lower_maximum(self) -> None:
        self._resize(maximum=-1)

    def action_raise_baseline(self) -> None:
        self._resize(baseline=1)

    def action_lower_baseline(self) -> None:
        self._resize(baseline=-1)

    def _resize(self, *, baseline: int = 0, maximum: int = 0) -> None:
        endpoint = self._required()
        if endpoint is None:
            return
        slug = endpoint.spec.slug
        # A second press before the first one is seen counts from what the first one asked for, not from the screen.
        now = self._asked_setups.get(slug) or _Asked(endpoint.spec.baseline, endpoint.spec.maximum)
        low, high = now.baseline + baseline, now.maximum + maximum
        if low < 0 or high < 1 or low > high:
            self.notify(
                f"{slug} is {now.baseline}-{now.maximum}: baseline is at least 0, maximum at least 1 and not "
                "below the baseline.",
                title="Not changed",
                severity="warning",
                markup=False,
            )
            return
        changes = EndpointChanges(baseline=low if baseline else None, maximum=high if maximum else None)
        command = UpdateEndpoint(id=uuid4().hex, slug=slug, changes=changes)
        self._asked_setups[slug] = _Asked(low, high, {*now.ids, command.id})
        self.post_message(CommandRequested(command))

    @on(CommandAnswered)
    @on(CommandUnanswered)
    def _note_answer(self, event: CommandAnswered | CommandUnanswered) -> None:
        took_effect = isinstance(event, CommandAnswered) and not isinstance(event.outcome, Refused)
        for slug, asked in list(self._asked_setups.items()):
            if event.command.id in asked.ids:
                asked.ids.discard(event.command.id)
                if not took_effect:
                    del self._asked_setups[slug]

    def _refresh_all(self) -> None:
        for slug, asked in list(self._asked_setups.items()):
            seen = self.endpoint(slug)
            reached = seen is None or (seen.spec.baseline, seen.spec.maximum) == (asked.baseline, asked.maximum)
            if reached or not asked.ids:
                del self._asked_setups[slug]
        super()._refresh_all()

    def on_screen_resume(self) -> None:
        # An answer goes to the screen in front: what was asked before another one was is not waited for.
        self._asked_setups.clear()

    def action_show_decisions(self) -> None:
        if endpoint := self._required():
            self.app.push_screen(DecisionsScreen(endpoint.spec.slug))

    def action_show_whatif(self) -> None:
        if endpoint := self._required():
            self.app.push_screen(WhatIfScreen(endpoint.spec.slug))

    def action_show_logs(self) -> None:
        if endpoint := self._required():
            self.app.push_screen(LogsScreen(endpoint.spec.slug))

    def action_open_playground(self) -> None:
        if endpoint := self._required():
            self.app.push_screen(PlaygroundScreen(endpoint.spec.slug))

    def action_open_loadtest(self) -> None:
        if endpoint := self._required():
            self.app.push_screen(LoadTestScreen(endpoint.spec.slug))

    def action_open_inspector(self) -> None:
        if endpoint := self._required():
            self.app.push_screen(InspectorScreen(endpoint.spec.slug))

    def action_open_faults(self) -> None:
        if endpoint := self._required():
            self.app.push_screen(FaultScreen(endpoint.spec.slug))

    def action_show_settings(self) -> None:
        self.app.push_screen(SettingsScreen())

    def action_show_doctor(self) -> None:
        self.app.push_screen(DoctorScreen())

    def action_open_ledger(self) -> None:
        self.app.push_screen(LedgerScreen())

    def action_copy_curl(self) -> None:
        endpoint = self._required()
        if endpoint is None:
            return
        command = snippet(self.language, endpoint, self.kind_of_model(endpoint.spec.slug))
        self.app.copy_to_clipboard(command)
        self.notify(command, title="Copied, if your terminal allows it (OSC 52)", markup=False, timeout=8)

    def action_top_up(self) -> None:
        self.post_message(DialogWanted(Dialog.TOP_UP))

    def action_show_accounts(self) -> None:
        self.post_message(DialogWanted(Dialog.ACCOUNTS))

    def action_show_keys(self) -> None:
        self.post_message(DialogWanted(Dialog.KEYS))
