"""What-if: the endpoint's own recorded traffic replayed under other settings, and the way to take one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical

from app import actions
from app.messages import Dialog, DialogWanted
from app.present import whatif
from app.present.condition import Condition, Kind
from app.present.lanes import Density
from app.present.text import Line
from app.present.whatif import Setting, Study, Terms
from app.reporting import STUDY, Request
from app.screens.dialogs.terms import TermsDialog
from app.screens.reported import ReportedScreen
from app.widgets.panel import Panel
from app.widgets.row_panel import RowPanel

REPLAY_S: Final = 1_800.0


@dataclass(frozen=True, slots=True)
class StudyOf:
    """The study, the settings that the table lists, and the one under its cursor."""

    study: Study
    listed: tuple[Setting, ...]
    chosen: str | None = None


class StudyPanel(Panel):
    """`view` is a `StudyOf`."""

    def of(self) -> StudyOf | None:
        """What is shown."""
        return self.view if isinstance(self.view, StudyOf) else None


class AdvicePanel(StudyPanel):
    NUMBER = 1
    NAME = "What if"

    def paint(self, width: int, height: int) -> list[Line]:
        of = self.of()
        compact = self.density is Density.COMPACT
        return whatif.advice_rows(of.study, whatif.named(of.listed, of.chosen), width, compact=compact) if of else []


class PicturePanel(StudyPanel):
    NUMBER = 2
    NAME = "Cost against wait"

    def paint(self, width: int, height: int) -> list[Line]:
        of = self.of()
        return whatif.picture_rows(of.study.settings, of.chosen, width, height) if of else []


class SettingsPanel(RowPanel):
    """`view` is a `StudyOf`."""

    NUMBER = 3
    NAME = "Settings"

    def row_keys(self) -> list[str]:
        return [each.name for each in self.view.listed] if isinstance(self.view, StudyOf) else []

    def paint(self, width: int, height: int) -> list[Line]:
        return whatif.setting_rows(self.view.listed, self.cursor, width) if isinstance(self.view, StudyOf) else []


class LevelsPanel(StudyPanel):
    NUMBER = 4
    NAME = "Baseline or on demand"
    EMPTY: ClassVar[str] = "No worker on demand was needed."

    def paint(self, width: int, height: int) -> list[Line]:
        of = self.of()
        return whatif.level_rows(of.study, width) if of else []


PANELS: Final[tuple[type[Panel], ...]] = (AdvicePanel, PicturePanel, SettingsPanel, LevelsPanel)


class WhatIfScreen(ReportedScreen):
    """Replays once when it opens; what is shown stays while it is replayed again."""

    WHERE = actions.Where.WHATIF
    CSS_PATH = "whatif.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        *actions.bindings(actions.Where.WHATIF),
        *(Binding(str(panel.NUMBER), f"go_to({panel.NUMBER})", panel.NAME, show=False) for panel in PANELS),
    ]
    WAITING = "replaying the recorded traffic, up to two minutes"

    def __init__(self, slug: str) -> None:
        super().__init__()
        self.slug = slug
        self._everything = False
        self._terms = Terms()

    def panels(self) -> ComposeResult:
        yield AdvicePanel(id="advice")
        with Container(id="tried"):
            yield PicturePanel(id="picture")
            with Vertical(id="figures"):
                yield SettingsPanel(id="settings")
                yield LevelsPanel(id="levels")

    def on_mount(self) -> None:
        self.query_one(AdvicePanel).focus()
        self.make_report()

    def on_resize(self, event: events.Resize) -> None:
        compact = event.size.width < 110 or event.size.height < 30
        self.set_class(compact, "-compact")
        self.query_one(AdvicePanel).density = Density.COMPACT if compact else Density.NORMAL

    def request(self) -> Request:
        seen = self.gpudeck.snapshot
        until = () if seen is None else (f"--until-ns={seen.taken_at_ns}",)  # a lab has a time of its own
        return Request(STUDY, ("whatif", self.slug, *self._terms.arguments, *until), REPLAY_S)

    def read(self, document: Any) -> Study:
        return Study.model_validate(document)

    @property
    def study(self) -> Study | None:
        """What the newest replay found."""
        return self.report if isinstance(self.report, Study) else None

    def arrived(self) -> None:
        if self.study is not None:
            table = self.query_one(SettingsPanel)
            table.focus()
            table.cursor = next((each.name for each in self.study.settings if each.recommended), table.cursor)

    def show(self) -> None:
        state = self.state()
        if self.snapshot is not None and self.endpoint(self.slug) is None:
            state = Condition(Kind.FAILED, f"{self.slug} no longer exists (esc goes back)")
        elif self.problem is not None and self.study is None:
            state = Condition(Kind.FAILED, f"{self.problem}. r looks again.")
        table = self.query_one(SettingsPanel)
        for panel in self.query(Panel):
            panel.condition = state
        said = (self.slug, self._terms.words, "replaying" if self.running else "")
        self.query_one("#advice", Panel).note = " · ".join(each for each in said if each)
        study = self.study
        # Until there is a study, three empty panels would only repeat what the first one says.
        self.query_one("#tried").display = study is not None
        if study is None:
            return
        listed = tuple(whatif.shown(study.settings, everything=self._everything))
        table.view = StudyOf(study, listed)
        table.note = f"{len(listed)} of {len(study.settings)}, A shows {'the best' if self._everything else 'all'}"
        self._follow()

    @on(RowPanel.Moved)
    def _follow(self) -> None:
        of = self.query_one(SettingsPanel).view
        if isinstance(of, StudyOf):
            chosen = StudyOf(of.study, of.listed, self.query_one(SettingsPanel).cursor)
            for panel in self.query(StudyPanel):
                panel.view = chosen

    # --- actions

    def action_change_terms(self) -> None:
        """Ask for the wait to aim at and the price book, and replay under them."""
        if self.snapshot is not None:
            books = self.study.books if self.study is not None else ()
            self.app.push_screen(TermsDialog(self.snapshot, self._terms, books, self._replay_under))

    def _replay_under(self, terms: Terms) -> None:
        self._terms = terms
        self.make_report()

    def action_every_setting(self) -> None:
        """All that were tried, or the best ones, the present one and the recommended one alone."""
        self._everything = not self._everything
        self.show()

    @on(RowPanel.Opened)
    def action_apply_setting(self) -> None:
        """Open the endpoint's form, filled in with the setting under the cursor; saving it is up to the user."""
        endpoint, study = self.endpoint(self.slug), self.study
        chosen = whatif.named(study.settings, self.query_one(SettingsPanel).cursor) if study else None
        if endpoint is None or chosen is None or self.gpudeck.readonly:
            return
        changes = whatif.changes(chosen, endpoint.spec)
        if changes == type(changes)():
            self.notify(f"{self.slug} is set like this already.", markup=False)
        else:
            self.post_message(DialogWanted(Dialog.EDIT, self.slug, changes))

    def action_go_to(self, number: int) -> None:
        """Focus the panel with that number."""
        self.query_one(PANELS[number - 1]).focus()
