"""Traffic and cost of the past on an endpoint's own screen: what is asked, what is drawn, what is said of nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC
from typing import Any

import pytest
from textual.pilot import Pilot

from app.app import GpudeckApp
from app.messages import QuestionAnswered
from app.present import history
from app.present.history import RANGES, Past
from app.present.lanes import Density
from app.present.text import text
from app.screens.endpoint_detail import MINUTE_NS, EndpointScreen
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.query import AskHistory, Unanswered
from tests.app import fakes
from tests.app.past import past_answer, silence
from tests.app.pictures import assert_picture, screen_text
from tests.waiting import until


@asynccontextmanager
async def endpoint_screen(
    answer: Any = past_answer, size: tuple[int, int] = (120, 40)
) -> AsyncIterator[tuple[GpudeckApp, Pilot[Any], fakes.FakeClient]]:
    client = fakes.FakeClient(fakes.rich())
    client.answer = answer
    app = GpudeckApp(client, zone=UTC, tick_s=3_600)
    async with app.run_test(size=size) as pilot:
        await until(lambda: app.snapshot is not None)
        await pilot.pause()
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, EndpointScreen))
        yield app, pilot, client


def asked(client: fakes.FakeClient) -> list[AskHistory]:
    return [query for query in client.asked if isinstance(query, AskHistory)]


async def shows(app: GpudeckApp, pilot: Pilot[Any], words: str) -> None:
    try:
        await until(lambda: words in screen_text(app), what=words)
    except AssertionError:
        raise AssertionError(screen_text(app)) from None
    await pilot.pause()


async def test_the_key_goes_from_live_through_the_ranges_and_back() -> None:
    async with endpoint_screen() as (app, pilot, client):
        await shows(app, pilot, "requests/s")
        assert asked(client) == []
        for shown in RANGES:
            await pilot.press("r")
            await shows(app, pilot, f"7 Traffic  last {shown.name}")
            await shows(app, pilot, f"−{shown.name}")
        await pilot.press("r")
        await shows(app, pilot, "requests/s")
        assert [query.step_s for query in asked(client)] == [shown.step_s for shown in RANGES]


async def test_it_is_asked_again_a_minute_later_and_not_before() -> None:
    async with endpoint_screen() as (app, pilot, client):
        await pilot.press("r")
        await shows(app, pilot, "−1 h")
        for later_ns, times in ((SECOND_NS, 1), (2 * SECOND_NS, 1), (MINUTE_NS, 2)):
            taken = fakes.NOW_NS // MINUTE_NS * MINUTE_NS + later_ns
            client.push(fakes.rich(taken_at_ns=taken))
            await until(lambda taken=taken: app.snapshot is not None and app.snapshot.taken_at_ns == taken)
            await pilot.pause()
            assert len(asked(client)) == times
        assert asked(client)[0].slug == "sketch"


async def test_nothing_and_trouble_are_said() -> None:
    async with endpoint_screen(silence) as (app, pilot, client):
        await pilot.press("r")
        await shows(app, pilot, "No request and no cost in the")
        client.answer = lambda query: Unanswered(code="unavailable", message="metrics: [red]disk[/] full")
        await pilot.press("r")
        await shows(app, pilot, "✖ metrics: [red]disk[/] full")
        client.unreachable = "gone"
        await pilot.press("r")
        await shows(app, pilot, "✖ no answer from the orchestrator")


async def test_an_answer_that_comes_late_is_not_shown_under_another_range() -> None:
    async with endpoint_screen() as (app, pilot, _):
        late = history.question("sketch", RANGES[0], fakes.NOW_NS)
        await pilot.press("r", "r", "r")
        await shows(app, pilot, "−7 d")
        app.screen.post_message(QuestionAnswered(late, silence(late)))
        await pilot.pause()
        assert "−7 d" in screen_text(app)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_picture(size: tuple[int, int]) -> None:
    async with endpoint_screen(size=size) as (app, pilot, _):
        await pilot.press("r", "r")
        await shows(app, pilot, "−24 h")
        assert_picture(app, f"endpoint-history-{size[0]}x{size[1]}")


@pytest.mark.parametrize("shown", RANGES)
def test_the_window_ends_with_the_step_that_holds_now(shown: history.Range) -> None:
    for now_ns in (fakes.NOW_NS, fakes.NOW_NS // (shown.step_s * SECOND_NS) * shown.step_s * SECOND_NS):
        query = history.question("sketch", shown, now_ns)
        assert query.until_ns - shown.step_s * SECOND_NS <= now_ns < query.until_ns
        assert query.until_ns - query.since_ns == shown.span_s * SECOND_NS
        assert query.until_ns % (shown.step_s * SECOND_NS) == 0


@pytest.mark.parametrize(
    ("density", "room"),
    [
        (Density.NORMAL, 38),
        *((density, room) for density in (Density.COMPACT, Density.NORMAL) for room in (58, 76, 200)),
    ],
)
def test_every_line_fits_and_every_chart_fills_its_room(density: Density, room: int) -> None:
    for shown in RANGES:
        answer = past_answer(history.question("sketch", shown, fakes.NOW_NS))
        lines = [text(line) for line in history.rows(Past(shown, answer), room, 20, density)]
        assert max(map(len, lines)) <= room
        if density is Density.NORMAL:
            assert {len(line) for line in lines if line[0] in " ▁▂▃▄▅▆▇█"} == {room}


def test_totals_are_exact_and_the_peak_is_by_the_hour() -> None:
    answer = past_answer(history.question("sketch", RANGES[0], fakes.NOW_NS))
    shown = "\n".join(text(line) for line in history.rows(Past(RANGES[0], answer), 76, 20, Density.NORMAL))
    assert f"{sum(point.requests for point in answer.points):,}" in shown
    assert "peak $8.01/h" in shown
    assert f"✖ {answer.total.failures}" in shown


def test_until_the_answer_is_there_it_says_so() -> None:
    [line] = history.rows(Past(RANGES[0]), 40, 20, Density.NORMAL)
    assert text(line) == "◐ reading the history"
