"""From one endpoint's screen to the next."""

from __future__ import annotations

from app.screens.endpoint_detail import EndpointScreen
from app.widgets.panel import Panel
from tests.app.driving import running
from tests.app.fakes import rich
from tests.waiting import until


async def test_brackets_turn_to_the_next_endpoint_and_around_the_end() -> None:
    async with running(rich()) as (app, _, pilot):
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, EndpointScreen))
        seen = []
        for key in ("right_square_bracket",) * 3 + ("left_square_bracket",):
            await pilot.press(key)
            assert isinstance(app.screen, EndpointScreen)
            seen.append(app.screen.slug)
        assert seen == ["thumbs", "llama-70b", "sketch", "llama-70b"]
        await until(lambda: app.screen.query_one("#summary", Panel).note == "llama-70b")
        await pilot.press("escape")
        await until(lambda: not isinstance(app.screen, EndpointScreen))
