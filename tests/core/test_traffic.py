"""The meter: exact counts at any rate, percentiles of what it keeps, and a view that is cheap."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.contract.base import SECOND_NS
from orchestrator.core.traffic import RING, SERIES_S, WINDOW_NS, Glances, Meter, percentile_ms

MS = 1_000_000
START = 1_000_000 * SECOND_NS


def record(meter: Meter, at_ns: int, total_ms: int = 10, queue_ms: int = 0, *, failed: bool = False) -> None:
    meter.record(at_ns, total_ns=total_ms * MS, queue_ns=queue_ms * MS, failed=failed)


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([], 50, None),
        ([7 * MS], 1, 7),
        ([7 * MS], 99, 7),
        ([n * MS for n in range(1, 101)], 50, 50),
        ([n * MS for n in range(1, 101)], 95, 95),
        ([n * MS for n in range(1, 101)], 99, 99),
        ([n * MS for n in range(1, 101)], 100, 100),
        ([n * MS for n in range(1, 101)], 0, 1),
        ([1 * MS, 2 * MS], 50, 1),
        ([1 * MS, 2 * MS], 51, 2),
        ([999_999], 50, 0),
    ],
)
def test_nearest_rank(values: list[int], percent: int, expected: int | None) -> None:
    assert percentile_ms(values, percent) == expected


def test_nothing_recorded() -> None:
    view = Meter().view(START)
    assert (view.rpm, view.p50_ms, view.p95_ms, view.p99_ms, view.queue_p95_ms) == (0, None, None, None, None)
    assert view.requests_series == view.failures_series == view.p95_series_ms == (0,) * SERIES_S


def test_a_request_counts_at_once_and_charts_when_its_second_is_over() -> None:
    meter = Meter()
    record(meter, START, 120, 40)
    now = meter.view(START)
    assert (now.rpm, now.p50_ms, now.queue_p95_ms, sum(now.requests_series)) == (1, 120, 40, 0)
    later = meter.view(START + SECOND_NS)
    assert later.requests_series == (0,) * (SERIES_S - 1) + (1,)
    assert later.p95_series_ms == (0,) * (SERIES_S - 1) + (120,)


def test_failures_count_but_have_no_latency() -> None:
    meter = Meter()
    record(meter, START, 10_000, 5_000, failed=True)
    record(meter, START, 0, 0)
    view = meter.view(START + SECOND_NS)
    assert (view.rpm, view.served_total, view.failed_total) == (2, 1, 1)
    assert (view.p50_ms, view.p99_ms, view.queue_p95_ms) == (0, 0, 0)
    assert (view.requests_series[-1], view.failures_series[-1], view.p95_series_ms[-1]) == (2, 1, 0)


def test_the_window_ends_after_sixty_seconds_and_the_series_after_two_minutes() -> None:
    meter = Meter()
    record(meter, START)
    assert meter.view(START + WINDOW_NS).rpm == 1
    assert meter.view(START + WINDOW_NS + 1).rpm == 0
    assert meter.view(START + SERIES_S * SECOND_NS).requests_series[0] == 1
    assert sum(meter.view(START + (SERIES_S + 1) * SECOND_NS).requests_series) == 0


def test_a_place_is_not_counted_again_when_its_turn_comes_round() -> None:
    meter = Meter()
    record(meter, START, failed=True)
    for lap in range(1, 4):
        view = meter.view(START + lap * 128 * SECOND_NS)
        assert sum(view.requests_series) == 0
    record(meter, START + 256 * SECOND_NS)
    view = meter.view(START + 257 * SECOND_NS)
    assert (view.requests_series[-1], view.failures_series[-1]) == (1, 0)


def test_a_busy_endpoint_is_counted_exactly() -> None:
    """200 requests a second: three times what the ring of single requests holds for a minute."""
    meter = Meter()
    for second in range(90):
        for n in range(200):
            record(meter, START + second * SECOND_NS + n * 5 * MS, second, failed=n % 10 == 0)
    view = meter.view(START + 90 * SECOND_NS)
    assert view.rpm == 12_000
    assert view.requests_series == (0,) * (SERIES_S - 90) + (200,) * 90
    assert view.failures_series[-90:] == (20,) * 90
    assert view.p95_series_ms[-90:] == tuple(range(90))
    assert (view.served_total, view.failed_total) == (16_200, 1_800)
    assert view.p50_ms is not None
    assert 79 <= view.p50_ms <= 80, "the newest RING requests are those of the last 20 s"


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 5, 8, 16, 64])
def test_a_full_ring_is_sampled_in_step_with_no_round_robin(workers: int) -> None:
    """The first of the workers is slow: one of every `workers` requests, however many places apart they are."""
    meter = Meter()
    for n in range(2 * RING + 17):
        record(meter, START + n, 1_000 + n * 613 % 997 if n % workers == 0 else n * 613 % 997)
    view = meter.view(START + RING)
    kept = sorted(1_000 + n * 613 % 997 if n % workers == 0 else n * 613 % 997 for n in range(RING + 17, 2 * RING + 17))
    for percent, told in ((50, view.p50_ms), (95, view.p95_ms), (99, view.p99_ms)):
        assert told is not None
        # Four standard errors of a share that is read from a quarter of the ring.
        slack = 4 * (percent * (100 - percent) / (RING // 4)) ** 0.5 / 100
        lowest, highest = percent / 100 - slack, percent / 100 + slack
        assert kept[int(lowest * RING)] <= told <= kept[min(int(highest * RING) + 1, RING - 1)]


def test_the_rate_of_a_busy_endpoint_does_not_jump_within_a_second() -> None:
    meter = Meter()
    for n in range(70 * 200):
        record(meter, START + n * 5 * MS)
    end = START + 70 * SECOND_NS
    for ms in range(0, 1_000, 5):
        record(meter, end + ms * MS)
        assert meter.view(end + ms * MS).rpm == pytest.approx(12_000, abs=3)


def test_the_p95_of_a_second_outlives_the_requests_after_it() -> None:
    meter = Meter()
    record(meter, START, 777)
    for _ in range(2 * RING):
        record(meter, START + SECOND_NS, 1)
    assert meter.view(START + 2 * SECOND_NS).p95_series_ms[-2:] == (777, 1)


def test_time_that_steps_back_loses_nothing() -> None:
    meter = Meter()
    record(meter, START + 5)
    record(meter, START - SECOND_NS)
    record(meter, START + 6)
    assert meter.view(START + 6).rpm == 3
    assert meter.view(START + SECOND_NS).requests_series[-1] == 3


@dataclass
class Plain:
    """What the meter should say, from a plain list of everything that happened."""

    done: list[tuple[int, int, int, bool]] = field(default_factory=list)

    def check(self, meter: Meter, now_ns: int) -> None:
        view = meter.view(now_ns)
        window = [r for r in self.done if now_ns - r[0] <= WINDOW_NS]
        latencies = sorted(r[1] for r in window if not r[3])
        waits = sorted(r[2] for r in window if not r[3])
        assert view.rpm == len(window)
        assert (view.p50_ms, view.p99_ms) == (percentile_ms(latencies, 50), percentile_ms(latencies, 99))
        assert view.queue_p95_ms == percentile_ms(waits, 95)
        for age in range(1, SERIES_S + 1):
            second = [r for r in self.done if now_ns // SECOND_NS - r[0] // SECOND_NS == age]
            assert view.requests_series[-age] == len(second)
            assert view.failures_series[-age] == sum(r[3] for r in second)
            replies = sorted(r[1] for r in second if not r[3])
            assert view.p95_series_ms[-age] == (percentile_ms(replies, 95) or 0)


STEPS = st.lists(
    st.tuples(
        st.integers(0, 20_000 * MS) | st.integers(0, 200 * SECOND_NS),
        st.integers(0, 5_000 * MS),
        st.integers(0, 100 * MS),
        st.booleans(),
        st.booleans(),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=60)
@given(STEPS)
def test_it_says_what_a_plain_list_would(steps: list[tuple[int, int, int, bool, bool]]) -> None:
    meter, plain, now = Meter(), Plain(), START
    for passed, total, queue, failed, looked in steps:
        now += passed
        meter.record(now, total_ns=total, queue_ns=queue, failed=failed)
        plain.done.append((now, total, queue, failed))
        if looked:
            plain.check(meter, now)
    plain.check(meter, now)
    plain.check(meter, now + SECOND_NS)


@settings(deadline=None, max_examples=60)
@given(before=st.integers(RING - 30, RING + 30), since=st.integers(0, 40), limit=st.integers(-1, 50), steps=STEPS)
def test_what_ended_is_told_in_order_over_the_edge_of_the_ring(
    before: int, since: int, limit: int, steps: list[tuple[int, int, int, bool, bool]]
) -> None:
    meter, now = Meter(), START
    for _ in range(before):
        meter.record(now, total_ns=1, queue_ns=0, failed=False)
    told = []
    for passed, total, queue, failed, _ in steps:
        now += passed
        meter.record(now, total_ns=total + queue, queue_ns=queue, failed=failed)
        told.append((now - total - queue, total + queue, total, failed))
    ended = meter.ended(before + since, limit)
    assert list(zip(*ended, strict=True)) == told[since:][: max(limit, 0)]
    everything = meter.ended(0)
    assert len(everything.failed) == min(meter.recorded, RING)
    assert list(zip(*everything, strict=True))[-len(told) or RING :] == told


@pytest.mark.parametrize("requests", [257, 5_000, 20_000])
def test_the_p95_of_a_busy_second_is_within_its_bucket_however_many_there_were(requests: int) -> None:
    meter = Meter()
    spread = [1 + n * 7_919 % 2_000 for n in range(requests)]
    for n, total_ms in enumerate(spread):
        record(meter, START + n, total_ms, failed=n % 3 == 0)
    replies = sorted(total_ms for n, total_ms in enumerate(spread) if n % 3)
    told = meter.view(START + SECOND_NS).p95_series_ms[-1]
    assert told == pytest.approx(replies[-(-len(replies) * 95 // 100) - 1], rel=0.07)


def test_a_glance_is_taken_once_a_second_and_of_the_meter_that_is_there() -> None:
    glances, meter = Glances(), Meter()
    record(meter, START)
    first = glances.view("a", meter, START)
    record(meter, START)
    assert glances.view("a", meter, START + SECOND_NS - 1) is first
    assert first.rpm == 1
    assert glances.view("a", meter, START + SECOND_NS).rpm == 2
    assert glances.view("a", Meter(), START + SECOND_NS).rpm == 0, "the endpoint was made anew under its old name"
    glances.forget(["b"])
    record(meter, START + SECOND_NS)
    assert glances.view("a", meter, START + SECOND_NS).rpm == 3
