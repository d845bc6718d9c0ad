"""Keys pressed faster than the orchestrator's answers are seen: each one counts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC

import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import Input

from app.app import GpudeckApp
from app.screens.dashboard import DashboardScreen
from app.screens.help import HelpScreen
from app.screens.loadtest import LoadTestScreen
from orchestrator.contract.command import UpdateEndpoint
from orchestrator.contract.snapshot import Snapshot
from tests.app import fakes
from tests.app.dialog_stage import HeldClient, refusing, silent
from tests.waiting import until


@asynccontextmanager
async def dashboard() -> AsyncIterator[tuple[GpudeckApp, HeldClient, Pilot[str | None]]]:
    """A dashboard whose commands are answered once the gate of its client is open. `sketch`, 2-5, is chosen."""
    client = HeldClient(fakes.rich())
    app = GpudeckApp(client, zone=UTC, tick_s=3_600)
    async with app.run_test() as pilot:
        await until(lambda: isinstance(app.screen, DashboardScreen) and app.snapshot is not None)
        await pilot.pause()
        yield app, client, pilot


def asked(client: HeldClient) -> list[tuple[int | None, int | None]]:
    return [(c.changes.baseline, c.changes.maximum) for c in client.sent if isinstance(c, UpdateEndpoint)]


def sized(baseline: int, maximum: int, seq: int) -> Snapshot:
    state = fakes.rich(seq=seq)
    spec = state.endpoints[0].spec.model_copy(update={"baseline": baseline, "maximum": maximum})
    first = state.endpoints[0].model_copy(update={"spec": spec})
    return state.model_copy(update={"endpoints": (first, *state.endpoints[1:])})


async def seen(app: GpudeckApp, client: HeldClient, pilot: Pilot[str | None], state: Snapshot) -> None:
    client.push(state)
    await until(lambda: app.snapshot is state, what="the snapshot")
    await pilot.pause()


async def test_presses_before_anything_is_seen_add_up() -> None:
    async with dashboard() as (_, client, pilot):
        await pilot.press("plus", "plus", "minus", "plus", "B")
        client.gate.set()
        await until(lambda: len(client.sent) == 5)
        assert sorted(asked(client), key=str) == sorted(
            [(None, 6), (None, 7), (None, 6), (None, 7), (3, None)], key=str
        )


async def test_a_step_seen_on_the_way_does_not_set_the_count_back() -> None:
    async with dashboard() as (app, client, pilot):
        await pilot.press("plus", "plus")
        await seen(app, client, pilot, sized(2, 6, 900))
        await pilot.press("plus")
        client.gate.set()
        await until(lambda: len(client.sent) == 3)
        assert (None, 8) in asked(client)


async def test_what_somebody_else_changes_counts_once_all_is_answered() -> None:
    async with dashboard() as (app, client, pilot):
        client.gate.set()
        await pilot.press("plus", "plus")
        await until(lambda: len(client.sent) == 2)
        await pilot.pause()
        await seen(app, client, pilot, sized(1, 3, 900))
        await pilot.press("plus")
        await until(lambda: len(client.sent) == 3)
        assert asked(client)[-1] == (None, 4)


@pytest.mark.parametrize("outcome", [refusing("balance: too low"), silent])
async def test_a_refusal_or_silence_starts_over_from_what_is_there(outcome: object) -> None:
    async with dashboard() as (app, client, pilot):
        client.outcome = outcome  # type: ignore[assignment]
        client.gate.set()
        await pilot.press("plus")
        await until(lambda: len(app._notifications) == 1)
        client.sent.clear()
        await pilot.press("plus")
        await until(lambda: len(app._notifications) == 2)
        assert {maximum for _, maximum in asked(client)} == {6}


async def test_what_is_typed_after_tab_goes_to_the_next_field_however_quickly() -> None:
    async with dashboard() as (app, _, pilot):
        await pilot.press("L")
        await until(lambda: isinstance(app.screen, LoadTestScreen) and app.focused is app.screen.query_one("#rpm"))
        for key in ("9", "tab", "1", "5", "tab", "3", "shift+tab", "0"):  # as one read of the terminal gives them
            app.post_message(events.Key(key, key if len(key) == 1 else None))
        typed = [app.screen.query_one(name, Input) for name in ("#rpm", "#to", "#seconds")]
        await until(lambda: [field.value for field in typed] == ["9", "0", "3"])
        assert app.focused is typed[1]


async def test_an_answer_given_to_another_screen_is_not_waited_for() -> None:
    async with dashboard() as (app, client, pilot):
        await pilot.press("plus", "question_mark")
        await until(lambda: isinstance(app.screen, HelpScreen))
        client.gate.set()
        await until(lambda: len(client.sent) == 1)
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, DashboardScreen))
        await pilot.press("plus")
        await until(lambda: len(client.sent) == 2)
        assert asked(client) == [(None, 6), (None, 6)]
