"""The fault console: break a worker on purpose, and watch what the orchestrator makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import tzinfo
from typing import ClassVar, Final
from uuid import uuid4

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container

from app import actions
from app.messages import CommandRequested
from app.present import condition, faults
from app.present.condition import Condition, Kind
from app.present.lanes import Density, density_of
from app.present.recovery import Recovery, follow
from app.present.text import Line
from app.screens.live import LiveScreen
from app.widgets.panel import Panel
from app.widgets.row_panel import RowPanel
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.faults import FaultKind, InjectFault
from orchestrator.contract.snapshot import WorkerState

TENTH_NS: Final = SECOND_NS // 10


class FaultMenu(RowPanel):
    """`view` is the label of the worker that is aimed at, or "" for the first that is ready; the cursor is a fault."""

    NUMBER = 1
    NAME = "Faults"
    HEAD = 0

    def row_keys(self) -> list[str]:
        return [kind for kind, _ in faults.FAULTS]

    def paint(self, width: int, height: int) -> list[Line]:
        return faults.menu_rows(self.index, self.view if isinstance(self.view, str) else None, width)


@dataclass(frozen=True, slots=True)
class RecoveriesOf:
    """Faults since the screen was opened, and the instant they are seen at."""

    told: tuple[Recovery, ...]
    now_ns: int


class RecoveryPanel(Panel):
    """`view` is a `RecoveriesOf`."""

    NUMBER = 2
    NAME = "Recovery"
    EMPTY: ClassVar[str] = faults.NOTHING_YET

    def __init__(self, zone: tzinfo | None) -> None:
        super().__init__(id="recovery")
        self._zone = zone

    def paint(self, width: int, height: int) -> list[Line]:
        if not isinstance(self.view, RecoveriesOf):
            return []
        return faults.recovery_rows(self.view.told, self.view.now_ns, width, self._zone)


class FaultScreen(LiveScreen):
    """Faults of the endpoint `slug`, those that others ask for included, from the opening of the screen on."""

    WHERE = actions.Where.FAULTS
    CSS_PATH = "faults.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        *actions.bindings(actions.Where.FAULTS),
        *(Binding(str(n), f"go_to({n})", name, show=False) for n, name in ((1, "Faults"), (2, "Recovery"))),
    ]

    def __init__(self, slug: str) -> None:
        super().__init__()
        self.slug = slug
        self.worker: str | None = None
        """Label of the worker that is aimed at; None aims at the first that is ready."""
        self._told: tuple[Recovery, ...] = ()
        self._since: int | None = None

    def panels(self) -> ComposeResult:
        with Container(id="console"):
            yield FaultMenu(id="faults")
            yield RecoveryPanel(self.gpudeck.zone)

    def on_mount(self) -> None:
        self.query_one(FaultMenu).focus()

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(density_of(event.size.width, event.size.height) is Density.COMPACT, "-compact")

    def show(self) -> None:
        snapshot = self.snapshot
        state = condition.of_feed(snapshot, self.feed)
        menu, recovery = self.query_one(FaultMenu), self.query_one(RecoveryPanel)
        if snapshot is not None:
            if self._since is None:
                self._since = max((event.seq for event in snapshot.events), default=0)
            self._told = follow(self._told, snapshot, self.slug, self._since)
            now_ns = snapshot.taken_at_ns // TENTH_NS * TENTH_NS
            recovery.view = RecoveriesOf(self._told, now_ns) if self._told else None
            if self.worker is not None and self.worker not in self._ready():
                self.worker = None
            if state.kind is Kind.LIVE and self.endpoint(self.slug) is None:
                state = Condition(Kind.FAILED, f"{self.slug} no longer exists (esc goes back)")
            elif state.kind is Kind.LIVE and not snapshot.faults:
                state = Condition(Kind.FAILED, faults.OFF.replace("\n", " "))
        menu.condition, menu.view, menu.note = state, self.worker or "", self.slug
        # With faults off the sentence that says so stands once, in the menu.
        recovery.condition = state if state.kind is not Kind.FAILED else condition.of_feed(snapshot, self.feed)

    def _ready(self) -> list[str]:
        endpoint = self.endpoint(self.slug)
        return [w.label for w in endpoint.workers if w.state is WorkerState.READY] if endpoint else []

    def action_inject_fault(self) -> None:
        fault = self.query_one(FaultMenu).cursor
        if fault is not None:
            command = InjectFault(id=uuid4().hex, slug=self.slug, fault=FaultKind(fault), worker=self.worker)
            self.post_message(CommandRequested(command, quiet=True))

    @on(RowPanel.Opened)
    def _take_choice(self) -> None:
        if self.check_action("inject_fault", ()):
            self.action_inject_fault()

    def action_next_victim(self) -> None:
        self._aim(1)

    def action_previous_victim(self) -> None:
        self._aim(-1)

    def _aim(self, step: int) -> None:
        choices: list[str | None] = [None, *self._ready()]
        at = choices.index(self.worker) if self.worker in choices else 0
        self.worker = choices[(at + step) % len(choices)]
        self.show()

    def action_go_to(self, number: int) -> None:
        """Focus the panel with that number."""
        self.query_one((FaultMenu, RecoveryPanel)[number - 1]).focus()
