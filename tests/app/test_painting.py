"""What a new picture costs: lines that are as they were are not painted again, and none shows what is no longer so."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.strip import Strip
from textual.style import Style

from app.app import GpudeckApp
from app.bench.deck import frame
from app.present.text import Span, Tone, line
from app.widgets.content import StripMaker
from app.widgets.panel import Body, Panel
from app.widgets.panels import GpuStrip
from orchestrator.contract.snapshot import Snapshot
from tests.app.driving import running
from tests.app.fakes import FakeClient, rich
from tests.app.pictures import screen_text
from tests.waiting import until


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many lines of each panel have been painted; the test clears it."""
    counts: Counter[str] = Counter()
    paint = Body.render_line

    def counted(body: Body, y: int) -> Strip:
        assert isinstance(body.parent, Panel)
        counts[body.parent.NAME] += 1
        return paint(body, y)

    monkeypatch.setattr(Body, "render_line", counted)
    return counts


async def quiet(app: GpudeckApp, pilot: Pilot[Any], painted: Counter[str]) -> None:
    """Until a look at the screen finds that nothing has been painted since the last one."""
    while True:
        painted.clear()
        await app.drawn()
        await pilot.pause()
        if not painted:
            return


async def showing(app: GpudeckApp, client: FakeClient, pilot: Pilot[Any], state: Snapshot) -> None:
    client.push(state)
    await until(lambda: app.snapshot is not None and app.snapshot.seq == state.seq)
    await app.drawn()
    await pilot.pause()


async def test_a_picture_that_shows_nothing_new_paints_nothing(painted: Counter[str]) -> None:
    async with running(rich(seq=1)) as (app, client, pilot):
        await quiet(app, pilot, painted)
        await showing(app, client, pilot, rich(seq=2))
        assert painted == {}


async def test_one_figure_paints_the_lines_that_show_it(painted: Counter[str]) -> None:
    async with running(rich(seq=1)) as (app, client, pilot):
        second = rich().endpoints[1]
        busier = second.model_copy(update={"traffic": second.traffic.model_copy(update={"rpm": 777})})
        endpoints = (rich().endpoints[0], busier, *rich().endpoints[2:])
        await quiet(app, pilot, painted)
        await showing(app, client, pilot, rich(seq=2, endpoints=endpoints))
        await until(lambda: painted)
        assert "777" in screen_text(app)
        assert painted == {"Endpoints": 1}, "one row; the traffic shown is that of another endpoint"


async def test_a_key_paints_the_two_rows_between_which_the_cursor_moved(painted: Counter[str]) -> None:
    async with running(rich()) as (app, _, pilot):
        await quiet(app, pilot, painted)
        await pilot.press("j")
        await until(lambda: painted["Traffic"], what="the traffic of the endpoint that is selected now")
        assert painted["Endpoints"] == 2


async def test_what_was_out_of_view_is_as_new_when_it_comes_into_view() -> None:
    first, second = frame(400, 4, 40), frame(408, 4, 40)
    card = first.gpus[-1].index

    def power() -> str:
        """That of the last card, when it is in view."""
        row = next((each for each in screen_text(app).splitlines() if f"{card:<2}L40" in each), "")
        return next((word for word in row.split() if word.endswith("/300W")), "")

    def shown(state: Snapshot) -> str:
        return f"{(state.gpus[-1].power_mw or 0) // 1_000}/300W"

    assert shown(first) != shown(second)
    async with running(first) as (app, client, pilot):
        strip = app.screen.query_one(GpuStrip)
        assert power() == "", "the test is about a panel that does not show everything"
        strip.scroll_end(animate=False)  # what is painted once …
        await until(lambda: power() == shown(first))
        strip.scroll_home(animate=False)
        await until(lambda: power() == "")
        await showing(app, client, pilot, second)  # … and changes while it is out of view
        strip.scroll_end(animate=False)
        await until(lambda: power() == shown(second))


async def test_another_theme_repaints_what_did_not_change() -> None:
    async with running(rich(), size=(80, 24)) as (app, _, _):
        before = app.export_screenshot()
        app.theme = "gpudeck-light"
        await until(lambda: app.export_screenshot() != before)


async def test_equal_lines_are_one_strip_and_no_control_code_gets_through() -> None:
    async with running(rich()):
        maker = StripMaker(Style())
        strip = maker.strip(line(Span("a\nb\x1b[2Jc\r", Tone.PLAIN)))
        assert strip.text == "a bc "
        assert maker.strip(line(Span("a\nb\x1b[2Jc\r", Tone.PLAIN))) is strip
