"""The dashboard: endpoints, worker lanes, GPUs, traffic, money and events, all from one snapshot."""

from __future__ import annotations

from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container

from app import actions
from app.messages import Dialog, DialogWanted
from app.present import condition, endpoints, gpus
from app.present import events as event_rows
from app.present.lanes import Density, density_of
from app.screens.endpoint_actions import EndpointActions
from app.screens.endpoint_detail import EndpointScreen
from app.screens.filtered import FilteredScreen
from app.widgets.chrome import FilterBar
from app.widgets.endpoint_table import EndpointTable
from app.widgets.panel import Panel
from app.widgets.panels import EventLog, GpusOf, GpuStrip, LanesOf, MoneyOf, MoneyPanel, TrafficPanel, WorkerLanes
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.snapshot import EndpointView

PANELS: tuple[type[Panel], ...] = (EndpointTable, WorkerLanes, GpuStrip, TrafficPanel, MoneyPanel, EventLog)


class DashboardScreen(FilteredScreen, EndpointActions):
    """Composes the panels, hands each one its slice, and turns keys into messages."""

    WHERE = actions.Where.DASHBOARD
    LISTED = EndpointTable
    CSS_PATH = "dashboard.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        *actions.bindings(actions.Where.DASHBOARD),
        *(Binding(str(panel.NUMBER), f"go_to({panel.NUMBER})", panel.NAME, show=False) for panel in PANELS),
    ]

    def panels(self) -> ComposeResult:
        with Container(id="board"):
            with Container(id="left"):
                yield EndpointTable(id="endpoints")
                yield WorkerLanes(id="workers")
                yield GpuStrip(id="gpus")
                yield EventLog(self.gpudeck.zone, id="events")
            with Container(id="right"):
                yield TrafficPanel(id="traffic")
                yield MoneyPanel(id="money")
        yield FilterBar()

    def on_mount(self) -> None:
        self.query_one(EndpointTable).focus()

    def on_resize(self, event: events.Resize) -> None:
        density = density_of(event.size.width, event.size.height)
        for each in Density:
            self.set_class(each is density, f"-{each.value}")
        for panel in self.query(Panel):
            panel.density = density

    @property
    def chosen(self) -> EndpointView | None:
        return self.endpoint(self.query_one(EndpointTable).cursor)

    def show(self) -> None:
        snapshot, feed = self.snapshot, self.feed
        state = condition.of_feed(snapshot, feed)
        for panel in self.query(Panel):
            panel.condition = state
        self.query_one(GpuStrip).condition = condition.of_gpus(snapshot, feed)
        self.query_one(MoneyPanel).condition = condition.of_money(snapshot, feed)
        if snapshot is None:
            return
        shown = endpoints.matching(snapshot.endpoints, self.needle)
        table = self.query_one(EndpointTable)
        table.view = shown
        table.note = self.filter_note(endpoints.title(snapshot))
        # Whole seconds: a duration that changes four times a second would repaint the panel for nothing.
        now_ns = snapshot.taken_at_ns // SECOND_NS * SECOND_NS
        lanes = self.query_one(WorkerLanes)
        lanes.view, lanes.note = LanesOf(shown, now_ns), "last 2 min"
        strip = self.query_one(GpuStrip)
        strip.view, strip.note = GpusOf(snapshot.gpus, snapshot.endpoints), gpus.title(snapshot)
        account = snapshot.accounts[0] if snapshot.accounts else None
        money = self.query_one(MoneyPanel)
        money.view = MoneyOf(account, snapshot.balance_series_u, snapshot.accounts[1:]) if account else None
        money.note = account.name if account and len(snapshot.accounts) > 1 else ""
        log = self.query_one(EventLog)
        log.view = event_rows.matching(snapshot.events, self.needle)
        self._show_traffic()

    def _show_traffic(self) -> None:
        panel, endpoint = self.query_one(TrafficPanel), self.chosen
        panel.view = endpoint
        panel.note = endpoint.spec.slug if endpoint else ""

    @on(EndpointTable.Moved)
    def _follow_cursor(self) -> None:
        self._show_traffic()

    @on(EndpointTable.Opened)
    def action_open_endpoint(self) -> None:
        if endpoint := self._required():
            self.app.push_screen(EndpointScreen(endpoint.spec.slug))

    def action_create_endpoint(self) -> None:
        self.post_message(DialogWanted(Dialog.CREATE))

    def action_go_to(self, number: int) -> None:
        """Focus the panel with that number."""
        self.screen.minimize()
        panel = self.query_one(PANELS[number - 1])
        panel.focus()
        panel.scroll_visible(animate=False)

    def action_zoom_panel(self) -> None:
        if self.maximized is not None:
            self.minimize()
        elif isinstance(self.focused, Panel):
            self.maximize(self.focused, container=False)
        self.refresh_bindings()

    def action_go_back(self) -> None:
        if self.maximized is not None:
            self.minimize()
        else:
            self.query_one(FilterBar).action_clear()
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "go_back":
            return bool(self.needle) or self.maximized is not None
        return super().check_action(action, parameters)
