"""The endpoint table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from app.present import endpoints
from app.present.text import Line
from app.widgets.row_panel import RowPanel
from orchestrator.contract.snapshot import EndpointView


class EndpointTable(RowPanel):
    """`view` is a tuple of `EndpointView`; the cursor is a slug."""

    NUMBER = 1
    NAME = "Endpoints"
    EMPTY: ClassVar[str] = endpoints.NO_ENDPOINTS

    def paint(self, width: int, height: int) -> Sequence[Line]:
        rows = self._endpoints()
        return endpoints.rows(rows, self.cursor, width) if rows else []

    def row_keys(self) -> list[str]:
        return [endpoint.spec.slug for endpoint in self._endpoints()]

    def _endpoints(self) -> tuple[EndpointView, ...]:
        return self.view if isinstance(self.view, tuple) else ()
