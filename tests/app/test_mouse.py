"""The mouse: every key of the footer is a button, every list takes clicks, and the wheel scrolls."""

from __future__ import annotations

from typing import Any

import pytest
from textual import events
from textual.pilot import Pilot
from textual.widget import Widget
from textual.widgets._footer import FooterKey

from app.app import GpudeckApp
from app.messages import Dialog
from app.screens.dashboard import DashboardScreen
from app.screens.dialogs.accounts import AccountsDialog
from app.screens.dialogs.keys import KeyList
from app.screens.dialogs.top_up import TopUpDialog
from app.screens.endpoint_detail import EndpointScreen
from app.screens.help import HelpScreen
from app.screens.ledger import LedgerScreen
from app.screens.loadtest import LoadTestScreen
from app.screens.logs import LogPanel, LogsScreen
from app.screens.playground import PlaygroundScreen
from app.widgets.chrome import FilterBar
from app.widgets.panel import Panel
from orchestrator.contract.query import AskLogs, LogLines, Logs, Query
from tests.app.dialog_stage import stage
from tests.app.driving import dialogs_wanted, running
from tests.app.fakes import FakeClient, example_answer, rich
from tests.app.pictures import screen_text
from tests.waiting import until


async def press_in_footer(app: GpudeckApp, pilot: Pilot[Any], label: str) -> None:
    """Click the key with that label at the foot of the screen."""
    found = [each for each in app.screen.query(FooterKey) if each.description == label]
    assert found, f"{label} is not in the footer: {[each.description for each in app.screen.query(FooterKey)]}"
    await pilot.click(found[0])
    await pilot.pause()


async def wheel(pilot: Pilot[Any], widget: Widget, kind: type[events.MouseEvent], notches: int = 1) -> None:
    """Turn the wheel over the middle of `widget`."""
    middle = (widget.region.width // 2, widget.region.height // 2)
    for _ in range(notches):
        await pilot._post_mouse_events([kind], widget, middle)
    await pilot.pause()


async def test_every_key_of_the_dashboards_footer_is_a_button() -> None:
    screens = {
        "Open": EndpointScreen, "Logs": LogsScreen, "Try": PlaygroundScreen, "Load test": LoadTestScreen,
        "Ledger": LedgerScreen, "Help": HelpScreen,
    }  # fmt: skip
    dialogs = {"New": Dialog.CREATE, "Edit": Dialog.EDIT, "On/off": Dialog.DISABLE, "Quit": Dialog.QUIT}
    async with running(rich(), size=(200, 50)) as (app, _, pilot):
        for label, screen in screens.items():
            await press_in_footer(app, pilot, label)
            await until(lambda screen=screen: isinstance(app.screen, screen), what=label)  # type: ignore[misc]
            await pilot.press("escape")
            await until(lambda: isinstance(app.screen, DashboardScreen))
            await pilot.pause()
        shown = {each.description for each in app.screen.query(FooterKey)}
        assert shown == {*screens, *dialogs, "curl", "Filter"}, "every key is tried here"
        await press_in_footer(app, pilot, "curl")
        await until(lambda: app.clipboard.startswith("curl"))
        await press_in_footer(app, pilot, "Filter")
        assert app.screen.query_one(FilterBar).is_open
        await pilot.press("escape")
        for label, dialog in dialogs.items():
            await press_in_footer(app, pilot, label)
            await until(lambda dialog=dialog: dialog in dict(dialogs_wanted(app)), what=label)  # type: ignore[misc]


@pytest.mark.parametrize("width", [60, 80])
async def test_no_key_is_cut_off_and_help_is_always_there(width: int) -> None:
    async with running(rich(), size=(width, 24)) as (app, _, pilot):
        for key in ("", "enter", "m", "p"):
            if key:
                await pilot.press(key)
                await until(lambda: not isinstance(app.screen, DashboardScreen))
            await until(lambda: "Help" in {each.description for each in app.screen.query(FooterKey)})
            await pilot.pause()
            shown = list(app.screen.query(FooterKey))
            assert all(app.screen.region.contains_region(each.region) for each in shown), key
            assert {"Back" if key else "Quit", "Help"} <= {each.description for each in shown}
            if key:
                await pilot.press("escape")
                await until(lambda: isinstance(app.screen, DashboardScreen))


async def test_a_click_on_the_footer_leads_back() -> None:
    async with running(rich()) as (app, _, pilot):
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, EndpointScreen))
        await pilot.pause()
        await press_in_footer(app, pilot, "Back")
        await until(lambda: isinstance(app.screen, DashboardScreen))


