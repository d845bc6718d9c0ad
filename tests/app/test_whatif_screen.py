"""What-if on its screen: a replay in a process of its own, picture and table, and the form filled in with a choice."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.pilot import Pilot

from app.app import GpudeckApp
from app.format import rate_per_hour
from app.messages import Dialog, DialogWanted
from app.present import whatif as rows
from app.present.text import text, width
from app.present.whatif import Setting, Study
from app.reporting import NoReport, Reporter, Request
from app.screens.dashboard import DashboardScreen
from app.screens.dialogs.edit import EditDialog, open_edit
from app.screens.dialogs.endpoint_fields import EndpointFields
from app.screens.dialogs.fields import Choice, TextInput
from app.screens.dialogs.terms import TermsDialog
from app.screens.whatif import SettingsPanel, WhatIfScreen
from orchestrator.contract.endpoint import EndpointChanges, EndpointSpec, RequestCount
from tests.app.driving import running
from tests.app.fakes import bare, rich
from tests.app.pictures import assert_picture, screen_text
from tests.waiting import until

DOCUMENT: dict[str, Any] = json.loads((Path(__file__).parent / "study.json").read_text(encoding="utf-8"))
"""As the program prints it: 1,500 requests in bursts, an endpoint 2-5 with cold starts of 25 s."""
STUDY = Study.model_validate(DOCUMENT)
UNTIL = f"--until-ns={rich().taken_at_ns}"
"""A recording lasts until the time that the screen shows, which is not this machine's in a lab."""


def printing(document: object, asked: list[Request] | None = None) -> Reporter:
    """Programs that print `document` at once."""

    async def report(request: Request) -> Any:
        if asked is not None:
            asked.append(request)
        if isinstance(document, Exception):
            raise document
        return document

    return report


async def opened(app: GpudeckApp, pilot: Pilot[Any]) -> SettingsPanel:
    """The screen with its study on it."""
    await pilot.press("W")
    await until(lambda: isinstance(app.screen, WhatIfScreen) and "take" in screen_text(app))
    return app.screen.query_one(SettingsPanel)


def named(name: str) -> Setting:
    return next(each for each in STUDY.settings if each.name == name)


RECOMMENDED = next(each for each in STUDY.settings if each.recommended)
NOW = next(each for each in STUDY.settings if each.now)


async def test_the_recommended_setting_is_chosen_and_can_be_taken() -> None:
    asked: list[Request] = []
    async with running(rich(), reporter=printing(DOCUMENT, asked)) as (app, _, pilot):
        table = await opened(app, pilot)
        assert [(each.program, each.arguments) for each in asked] == [
            ("orchestrator.simulator.study", ("whatif", "sketch", UNTIL))
        ]
        await until(lambda: table.cursor == RECOMMENDED.name)
        assert STUDY.recommendation.split(":")[0] in screen_text(app)
        await pilot.press("enter")
        wanted = [each for each in app.posted if isinstance(each, DialogWanted)]  # type: ignore[attr-defined]
        assert (wanted[0].dialog, wanted[0].slug) == (Dialog.EDIT, "sketch")
        assert wanted[0].changes == EndpointChanges(baseline=3, maximum=5, policy=RequestCount())
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, DashboardScreen))


async def test_the_table_lists_the_best_or_all_of_them() -> None:
    async with running(rich(), reporter=printing(DOCUMENT)) as (app, _, pilot):
        table = await opened(app, pilot)
        best = {each.name for each in STUDY.settings if each.best or each.now or each.recommended}
        assert set(table.row_keys()) == best
        await pilot.press("A")
        await until(lambda: len(table.row_keys()) == len(STUDY.settings))
        await pilot.press("G")
        assert table.cursor == table.row_keys()[-1]
        await pilot.press("A")
        await until(lambda: set(table.row_keys()) == best and table.cursor in best)
        await pilot.click(SettingsPanel, offset=(8, 3))
        assert table.index == 1
        await pilot.click(SettingsPanel, offset=(8, 4), times=2)
        await until(lambda: [each for each in app.posted if isinstance(each, DialogWanted)])  # type: ignore[attr-defined]
        assert table.index == 2


async def test_the_present_setting_is_not_set_again() -> None:
    async with running(rich(), reporter=printing(DOCUMENT)) as (app, _, pilot):
        table = await opened(app, pilot)
        table.select(table.row_keys().index(NOW.name))
        await pilot.press("enter")
        await until(lambda: any("is set like this already" in each.message for each in app._notifications))
        assert not [each for each in app.posted if isinstance(each, DialogWanted)]  # type: ignore[attr-defined]


