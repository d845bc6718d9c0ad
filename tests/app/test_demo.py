"""The pure parts of the tour: scenario, timeline, report."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.client import SocketClient
from app.demo.pictures import load_pictures
from app.demo.report import Seen, build, dollars, rows
from app.demo.scenario import BURST_MAX, BURST_MIN, Picture, Scenario, Unfit, burst, fit
from app.demo.timeline import Timeline
from app.demo.tour import TourFailed, run_tour
from app.loadtest.engine import Reply, summarise
from orchestrator.contract.base import DOLLAR_U, SECOND_NS
from orchestrator.contract.endpoint import QueueDelay
from orchestrator.contract.query import Verification
from orchestrator.contract.snapshot import (
    CapacityView,
    EngineKind,
    EngineView,
    Snapshot,
    TrafficView,
    WorkerState,
    WorkerView,
)
from tests.app.fake_orchestrator import NOW_NS, FakeOrchestrator, bill, endpoint, snapshot, worker

S = WorkerState


def at(seconds: float, *workers: WorkerView) -> Snapshot:
    state = snapshot(endpoint(workers=workers))
    return state.model_copy(update={"taken_at_ns": NOW_NS + int(seconds * SECOND_NS)})


def w1(state: WorkerState = S.READY) -> WorkerView:
    return worker(label="w1", state=state)


def w2(state: WorkerState) -> WorkerView:
    return worker(label="w2", state=state)


UP_AND_DOWN = (
    at(0.0),
    at(0.5, w1(S.STARTING)),
    at(1.0, w1()),
    at(1.1, w1()),
    at(2.0, w1(), w2(S.STARTING)),
    at(3.0, w1(), w2(S.READY)),
    at(9.0, w1(), w2(S.DRAINING)),
    at(9.5, w1(), w2(S.STOPPING)),
    at(10.0, w1()),
)


def watched(*states: Snapshot) -> Timeline:
    timeline = Timeline("sketch")
    for state in states:
        timeline.observe(state)
    return timeline


def replies(count: int, failed: int = 0) -> list[Reply]:
    return [
        Reply(
            index=n, at_s=n / 10, late_ms=0, latency_ms=100.0 + n, status=503 if n < failed else 200,
            worker=f"sketch-{n % 2 + 1}",
        )
        for n in range(count)
    ]  # fmt: skip


def seen(timeline: Timeline, *, failed: int = 0, ok: bool = True, left: tuple[str, ...] = ()) -> Seen:
    verification = Verification(ok=ok, intervals=2, entries=4, drift_u=0, problems=())
    load = summarise(replies(10, failed))
    return Seen(Scenario().spec(), UP_AND_DOWN[-1], load, timeline, bill(), verification, left)


def test_the_scenario_is_quick_and_small() -> None:
    spec = Scenario().spec()
    assert spec.setup == "1-2"
    assert spec.policy == QueueDelay(seconds=0.5)
    assert 3 <= spec.idle_timeout_s <= 5


@pytest.mark.parametrize(("latency_ms", "count"), [(1, BURST_MAX), (200, 40), (5_000, BURST_MIN), (0, BURST_MAX)])
def test_a_burst_is_more_than_one_worker_can_draw_in_time(latency_ms: float, count: int) -> None:
    assert Scenario().burst_size(latency_ms) == count


def test_credit_is_topped_up_to_what_the_tour_needs() -> None:
    assert Scenario().top_up_u(0) == 100 * DOLLAR_U
    assert Scenario().top_up_u(99 * DOLLAR_U) == DOLLAR_U
    assert Scenario().top_up_u(150 * DOLLAR_U) == 0


def test_pictures_and_filters_take_turns() -> None:
    shots = burst([Picture("a", b"a"), Picture("b", b"b")], 8)
    assert [s.body for s in shots] == [b"a", b"b"] * 4
    assert [s.query.split("&")[0].split("=")[1] for s in shots] == [
        "pencil", "pencil", "smooth", "smooth", "enhance", "enhance", "pencil", "pencil",
    ]  # fmt: skip
    assert [s.at_s for s in shots] == sorted(s.at_s for s in shots)
    assert shots[-1].at_s < 1.0


def test_the_scenario_fits_the_gpus_there_are() -> None:
    here = tuple(CapacityView(gpu_type=t, total=n, reserved=0, in_use=0) for t, n in (("A40", 1), ("H100", 4)))
    assert fit(Scenario(), here, any_type=True).gpu_type == "H100"
    with pytest.raises(Unfit, match=r"needs 2 of one type, here are 1 × A40, 4 × H100"):
        fit(Scenario(), here, any_type=False)
    with pytest.raises(Unfit, match="here are none"):
        fit(Scenario(), (), any_type=True)


def test_the_shipped_pictures_are_real_ones() -> None:
    pictures = load_pictures()
    assert len(pictures) >= 2
    assert all(picture.data[:2] in (b"\xff\xd8", b"\x89P") and len(picture.data) > 10_000 for picture in pictures)


def test_the_timeline_has_one_entry_per_change() -> None:
    timeline = watched(*UP_AND_DOWN)
    assert [tuple(count) for count in timeline.counts] == [
        (0.0, 0, 0, 0), (0.5, 1, 0, 0), (1.0, 0, 1, 0), (2.0, 1, 1, 0), (3.0, 0, 2, 0), (9.0, 0, 1, 1), (10.0, 0, 1, 0),
    ]  # fmt: skip
    assert timeline.most_ready == 2
    assert timeline.came_back_to(1)
    assert set(timeline.workers) == {"sketch-w1", "sketch-w2"}


def test_coming_back_needs_having_been_up() -> None:
    assert not watched(*UP_AND_DOWN[:4]).came_back_to(1)
    assert not watched(*UP_AND_DOWN[:-1]).came_back_to(1), "the second worker is still stopping"
    assert not watched(*UP_AND_DOWN[:6], at(9, w1(S.DRAINING))).came_back_to(1)


def test_changes_are_told_once() -> None:
    timeline = Timeline("sketch")
    assert timeline.observe(UP_AND_DOWN[1]) == ["worker w1 is starting"]
    assert timeline.observe(UP_AND_DOWN[2]) == [
        "worker w1 is ready 900 ms after it was decided on, billed at the baseline rate of $2.67/h"
    ]
    assert timeline.observe(UP_AND_DOWN[3]) == []
    crowded = endpoint(workers=(w1(), w2(S.STARTING))).model_copy(
        update={"traffic": TrafficView(queued=7, oldest_wait_ms=612)}
    )
    assert timeline.observe(snapshot(crowded)) == ["worker w2 is starting: 7 request(s) wait, the oldest for 612 ms"]


def test_an_endpoint_that_is_gone_has_no_workers() -> None:
    timeline = watched(at(0, w1()), snapshot(endpoint("other")))
    assert timeline.counts[-1].workers == (0, 0, 0)


def test_a_good_tour_is_ok() -> None:
    report = build(seen(watched(*UP_AND_DOWN)))
    assert report.ok
    document = report.document()
    assert document["requests"] == {
        "sent": 10, "succeeded": 10, "failed": 0, "failures": {}, "waited_for_a_cold_start": 0,
    }  # fmt: skip
    assert document["per_worker"] == {"sketch-1": 5, "sketch-2": 5}
    assert document["engine"] == "process"
    assert document["simulated_gpus"] is True
    assert document["endpoint"]["slug"] == "sketch"
    assert document["workers_over_time"][4] == [3.0, 0, 2, 0]
    assert document["cold_starts"][1] == {
        "worker": "sketch-w2", "label": "w2", "created_ms": 12, "started_ms": 30, "healthy_ms": 900,
        "first_byte_ms": 1_100,
    }  # fmt: skip
    assert document["total_u"] == 66_750
    assert document["total_dollars"] == "0.066750"
    assert document["ledger"][0]["rate_uh"] == 2_670_000
    assert document["ledger_verified"] is True


@pytest.mark.parametrize(
    ("case", "check"),
    [
        (seen(watched(*UP_AND_DOWN), failed=1), "every_request_succeeded"),
        (seen(watched(*UP_AND_DOWN[:5])), "scaled_to_maximum"),
        (seen(watched(*UP_AND_DOWN[:6])), "came_back_to_baseline"),
        (
            seen(watched(*UP_AND_DOWN[:6], at(4, w1(), w2(S.READY), worker(label="w3")), at(5, w1()))),
            "never_above_maximum",
        ),
        (seen(watched(*UP_AND_DOWN), ok=False), "ledger_verified"),
        (seen(watched(*UP_AND_DOWN), left=("process 1",)), "nothing_left_running"),
    ],
)  # fmt: skip
def test_every_broken_promise_is_named(case: Seen, check: str) -> None:
    report = build(case)
    assert not report.ok
    assert not report.checks[check]


def test_no_requests_are_no_success() -> None:
    timeline = watched(*UP_AND_DOWN)
    empty = Seen(Scenario().spec(), UP_AND_DOWN[-1], summarise([]), timeline, bill(), seen(timeline).verification)
    assert not build(empty).checks["every_request_succeeded"]


def test_the_report_reads_well() -> None:
    text = dict(rows(build(seen(watched(*UP_AND_DOWN)))))
    assert text["gpus"].endswith("(SIMULATED: real processes, declared GPUs)")
    assert text["requests"] == "10 of 10 succeeded (sketch-1 5, sketch-2 5)"
    assert text["total"] == "$0.066750 (balance $99.93)"
    assert text["ledger verified"] == "yes"


@pytest.mark.parametrize(("amount_u", "text"), [(0, "0.000000"), (1, "0.000001"), (-1_500_000, "-1.500000")])
def test_exact_dollars(amount_u: int, text: str) -> None:
    assert dollars(amount_u) == text


async def test_without_an_engine_the_tour_says_so_at_once(tmp_path: Path) -> None:
    silent = EngineView(kind=EngineKind.DOCKER, ok=False, detail="no Docker here")
    capacity = (CapacityView(gpu_type="L40", total=2, reserved=0, in_use=0),)
    state = snapshot(endpoint()).model_copy(update={"engine": silent, "capacity": capacity})
    async with FakeOrchestrator(tmp_path / "s", state=state) as fake:
        client = SocketClient(tmp_path / "s")
        with pytest.raises(TourFailed, match="no worker can start: no Docker here"):
            await run_tour(client, Scenario(), load_pictures(), lambda _: None)
        await client.aclose()
    assert fake.commands == []
