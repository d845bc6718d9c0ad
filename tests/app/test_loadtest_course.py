"""Shapes, the course of a test, its outcome and advice, the archive, and the child process that sends the load."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.loadtest.engine import Reply
from app.loadtest.job import Job, LoadFailed, conduct, read_job, send_all
from app.loadtest.outcome import KEPT, Archive, Course, Outcome, advised, concluded, mean_service_ms
from app.loadtest.shapes import BadShape, Kind, Shape, checked, due, expected, read_instants
from app.messages import Dialog, DialogWanted
from app.present import loadtest as rows
from app.present.text import text
from app.screens.dashboard import DashboardScreen
from app.screens.loadtest import EarlierPanel, LoadTestScreen
from orchestrator.contract.command import RevokeKey
from orchestrator.contract.endpoint import EndpointChanges
from tests.app.driving import notices, running
from tests.app.fakes import rich, sketch, worker
from tests.app.forms import gateway, keyed, opened, refuses, state_at, write
from tests.app.pictures import assert_picture, screen_text
from tests.waiting import until

SHAPES = ("constant", "ramp", "spike")


def reply(
    index: int, at_s: float, latency_ms: float, *, queue_ms: int = 0, status: int = 200, cold: bool = False
) -> Reply:
    return Reply(index, at_s, 0.0, latency_ms, status, "sketch-w1", queue_ms, cold)


def outcome(**changes: object) -> Outcome:
    course = Course(checked("ramp", 20, 100, 60))
    for index in range(4):
        course.take(reply(index, index * 0.5, 6_000))
    made = concluded(course, sketch(), "queue_delay:4", 1_790_000_000_000_000_000)
    return replace(made, **changes)  # type: ignore[arg-type]


# --- shapes


@given(st.sampled_from(SHAPES), st.floats(0.5, 600), st.floats(0.5, 600), st.floats(1, 300))
def test_instants_are_in_order_within_the_time_and_as_many_as_announced(
    kind: str, a: float, b: float, s: float
) -> None:
    shape = checked(kind, a, b, s)
    instants = due(shape)
    assert instants == sorted(instants)
    assert all(0 <= each < s + 1e-6 for each in instants)
    assert abs(len(instants) - expected(shape)) <= 2
    assert shape.lowest_rpm <= shape.peak_rpm


def test_a_spike_is_low_high_low() -> None:
    instants = due(checked("spike", 60, 600, 100))
    counts = [sum(start <= each < start + 20 for each in instants) for start in range(0, 100, 20)]
    assert counts == [20, 20, 200, 20, 20]


@pytest.mark.parametrize(
    ("kind", "rpm", "to", "seconds", "field"),
    [
        ("constant", 0.0, 1.0, 10.0, "rpm"),
        ("ramp", 10.0, 70_000.0, 10.0, "to"),
        ("spike", 10.0, 20.0, 0.5, "seconds"),
        ("constant", float("nan"), 1.0, 10.0, "rpm"),
        ("constant", 60_000.0, 1.0, 200.0, "seconds"),
        ("recorded", 1.0, 1.0, 1.0, "file"),
    ],
)
def test_figures_out_of_range_name_the_field_and_the_limit(
    kind: str, rpm: float, to: float, seconds: float, field: str
) -> None:
    with pytest.raises(BadShape) as caught:
        checked(kind, rpm, to, seconds)
    assert caught.value.field == field


def test_a_recording_starts_at_its_first_instant_and_knows_its_peak() -> None:
    shape = checked("recorded", 1, 1, 1, read_instants("x.csv", "arrival_s,service_s\n100.5,3\n100,2\n\n130,1\n"))
    assert due(shape) == [0.0, 0.5, 30.0]
    assert shape.peak_rpm == pytest.approx(4.0)


@pytest.mark.parametrize("row", ["soon", "-1", "nan", "inf", "\x1b[31m"])
def test_a_recording_that_holds_no_seconds_names_the_line(row: str) -> None:
    with pytest.raises(BadShape, match="line 2") as caught:
        read_instants("x.csv", f"1\n{row}\n")
    assert "\x1b" not in str(caught.value)


# --- course and outcome


def test_seconds_hold_what_was_offered_served_and_who_worked() -> None:
    course = Course(checked("constant", 120, 120, 3))
    course.take(reply(0, 0.0, 900))
    course.take(reply(1, 0.5, 1_700, queue_ms=700))
    course.take(reply(2, 1.0, 200, status=503))
    course.sample(0.2, sketch())
    course.sample(2.1, sketch().model_copy(update={"workers": (worker("w1"),)}))
    first, second, third = course.seconds(3.9)
    assert [each.offered_rpm for each in (first, second, third)] == [120, 120, 120]
    assert [each.served_rpm for each in (first, second, third)] == [60, 0, 60]
    assert [each.failed for each in (first, second, third)] == [0, 1, 0]
    assert (first.p50_ms, third.p95_ms) == (900, 1_700)
    assert first.ready == second.ready
    assert third.ready == 1


def test_service_time_counts_neither_waiting_nor_cold_starts() -> None:
    assert mean_service_ms([reply(0, 0, 900, queue_ms=300), reply(1, 0, 9_000, queue_ms=8_000, cold=True)]) == 600
    assert mean_service_ms([reply(0, 0, 10, status=500)]) is None


@pytest.mark.parametrize(
    ("shape", "service_ms", "concurrency", "advice"),
    [
        (Shape(Kind.RAMP, 20, 100, 60), 6_000.0, 1, "2-10"),  # the contract's own example
        (Shape(Kind.RAMP, 100, 20, 60), 6_000.0, 1, "2-10"),
        (Shape(Kind.CONSTANT, 20, 0, 60), 6_000.0, 1, "2-2"),
        (Shape(Kind.SPIKE, 1, 100, 60), 6_000.0, 8, "1-2"),
        (Shape(Kind.RAMP, 20, 100, 60), None, 1, None),
    ],
)
def test_the_setup_that_is_advised_follows_the_rule(
    shape: Shape, service_ms: float | None, concurrency: int, advice: str | None
) -> None:
    assert advised(shape, service_ms, concurrency) == advice


def test_results_are_kept_newest_first_bounded_and_never_misread(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "sketch")
    assert archive.load() == []
    for n in range(KEPT + 3):
        archive.save(outcome(started_ns=n + 1))
    assert [each.started_ns for each in archive.load()] == list(range(KEPT + 3, 3, -1))
    (tmp_path / "sketch" / "99.json").write_text("{")
    (tmp_path / "sketch" / "98.json").write_text(json.dumps({"version": 2}))
    (tmp_path / "sketch" / "notes.json").write_text("{}")
    assert len(archive.load()) == KEPT


def test_a_comparison_says_which_way_is_better() -> None:
    before, after = outcome(p95_ms=6_000.0, served_rpm=80.0), outcome(p95_ms=3_000.0, served_rpm=90.0)
    said = [text(line) for line in rows.comparison_rows(before, after, 100)]
    assert any("p95" in line and "▼ 50%" in line for line in said)
    tones = {span.tone for line in rows.comparison_rows(before, after, 100) for span in line if "%" in span.text}
    assert tones == {"busy"}


@given(st.lists(st.integers(0, 99), max_size=50), st.integers(1, 400), st.integers(20, 120))
def test_a_chart_covers_the_whole_test_from_the_left(series: list[int], planned: int, columns: int) -> None:
    drawn = rows.stretched(series, planned, columns)
    assert len(drawn) >= min(columns, planned)
    assert max(drawn, default=0) <= max(series, default=0)


# --- the child


OK = b"HTTP/1.1 200 OK\r\nx-worker-id: w\r\nx-queue-ms: 0\r\ncontent-length: 2\r\n\r\nok"


def test_a_job_survives_its_line_and_its_key_is_not_in_it_before() -> None:
    job = Job("http://x/v1/s", (0.0, 0.5), b"\x00\xff", "image/png", "a=b", 3.0)
    assert read_job(job.dump("gpd_k")) == (job, "gpd_k")
    assert "gpd_k" not in repr(job)


async def test_the_child_sends_every_request_with_the_key_and_tells_each_reply() -> None:
    async with gateway(OK) as (url, heads):
        course = Course(checked("constant", 600, 600, 1))
        ticks: list[float] = []
        job = Job(f"{url}/v1/sketch", tuple(due(course.shape)), b"{}")
        await conduct(job, "gpd_k", course, sketch, ticks.append)
        assert len(course.replies) == len(heads) == 10
        assert all(each.ok for each in course.replies)
        assert b"x-api-key: gpd_k" in heads[0]
        assert ticks == sorted(ticks)
        assert course.most_workers > 0


async def test_closing_the_iterator_ends_the_child_at_once() -> None:
    async with gateway(OK) as (url, heads):
        replies = send_all(Job(url, (0.0, 3_600.0)), "k", lambda: None)
        assert (await anext(replies)).ok
        await replies.aclose()
        assert len(heads) == 1


async def test_a_child_that_fails_says_why() -> None:
    job = Job("http://127.0.0.1:9", ("soon",))  # type: ignore[arg-type]
    with pytest.raises(LoadFailed, match="TypeError"):
        async for _ in send_all(job, "k", lambda: None):
            pass


# --- the screen


async def test_a_test_runs_is_saved_and_compared_and_its_key_revoked(tmp_path: Path) -> None:
    async with gateway(OK) as (url, heads):
        Archive(tmp_path / "sketch").save(outcome())
        async with running(state_at(url), loadtests=tmp_path) as (app, client, pilot):
            client.outcome = keyed
            screen = await opened(app, pilot, "L", LoadTestScreen)
            await until(lambda: "2-2" in screen_text(app) or "ramp 20 → 100" in screen_text(app))
            await write(pilot, screen, kind="constant", rpm="600", seconds="1", call="operation=pencil")
            await pilot.press("ctrl+s")
            await until(lambda: len(heads) == 10 and not screen.running)
            await until(lambda: "10 of 10" in screen_text(app))
            assert b"POST /v1/sketch?operation=pencil" in heads[0]
            assert len(Archive(tmp_path / "sketch").load()) == 2
            assert "served RPM" in screen_text(app)
            await pilot.press("escape")
            await until(lambda: isinstance(app.screen, DashboardScreen))
            await until(lambda: isinstance(client.sent[-1], RevokeKey))


async def test_the_advised_setup_is_offered_in_the_form(tmp_path: Path) -> None:
    kept = Archive(tmp_path / "sketch")
    async with running(rich(), loadtests=tmp_path) as (app, client, pilot):
        await opened(app, pilot, "L", LoadTestScreen)
        await pilot.press("ctrl+g")
        await until(lambda: "No test has said yet" in notices(app))
        await pilot.press("escape")
        kept.save(outcome(started_ns=1, advice="2-5"))
        await opened(app, pilot, "L", LoadTestScreen)
        await until(lambda: "2-5 is what these rates need" in screen_text(app))
        await pilot.press("ctrl+g")
        await until(lambda: "sketch is set like this already" in notices(app))
        await pilot.press("escape")
        kept.save(outcome(started_ns=2, advice="3-9"))
        await opened(app, pilot, "L", LoadTestScreen)
        await until(lambda: "3-9 covers these rates" in screen_text(app))
        await pilot.press("ctrl+g")
        [wanted] = {id(each): each for each in app.posted if isinstance(each, DialogWanted)}.values()  # type: ignore[attr-defined]
        assert (wanted.dialog, wanted.slug) == (Dialog.EDIT, "sketch")
        assert wanted.changes == EndpointChanges(baseline=3, maximum=9)
        assert client.sent == [], "saving is up to the user"


async def test_the_newest_test_is_compared_with_the_one_that_is_chosen(tmp_path: Path) -> None:
    kept = Archive(tmp_path / "sketch")
    for number, setup in enumerate(("0-1", "1-2", "1-3"), start=1):
        kept.save(outcome(started_ns=number, setup=setup))
    async with running(rich(), size=(120, 50), loadtests=tmp_path) as (app, _, pilot):
        screen = await opened(app, pilot, "L", LoadTestScreen)
        earlier = screen.query_one(EarlierPanel)
        await until(lambda: earlier.compared is not None and earlier.compared.setup == "1-2")
        await pilot.press("ctrl+down", "ctrl+down")
        assert "0-1 ramp" in screen_text(app)
        await pilot.press("ctrl+up", "ctrl+up", "ctrl+up")
        assert earlier.compared is None, "the newest is not compared with itself"
        await pilot.click(EarlierPanel, offset=(6, 4))
        await until(lambda: "0-1 ramp" in screen_text(app))


async def test_esc_stops_a_running_test_and_keeps_what_came_in(tmp_path: Path) -> None:
    async with gateway(OK) as (url, heads), running(state_at(url), loadtests=tmp_path) as (app, client, pilot):
        client.outcome = keyed
        screen = await opened(app, pilot, "L", LoadTestScreen)
        await pilot.press("ctrl+s")
        await until(lambda: len(heads) >= 1)
        await until(lambda: screen.course is not None and len(screen.course.replies) >= 1)
        await pilot.press("escape")
        await until(lambda: not screen.running)
        assert isinstance(app.screen, LoadTestScreen)
        await until(lambda: len(Archive(tmp_path / "sketch").load()) == 1)


@pytest.mark.parametrize(
    ("kind", "field", "value", "said"),
    [
        ("ramp", "rpm", "many", "'many' is no number"),
        ("ramp", "to", "0", "use a number from 0.1"),
        ("constant", "seconds", "1e9", "86,400"),
        ("recorded", "file", "", "name a file"),
        ("recorded", "file", "/nowhere/x.csv", "cannot read"),
    ],
)
async def test_what_makes_no_test_is_said_beside_its_field(kind: str, field: str, value: str, said: str) -> None:
    await refuses("L", LoadTestScreen, {"kind": kind, field: value}, said)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_picture(size: tuple[int, int], tmp_path: Path) -> None:
    archive = Archive(tmp_path / "sketch")
    archive.save(outcome(started_ns=1_789_990_000_000_000_000, setup="1-2", p95_ms=21_400.0, served_rpm=41.0))
    archive.save(outcome(started_ns=1_789_999_000_000_000_000))
    async with running(rich(), size=size, loadtests=tmp_path) as (app, _, pilot):
        screen = await opened(app, pilot, "L", LoadTestScreen)
        await until(lambda: "of 4" in screen_text(app))
        course = Course(checked("ramp", 20, 100, 60))
        for index, at_s in enumerate(due(course.shape)):
            if at_s < 42:
                course.take(reply(index, at_s, 5_400 + 90 * index, queue_ms=20 * index))
        for second in range(42):
            course.sample(second, sketch())
        screen.course, screen._at_s = course, 42.0
        screen.show()
        await pilot.pause()
        assert_picture(app, f"loadtest-{size[0]}x{size[1]}")