async def test_nothing_is_set_in_a_read_only_session() -> None:
    async with running(rich(), readonly=True, reporter=printing(DOCUMENT)) as (app, _, pilot):
        table = await opened(app, pilot)
        await pilot.press("enter")
        table.post_message(SettingsPanel.Opened(RECOMMENDED.name))
        await pilot.pause()
        assert not [each for each in app.posted if isinstance(each, DialogWanted)]  # type: ignore[attr-defined]


async def test_what_went_wrong_is_said_and_it_can_be_tried_again() -> None:
    little = NoReport("sketch: 3 requests are recorded, at least 20 are needed to replay")
    answers: list[object] = [little, {}, DOCUMENT, little]

    async def report(request: Request) -> Any:
        return await printing(answers.pop(0))(request)

    async with running(rich(), reporter=report) as (app, _, pilot):
        await pilot.press("W")
        await until(lambda: "at least 20 are needed" in screen_text(app).replace("\n", " "))
        await pilot.press("r")
        await until(lambda: "of another version" in screen_text(app))
        await pilot.press("r")
        await until(lambda: "take" in screen_text(app))
        await pilot.press("r")
        await until(lambda: any("at least 20" in each.message for each in app._notifications))
        assert "★" in screen_text(app), "the former study stays"


async def test_the_replay_is_made_again_under_the_terms_that_are_chosen() -> None:
    asked: list[Request] = []
    document = {**DOCUMENT, "books": ["2025-seed", "my-prices"]}
    async with running(rich(), reporter=printing(document, asked)) as (app, _, pilot):
        await opened(app, pilot)
        await pilot.press("o")
        await until(lambda: isinstance(app.screen, TermsDialog))
        await pilot.press(*"soon", "ctrl+s")
        await until(lambda: "'soon' is not a number of seconds" in screen_text(app))
        app.screen.query_one("#wait", TextInput).value = "2.5"
        app.screen.query_one("#book", Choice).pick("my-prices")
        await pilot.press("ctrl+s")
        await until(lambda: len(asked) == 2)
        assert asked[1].arguments == ("whatif", "sketch", "--wait=2.5", "--book=my-prices", UNTIL)
        await until(lambda: "p95 wait of 2.5 s at most · prices of my-prices" in screen_text(app))
        await pilot.press("o")
        await until(lambda: isinstance(app.screen, TermsDialog))
        assert app.screen.query_one("#book", Choice).chosen == "my-prices"
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, WhatIfScreen))
        assert len(asked) == 2, "nothing was changed"


async def test_leaving_ends_the_replay() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def endless(request: Request) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with running(rich(), reporter=endless) as (app, _, pilot):
        await pilot.press("W")
        await until(begun.is_set)
        await until(lambda: "replaying" in screen_text(app))
        await pilot.press("escape")
        await until(ended.is_set)


async def test_without_an_endpoint_nothing_opens() -> None:
    async with running(bare(), reporter=printing(DOCUMENT)) as (app, _, pilot):
        await pilot.press("W")
        await pilot.pause()
        assert isinstance(app.screen, DashboardScreen)


async def test_the_form_opens_filled_in_and_only_shows() -> None:
    changes = EndpointChanges(baseline=3, maximum=5, policy=RequestCount())
    async with running(rich()) as (app, client, _):
        assert app.snapshot is not None
        app.push_screen(open_edit(app.snapshot, "sketch", changes))
        await until(lambda: isinstance(app.screen, EditDialog) and app.screen.reading.spec is not None)
        dialog = app.screen
        assert isinstance(dialog, EditDialog)
        texts = dialog.query_one(EndpointFields).texts()
        assert (texts.baseline, texts.maximum, texts.policy, texts.threshold) == ("3", "5", "request_count", "4")
        assert {change.field for change in dialog.changes} == {"baseline", "policy"}
        assert client.sent == []


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_picture(size: tuple[int, int]) -> None:
    async with running(rich(), size=size, reporter=printing(DOCUMENT)) as (app, _, pilot):
        table = await opened(app, pilot)
        await until(lambda: table.cursor == RECOMMENDED.name)
        await pilot.press("j")
        await pilot.pause()
        assert_picture(app, f"whatif-{size[0]}x{size[1]}")


# --- what is drawn, without a terminal


def marks(lines: list[Any], glyphs: str) -> list[tuple[int, int]]:
    """(row, column) of each mark in the plot; the legend below is not part of it."""
    plot = [text(each) for each in lines[:-1]]
    return [(row, at) for row, each in enumerate(plot) for at, cell in enumerate(each) if cell in glyphs]


