"""What this host offers and what is missing: the checks of `gpudeck doctor`, made while the screen is open."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from textual.app import ComposeResult
from textual.binding import BindingType

from app import actions
from app.present import doctor
from app.present.text import Line
from app.reporting import CHECKS, Request
from app.screens.reported import ReportedScreen
from app.widgets.panel import Panel

EXAMINE_S: Final = 120.0
"""The mail server and the GPU driver may each take half a minute to answer."""


class ChecksPanel(Panel):
    """`view` is a tuple of `doctor.Check`."""

    NAME = "Checks"

    def paint(self, width: int, height: int) -> list[Line]:
        return doctor.rows(self.view, width) if isinstance(self.view, tuple) else []


class DoctorScreen(ReportedScreen):
    """Examines when it opens and on request; the former findings stay until there are new ones."""

    WHERE = actions.Where.DOCTOR
    BINDINGS: ClassVar[list[BindingType]] = actions.bindings(actions.Where.DOCTOR)
    WAITING = "examining disk, ledger, engine, GPUs and mail"
    DEFAULT_CSS = """
    DoctorScreen ChecksPanel { height: 1fr; }
    """

    def panels(self) -> ComposeResult:
        yield ChecksPanel(id="checks")

    def on_mount(self) -> None:
        self.query_one(ChecksPanel).focus()
        self.make_report()

    def request(self) -> Request:
        return Request(CHECKS, ("doctor",), EXAMINE_S)

    def read(self, document: Any) -> tuple[doctor.Check, ...]:
        seen = self.gpudeck.snapshot
        return doctor.read(document, seen.gateway_url if seen is not None else None)

    def show(self) -> None:
        panel = self.query_one(ChecksPanel)
        panel.condition = self.state()
        if isinstance(self.report, tuple):
            panel.view = self.report
            found = doctor.title(self.report)
            panel.note = "examining again" if self.running else f"{found} · for a start without flags"
