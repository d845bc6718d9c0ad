"""Creating an endpoint."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult

from app.present import form, offer
from app.present.form import Texts
from app.screens.dialogs.endpoint_form import EndpointForm
from app.screens.dialogs.fields import ActionButton
from orchestrator.contract.command import Command, CreateEndpoint
from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.contract.snapshot import Snapshot


class CreateDialog(EndpointForm):
    """Opens with the first model and GPU type that can run here; the slug follows the model until it is typed."""

    HEADING: ClassVar[str] = "New endpoint"

    def __init__(self, snapshot: Snapshot, slug: str | None = None) -> None:
        super().__init__(snapshot, slug)
        self._suggested = self.start.slug

    def initial(self) -> Texts:
        snapshot = self.seen
        able = (m.name for m in snapshot.models if form.model_objection(m, snapshot) is None)
        model = next(able, "")
        types = [name for name in offer.gpu_types(snapshot) if form.gpu_objection(name, snapshot) is None]
        accounts = [account.name for account in snapshot.accounts]
        account = "local" if "local" in accounts or not accounts else accounts[0]
        return Texts(
            slug=form.suggest_slug(model, self._taken()),
            model=model,
            gpu_type=types[0] if types else "",
            account=account,
        )

    def _taken(self) -> set[str]:
        return {endpoint.spec.slug for endpoint in self.seen.endpoints}

    def buttons(self) -> ComposeResult:
        yield ActionButton("Cancel", "esc", "cancel")
        yield ActionButton("Create endpoint", "^s", "submit", main=True)

    def begin(self) -> None:
        self.rows.go_to("model")

    def changed(self, name: str) -> None:
        texts = self.rows.texts()
        if name == "model" and texts.slug == self._suggested:
            self._suggested = form.suggest_slug(texts.model, self._taken())
            self.rows.write("slug", self._suggested)
        super().changed(name)

    def make(self, command_id: str, spec: EndpointSpec) -> Command:
        return CreateEndpoint(id=command_id, spec=spec)
