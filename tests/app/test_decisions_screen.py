"""The decision journal on its screen: asked for when something changed, shown newest first, never as markup."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from app.present.decisions import rows, sentence
from app.present.text import text
from app.screens.dashboard import DashboardScreen
from app.screens.decisions import DecisionsScreen
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.decision import AskDecisions, DecisionLine, Decisions
from orchestrator.contract.query import Query, Unanswered
from orchestrator.contract.snapshot import DecisionView
from tests.app.driving import running
from tests.app.fakes import NOW_NS, example_answer, rich, sketch
from tests.app.pictures import screen_text
from tests.waiting import until

CHANGE = DecisionLine(
    at_ns=NOW_NS, before=0, desired=3, asked=3, live=0, rule="ratio", why="(5 queued + 0 running) / 2 = 2.50 → 3",
    sentence="", numbers={},
)  # fmt: skip
HELD = CHANGE.model_copy(
    update={
        "at_ns": NOW_NS + SECOND_NS,
        "before": 3,
        "asked": 7,
        "obstacle": "maximum",
        "why": "[bold]much[/bold]\x1b[2J",
    }
)


class Autumn(tzinfo):
    """Two hours ahead of UTC until 25 October 2026, 01:00 UTC, then one; no database of zones is needed."""

    def fromutc(self, at: datetime) -> datetime:
        set_back = at.replace(tzinfo=None) >= datetime(2026, 10, 25, 1)  # noqa: DTZ001 - it is given in UTC
        return (at + timedelta(hours=1 if set_back else 2)).replace(fold=int(set_back))

    def utcoffset(self, at: datetime | None) -> timedelta:
        return timedelta(hours=1 if at is not None and at.fold else 2)

    def dst(self, at: datetime | None) -> timedelta:
        return self.utcoffset(at) - timedelta(hours=1)


def journal(query: Query) -> Any:
    if isinstance(query, AskDecisions):
        return Decisions(slug=query.slug, lines=(CHANGE, HELD))
    return example_answer(query)


def test_the_newest_decision_is_on_top_and_foreign_text_is_plain() -> None:
    date, first, second = [text(each) for each in rows((CHANGE, HELD), 100, UTC)]
    assert re.fullmatch(r"20\d\d-\d\d-\d\d UTC", date)
    assert first.endswith("3        held at the maximum  [bold]much[/bold]; the maximum is 3")
    assert "\x1b" not in first
    assert second.endswith("  0 → 3    (5 queued + 0 running) / 2 = 2.50 → 3")


def test_a_sentence_that_does_not_fit_goes_on_below() -> None:
    long = CHANGE.model_copy(update={"why": "word " * 30})
    _, *lines = rows((long,), 60, UTC)
    assert len(lines) > 3
    assert all(len(text(each)) <= 60 for each in lines)
    assert "0 → 3    word word" in text(lines[0])
    assert text(lines[1]).startswith(" " * 19 + "word")
    assert sum(text(each).count("word") for each in lines) == 30


def test_a_sentence_says_what_kept_it_from_being_done() -> None:
    assert sentence(CHANGE) == CHANGE.why
    assert sentence(HELD) == "[bold]much[/bold]; the maximum is 3"
    assert (
        sentence(CHANGE.model_copy(update={"asked": 0, "desired": 2, "why": "nobody"})) == "nobody; the baseline is 2"
    )


def test_each_day_has_its_date_and_the_distance_from_utc_of_its_times() -> None:
    """When a clock is set back, the hour from two to three comes twice."""
    before, after, later = (
        CHANGE.model_copy(update={"at_ns": int(datetime(2026, 10, *at, tzinfo=UTC).timestamp()) * SECOND_NS})
        for at in ((25, 0, 30), (25, 1, 30), (26, 1, 0))
    )
    shown = [text(each) for each in rows((before, after, later), 100, Autumn())]
    assert [each[:20].split("  ")[0] for each in shown] == [
        "2026-10-26 UTC+01:00", "02:00:00", "2026-10-25 UTC+01:00", "02:30:00", "2026-10-25 UTC+02:00", "02:30:00",
    ]  # fmt: skip


async def test_the_journal_is_read_when_it_opens_and_when_another_number_is_wanted() -> None:
    async with running(rich()) as (app, client, pilot):
        client.answer = journal
        await pilot.press("w")
        await until(lambda: isinstance(app.screen, DecisionsScreen) and "0 → 3" in screen_text(app))
        asked = [query for query in client.asked if isinstance(query, AskDecisions)]
        assert asked[0] == AskDecisions(slug="sketch", last=200)
        wanting = sketch().model_copy(update={"decision": DecisionView(at_ns=NOW_NS, desired=9, why="more")})
        client.push(rich(seq=2, endpoints=(wanting,)))
        await until(lambda: sum(isinstance(query, AskDecisions) for query in client.asked) > len(asked))
        await pilot.press("escape")
        assert isinstance(app.screen, DashboardScreen)


async def test_a_journal_that_cannot_be_read_says_why() -> None:
    async with running(rich()) as (app, client, pilot):
        client.answer = lambda query: Unanswered(code="unavailable", message="the disk is gone")
        await pilot.press("w")
        await until(lambda: "the disk is gone" in screen_text(app))