async def test_the_wheel_scrolls_every_panel_that_has_more_than_it_shows() -> None:
    async with running(rich(), size=(80, 24)) as (app, _, pilot):
        tried = 0
        for key in ("question_mark", "enter"):
            await pilot.press(key)
            await until(lambda: not isinstance(app.screen, DashboardScreen))
            await pilot.pause()
            for panel in app.screen.query(Panel):
                if panel.max_scroll_y > 0:
                    await wheel(pilot, panel, events.MouseScrollDown)
                    await until(lambda panel=panel: panel.scroll_y > 0, what=str(panel.id))  # type: ignore[misc]
                    tried += 1
            await pilot.press("escape")
            await until(lambda: isinstance(app.screen, DashboardScreen))
        assert tried


async def test_the_wheel_scrolls_an_endpoint_that_does_not_fit() -> None:
    async with running(rich(), size=(80, 24)) as (app, _, pilot):
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, EndpointScreen))
        await pilot.pause()
        whole = app.screen.query_one("#detail")
        assert whole.max_scroll_y > 0
        await wheel(pilot, whole, events.MouseScrollDown)
        await until(lambda: whole.scroll_y > 0)


async def test_looking_back_in_the_logs_holds_them_until_they_are_followed_again() -> None:
    def answer(query: Query) -> object:
        if isinstance(query, AskLogs):
            lines = tuple(f"line {number}" for number in range(200))
            return Logs(workers=(LogLines(worker_id="sketch-w1", label="w1", lines=lines),))
        return example_answer(query)

    async with running(rich()) as (app, client, pilot):
        client.answer = answer
        await pilot.press("l")
        await until(lambda: "line 199" in screen_text(app) and "following" in screen_text(app))
        panel = app.screen.query_one(LogPanel)
        await until(lambda: panel.scroll_y == panel.max_scroll_y > 0)
        await wheel(pilot, panel, events.MouseScrollUp, 3)
        await until(lambda: "holding, f follows" in screen_text(app) and panel.scroll_y < panel.max_scroll_y)
        held, asked = panel.scroll_y, len(client.asked)
        assert isinstance(app.screen, LogsScreen)
        app.screen.ask()
        await until(lambda: len(client.asked) > asked)
        await pilot.pause()
        assert panel.scroll_y == held, "new lines do not pull away what is read"
        await pilot.press("f")
        await until(lambda: panel.scroll_y == panel.max_scroll_y)


async def test_accounts_are_chosen_by_click_wheel_and_arrows_and_opened_by_a_double_click_or_enter() -> None:
    state = rich()
    research = state.accounts[0].model_copy(update={"name": "research"})
    state = state.model_copy(update={"accounts": (*state.accounts, research)})
    async with stage(Dialog.ACCOUNTS, client=FakeClient(state)) as held:
        table = held.top.query_one(KeyList)
        first, second = table.keys[:2]
        await held.pilot.click(table, offset=(6, 1))
        assert table.chosen == second
        await wheel(held.pilot, table, events.MouseScrollUp)
        assert table.chosen == first
        await wheel(held.pilot, table, events.MouseScrollDown)
        assert table.chosen == second
        await held.press("enter")
        dialog = await held.front(TopUpDialog)
        assert dialog.account is not None
        assert dialog.account.name == second
        await held.press("escape")
        await held.front(AccountsDialog)
        await held.pilot.click(table, offset=(6, 0), times=2)
        dialog = await held.front(TopUpDialog)
        assert dialog.account is not None
        assert dialog.account.name == first
