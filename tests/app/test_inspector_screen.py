"""The round-robin inspector and the histogram: what is asked for and when, and how it is drawn."""

from __future__ import annotations

from typing import Any

import pytest

from app.present.routing import histogram_rows, queue_rows, ring_rows
from app.present.snippets import LANGUAGES, snippet
from app.present.text import text
from app.screens.dashboard import DashboardScreen
from app.screens.endpoint_detail import EndpointScreen
from app.screens.inspector import InspectorScreen
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.query import Query, Unanswered
from orchestrator.contract.routing import AskRouting, Bucket, PlaceView, Routing
from tests.app.driving import running
from tests.app.fakes import NOW_NS, example_answer, rich, sketch
from tests.app.pictures import assert_picture, screen_text
from tests.waiting import until


def place(label: str, where: Any = "ring", passed_over: Any = None, **more: Any) -> PlaceView:
    fields = {
        "worker_id": f"sketch-{label}", "label": label, "place": where, "passed_over": passed_over,
        "in_flight": int(passed_over == "busy"), "concurrency": 1, "served": 61,
        "idle_since_ns": NOW_NS - 4 * SECOND_NS,
    }  # fmt: skip
    return PlaceView.model_validate({**fields, **more})


def bell(counts: tuple[int, ...], first_us: int = 400_000) -> tuple[Bucket, ...]:
    """Buckets that grow by an eighth of an octave."""
    edges = [round(first_us * 2 ** (step / 8)) for step in range(len(counts) + 1)]
    return tuple(
        Bucket(from_us=low, to_us=high, count=number)
        for low, high, number in zip(edges, edges[1:], counts, strict=False)
        if number
    )


def routing(**more: Any) -> Routing:
    """Two busy, one free, one suspect, one in reserve, one leaving; three wait."""
    fields = {
        "slug": "sketch", "at_ns": NOW_NS, "turn": "sketch-w2", "last": "sketch-w1", "takes": None,
        "queued": 3, "queue_limit": 1_000, "queued_bytes": 3 * 2**20, "waits_ms": (1_240, 800, 120),
        "places": (
            place("w1", passed_over="busy", served=5_312), place("w2", passed_over="busy", served=5_297),
            place("w5", passed_over="suspect"), place("w6", "reserve", "busy"), place("w4", "out", "draining"),
        ),
        "latencies": bell((1, 4, 9, 17, 31, 40, 28, 14, 6, 3, 1, 0, 0, 1)),
        "waits": bell((30, 22, 9, 12, 3, 1), 1_000),
    }  # fmt: skip
    return Routing.model_validate({**fields, **more})


def answering(query: Query) -> Any:
    return routing() if isinstance(query, AskRouting) else example_answer(query)


def shown(seen: Routing, room: int = 110) -> str:
    return "\n".join(text(each) for each in ring_rows(seen, room))


def test_the_ring_says_whose_turn_it_is_and_why_others_are_passed_over() -> None:
    lines = shown(routing()).splitlines()
    assert lines[1].startswith("  ← w1")
    assert lines[2].startswith("▶   w2")
    assert "suspect: unreachable" in lines[3]
    assert "leaving" in shown(routing())
    assert lines[-1] == "A request now waits: behind those who wait"


@pytest.mark.parametrize(
    ("more", "verdict"),
    [
        ({"queued": 0, "takes": "sketch-w2"}, "A request now goes to w2"),
        (
            {"queued": 0, "takes": "sketch-w6"},
            "A request now goes to w6, from the reserve: nobody in the ring has room",
        ),
        ({"queued": 0}, "A request now waits: nobody has room"),
        ({"queue_limit": 3}, "A request now is refused: the queue is full"),
        ({"closed": "out of credit \x1b[31m"}, "A request now is refused: out of credit "),
    ],
)
def test_what_would_become_of_a_request_is_said(more: dict[str, Any], verdict: str) -> None:
    assert shown(routing(**more)).splitlines()[-1] == verdict


def test_nothing_in_the_ring_is_an_empty_state() -> None:
    assert ring_rows(routing(places=(), turn=None, last=None), 80) == []


