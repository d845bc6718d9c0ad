"""What can be done to one endpoint, the same on the dashboard and on its own screen."""

from __future__ import annotations

from uuid import uuid4

from app.messages import CommandRequested, Dialog, DialogWanted
from app.present.detail import curl
from app.screens.live import LiveScreen
from app.screens.logs import LogsScreen
from orchestrator.contract.command import EnableEndpoint, UpdateEndpoint
from orchestrator.contract.endpoint import EndpointChanges
from orchestrator.contract.snapshot import EndpointState, EndpointView

_OFF = frozenset({EndpointState.DISABLED, EndpointState.SUSPENDED, EndpointState.FAILED})


class EndpointActions(LiveScreen):
    """Actions on `chosen`, the endpoint that this screen is about at this moment."""

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
        low, high = endpoint.spec.baseline + baseline, endpoint.spec.maximum + maximum
        if low < 0 or high < 1 or low > high:
            self.notify(
                f"{endpoint.spec.slug} is {endpoint.spec.setup}: baseline is at least 0, maximum at least 1 and not "
                "below the baseline.",
                title="Not changed",
                severity="warning",
                markup=False,
            )
            return
        changes = EndpointChanges(baseline=low if baseline else None, maximum=high if maximum else None)
        self.post_message(CommandRequested(UpdateEndpoint(id=uuid4().hex, slug=endpoint.spec.slug, changes=changes)))

    def action_show_logs(self) -> None:
        if endpoint := self._required():
            self.app.push_screen(LogsScreen(endpoint.spec.slug))

    def action_copy_curl(self) -> None:
        endpoint = self._required()
        if endpoint is None or self.snapshot is None:
            return
        kind = next((model.kind for model in self.snapshot.models if model.name == endpoint.spec.model), "service")
        command = curl(endpoint, kind)
        self.app.copy_to_clipboard(command)
        self.notify(command, title="Copied, if your terminal allows it (OSC 52)", markup=False, timeout=8)

    def action_top_up(self) -> None:
        self.post_message(DialogWanted(Dialog.TOP_UP))

    def action_show_keys(self) -> None:
        self.post_message(DialogWanted(Dialog.KEYS))