def test_cheaper_is_lower_and_quicker_is_left() -> None:
    quick = NOW.model_copy(update={"name": "quick", "per_hour_u": 20_000_000, "wait_p95_s": 0.0, "now": False})
    cheap = NOW.model_copy(update={"name": "cheap", "per_hour_u": 1_000_000, "wait_p95_s": 50.0, "recommended": True})
    lines = rows.picture_rows([quick.model_copy(update={"best": True}), cheap], None, 60, 12)
    (dear_row, left), (cheap_row, right) = *marks(lines, "●"), *marks(lines, "★")
    assert dear_row < cheap_row
    assert left < right
    assert left == 10
    assert cheap_row == 8, "the cheapest lies on the axis"


def test_the_line_of_the_best_is_never_crossed() -> None:
    lines = rows.picture_rows(STUDY.settings, None, 100, 30)
    steps = marks(lines, "╮")
    best = marks(lines, "●")
    assert steps
    assert [column for _, column in sorted(steps)] == sorted(column for _, column in steps), "down means right"
    for row, column in marks(lines, "·"):
        assert any(r >= row and c <= column for r, c in best + marks(lines, "★")), "something is as cheap and as quick"


def test_foreign_text_is_plain() -> None:
    study = STUDY.model_copy(update={"recommendation": "[bold]Take[/bold]\x1b[2J it"})
    first = text(rows.advice_rows(study, None, 80)[0])
    assert first == "→ [bold]Take[/bold] it"


def test_an_assumed_cold_start_and_lost_requests_are_said() -> None:
    cold = STUDY.cold_start.model_copy(update={"measured": 0})
    study = STUDY.model_copy(update={"cold_start": cold, "missed": 1_234})
    said = " ".join(text(each) for each in rows.advice_rows(study, None, 100))
    assert "cold start 25.0 s, assumed" in said
    assert "1,234 more came too fast to be kept" in said


def test_what_a_choice_changes_against_now_is_said() -> None:
    said = " ".join(text(each) for each in rows.advice_rows(STUDY, RECOMMENDED, 200))
    assert f"{rate_per_hour(RECOMMENDED.per_hour_u)} instead of {rate_per_hour(NOW.per_hour_u)} ▼" in said
    assert "set now" in " ".join(text(each) for each in rows.advice_rows(STUDY, NOW, 200))


def test_only_what_differs_is_changed() -> None:
    spec = EndpointSpec(slug="sketch", model="sketch", gpu_type="L40", baseline=2, maximum=5)
    assert rows.changes(NOW, spec) == EndpointChanges()
    slower = NOW.model_copy(update={"idle_timeout_s": 60})
    assert rows.changes(slower, spec) == EndpointChanges(idle_timeout_s=60)
    for each in STUDY.settings:
        after = rows.changes(each, spec).apply(spec)
        assert (after.baseline, after.maximum, after.idle_timeout_s, after.policy) == (
            each.baseline, each.maximum, each.idle_timeout_s, each.policy,
        )  # fmt: skip


@given(st.integers(20, 220), st.integers(3, 60))
def test_lines_never_exceed_their_room(room: int, height: int) -> None:
    picture = rows.picture_rows(STUDY.settings, NOW.name, room, height)
    assert len(picture) in (0, height)
    for each in picture:
        assert width(each) <= room
    for made in (rows.advice_rows(STUDY, RECOMMENDED, room), rows.level_rows(STUDY, max(room, 36))):
        assert all(width(each) <= max(room, 36) for each in made)


@given(st.floats(0, 10_000), st.floats(0, 10_000))
def test_a_longer_wait_is_never_drawn_further_left(one: float, other: float) -> None:
    frame = rows.Frame.around(STUDY.settings, None)
    low, high = sorted((one, other))
    assert 0 <= frame.across(low) <= frame.across(high) <= 1


def test_what_is_off_the_picture_is_counted() -> None:
    frame = rows.Frame.around(STUDY.settings, None)
    outside = sum(not frame.holds(each) for each in STUDY.settings)
    assert outside > 0
    assert f"{outside} off the edge" in text(rows.picture_rows(STUDY.settings, None, 90, 20)[-1])
    assert all(frame.holds(each) for each in STUDY.settings if each.best or each.now or each.recommended)
    dearest = max(STUDY.settings, key=lambda each: each.per_hour_u)
    assert rows.Frame.around(STUDY.settings, dearest.name).holds(dearest), "the chosen one is always seen"