@pytest.mark.parametrize("room", [40, 77, 120])
@pytest.mark.parametrize("tall", [1, 4, 8, 30])
def test_a_histogram_keeps_to_its_room_and_counts_everything(room: int, tall: int) -> None:
    buckets = bell((1, 4, 9, 0, 0, 17, 3, 0, 0, 0, 0, 2))
    lines = [text(each) for each in histogram_rows(buckets, room, tall)]
    assert len(lines) <= tall
    assert all(len(each) <= room for each in lines)
    numbers = [int(each.rsplit(maxsplit=2)[1]) for each in lines]
    assert sum(numbers) == sum(bucket.count for bucket in buckets)


def test_a_single_value_and_none_at_all_have_histograms() -> None:
    one = [text(each) for each in histogram_rows((Bucket(from_us=7, to_us=8, count=1),), 60, 8)]
    assert len(one) == 1
    assert "up to 1.0 ms" in one[0]
    quick = (Bucket(from_us=0, to_us=1, count=3), *bell((2,)))
    rows = [text(each) for each in histogram_rows(quick, 60, 4)]
    assert "up to " in rows[0]
    assert rows[0].split()[-2] == "3"
    assert rows[-1].split()[-2] == "2"
    assert [text(each) for each in histogram_rows((), 60, 8)] == ["no reply in the last 60 s"]


def test_waiters_beyond_those_shown_are_counted() -> None:
    lines = [text(each) for each in queue_rows(routing(queued=40), 60)]
    assert lines[0] == "40 of 1,000 waiting · bodies 3 MiB"
    assert lines[-1].strip() == "+37 more"


@pytest.mark.parametrize("kind", ["image", "text", "echo", "service"])
def test_calls_are_whole_programs_without_a_secret(kind: str) -> None:
    for language in LANGUAGES:
        code = snippet(language, sketch(), kind)
        assert "http://127.0.0.1:8600/v1/sketch" in code
        assert "GPUDECK_KEY" in code
    compile(snippet("Python", sketch(), kind), "call.py", "exec")


async def test_it_asks_with_each_snapshot_and_for_histograms_once_a_second() -> None:
    async with running(rich()) as (app, client, pilot):
        client.answer = answering
        await pilot.press("i")
        await until(lambda: isinstance(app.screen, InspectorScreen) and "suspect" in screen_text(app))
        client.push(rich(seq=5_000, taken_at_ns=NOW_NS + SECOND_NS // 4))
        client.push(rich(seq=5_001, taken_at_ns=NOW_NS + SECOND_NS))
        await until(lambda: client.asked and client.asked[-1] == AskRouting(slug="sketch", latencies=True))
        await until(lambda: len(client.asked) >= 2)
        await pilot.press("escape")
        assert isinstance(app.screen, DashboardScreen)


async def test_an_endpoint_without_a_route_says_so() -> None:
    async with running(rich()) as (app, client, pilot):
        client.answer = lambda query: Unanswered(code="not_found", message="slug: no endpoint 'sketch' has a route")
        await pilot.press("i")
        await until(lambda: "has a route" in screen_text(app))


async def test_the_call_is_shown_and_copied_in_the_language_that_is_chosen() -> None:
    async with running(rich()) as (app, client, pilot):
        client.answer = answering
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, EndpointScreen))
        for language, mark in (("Python", "import os, pathlib, requests"), ("JavaScript", "await fetch(")):
            await pilot.press("c", "y")
            await until(lambda mark=mark: mark in app.clipboard)  # type: ignore[misc]
            assert app.clipboard == snippet(language, sketch(), "image")
        await pilot.press("c", "y")
        await until(lambda: app.clipboard.startswith("curl "))


async def test_the_endpoint_screen_shows_the_histogram_of_the_last_minute() -> None:
    async with running(rich(), size=(160, 60)) as (app, client, pilot):
        client.answer = answering
        await pilot.press("enter")
        await until(lambda: "400 ms – " in screen_text(app))
        assert AskRouting(slug="sketch", latencies=True) in client.asked


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_pictures(size: tuple[int, int]) -> None:
    async with running(rich(), size=size) as (app, client, pilot):
        client.answer = answering
        await pilot.press("i")
        await until(lambda: "suspect" in screen_text(app) and "–" in screen_text(app))
        await pilot.pause()
        assert_picture(app, f"inspector-{size[0]}x{size[1]}")
