"""Every setting: value, origin and meaning, and the file to edit. Nothing is changed here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType

from app import actions
from app.present import settings as rows
from app.present.lanes import Density
from app.present.settings import Configuration, Setting
from app.present.text import BLANK, Line
from app.reporting import CHECKS, Request
from app.screens.filtered import FilteredScreen
from app.screens.reported import ReportedScreen
from app.widgets.chrome import FilterBar
from app.widgets.panel import Panel

READ_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class ChangeOf:
    """The whole configuration, and whether its file is there."""

    configuration: Configuration
    exists: bool


class ChangePanel(Panel):
    """`view` is a `ChangeOf`."""

    NAME = "How to change one"

    def paint(self, width: int, height: int) -> list[Line]:
        if not isinstance(self.view, ChangeOf):
            return []
        of = self.view
        lines = rows.how_to_change(of.configuration, exists=of.exists, room=width)
        if self.density is not Density.COMPACT:
            lines += [BLANK, *rows.place_rows(of.configuration.places, width)]
        return lines


@dataclass(frozen=True, slots=True)
class SettingsOf:
    """The settings that are listed, and the path of the file."""

    listed: tuple[Setting, ...]
    file: str


class SettingsPanel(Panel):
    """`view` is a `SettingsOf`."""

    NAME = "Settings"
    EMPTY: ClassVar[str] = "No setting contains that."

    def paint(self, width: int, height: int) -> list[Line]:
        return rows.rows(self.view.listed, self.view.file, width) if isinstance(self.view, SettingsOf) else []


class SettingsScreen(FilteredScreen, ReportedScreen):
    """As a start from here would read them: flags of the one that runs are not among them."""

    WHERE = actions.Where.SETTINGS
    LISTED = SettingsPanel
    BINDINGS: ClassVar[list[BindingType]] = actions.bindings(actions.Where.SETTINGS)
    WAITING = "reading the settings"
    DEFAULT_CSS = """
    SettingsScreen ChangePanel { height: auto; min-height: 3; max-height: 12; }
    SettingsScreen SettingsPanel { height: 1fr; }
    """

    def panels(self) -> ComposeResult:
        yield ChangePanel(id="change")
        yield SettingsPanel(id="settings")
        yield FilterBar()

    def on_mount(self) -> None:
        self.query_one(SettingsPanel).focus()
        self.make_report()

    def on_resize(self, event: events.Resize) -> None:
        compact = event.size.height < 30
        self.query_one(ChangePanel).density = Density.COMPACT if compact else Density.NORMAL

    def request(self) -> Request:
        return Request(CHECKS, ("config",), READ_S)

    def read(self, document: Any) -> ChangeOf:
        configuration = rows.read(document)
        return ChangeOf(configuration, Path(configuration.file).exists())

    def show(self) -> None:
        change, settings = self.query_one(ChangePanel), self.query_one(SettingsPanel)
        change.condition = settings.condition = self.state()
        if not isinstance(self.report, ChangeOf):
            return
        of = self.report.configuration
        listed = tuple(rows.matching(of.settings, self.needle))
        change.view, settings.view = self.report, SettingsOf(listed, of.file)
        settings.note = self.filter_note(f"{len(listed)}, ● is not the default")
