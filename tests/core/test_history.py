"""Histograms lose no request and little precision; minutes hold exactly what meters and workers counted."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contract.base import SECOND_NS
from orchestrator.core.history import (
    BUCKETS,
    MINUTE_NS,
    Counts,
    bounds_us,
    bucket_of,
    merge,
    pack,
    percentiles_us,
    unpack,
)
from orchestrator.core.recorder import Recorder
from orchestrator.core.traffic import Meter

T0 = 1_760_000_040 * SECOND_NS
HISTOGRAMS = st.dictionaries(st.integers(0, BUCKETS - 1), st.integers(1, 2**40), max_size=30)


def test_buckets_follow_each_other_without_gap() -> None:
    edges = [bounds_us(bucket) for bucket in range(BUCKETS)]
    assert edges[0] == (0, 1)
    assert all(before[1] == after[0] for before, after in pairwise(edges))
    assert edges[-1][1] > 3_600 * 1_000_000


@given(st.integers(0, 2**32 - 1))
def test_a_span_lies_in_its_bucket(us: int) -> None:
    lower, upper = bounds_us(bucket_of(us * 1_000))
    assert lower <= us < upper
    assert (upper - lower) * 8 <= max(8, us + upper)


def test_ends_of_the_scale() -> None:
    assert bucket_of(-5) == 0
    assert bucket_of(10**18) == BUCKETS - 1


@given(HISTOGRAMS)
def test_packing_is_exact(histogram: dict[int, int]) -> None:
    assert unpack(pack(histogram)) == histogram
    assert len(pack(histogram)) <= 1 + 9 * len(histogram)


def test_most_minutes_are_small() -> None:
    assert len(pack(dict.fromkeys(range(40), 200))) == 81


@pytest.mark.parametrize("packed", [b"", b"\x03\x01\x01", b"\x01\x01", b"\x04\x01\x00\x00\x00"])
def test_foreign_bytes_are_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match="cut off"):
        unpack(packed)


def test_percentiles_are_close_to_the_true_ones() -> None:
    chance = random.Random(3)
    spans = sorted(int(chance.lognormvariate(11, 1.2)) for _ in range(20_000))
    histogram: dict[int, int] = {}
    for us in spans:
        merge(histogram, {bucket_of(us * 1_000): 1})
    for percent, found in zip((1, 50, 95, 99, 100), percentiles_us(histogram, (1, 50, 95, 99, 100)), strict=True):
        true = spans[max(1, -(-len(spans) * percent // 100)) - 1]
        assert found is not None
        assert abs(found - true) <= true * 7 // 100
    assert percentiles_us({}, (50, 99)) == (None, None)
    assert percentiles_us({7: 1}, (50, 99)) == (7, 7)


def meter(*spans_ms: int, failed: int = 0, at_ns: int = T0) -> Meter:
    made = Meter()
    for span in spans_ms:
        made.record(at_ns, total_ns=span * 1_000_000, queue_ns=1_000_000, failed=False)
    for _ in range(failed):
        made.record(at_ns, total_ns=0, queue_ns=0, failed=True)
    return made


def test_a_meter_is_drained_once() -> None:
    one = meter(10, 10, 500, failed=2)
    counts = one.drain()
    assert counts == Counts(5, 2, {bucket_of(10_000_000): 2, bucket_of(500_000_000): 1}, {bucket_of(1_000_000): 3})
    assert one.drain() is None
    one.record(T0, total_ns=0, queue_ns=0, failed=True)
    assert one.drain() == Counts(1, 1)
    assert (one.served_total, one.failed_total) == (3, 3)


def test_a_minute_ends_when_the_next_begins() -> None:
    recorder = Recorder(T0)
    meters = {"a": meter(10)}
    assert recorder.see(T0, meters, {}, {}) is None
    minute = recorder.see(T0 + MINUTE_NS, meters, {}, {})
    assert minute is not None
    assert (minute.start_ns, minute.endpoints["a"].requests) == (T0 // MINUTE_NS * MINUTE_NS, 1)
    assert recorder.see(T0 + 2 * MINUTE_NS, meters, {}, {}) is None, "nothing happened"
    assert recorder.flush() is None


def test_an_endpoint_that_goes_leaves_its_last_minute() -> None:
    recorder = Recorder(T0)
    recorder.see(T0, {"a": meter(10)}, {}, {})
    recorder.see(T0 + 1, {}, {}, {})
    recorder.see(T0 + 2, {"a": meter(20, 30)}, {}, {})
    minute = recorder.flush()
    assert minute is not None
    assert minute.endpoints["a"].requests == 3


def test_requests_belong_to_the_interval_that_was_open() -> None:
    recorder = Recorder(T0)
    served = [
        ({"w": 0}, {}),  # starting: no interval yet
        ({"w": 2}, {}),  # a surge worker serves before it is charged
        ({"w": 3}, {"w": "w.1"}),  # what waited belongs to its first interval
        ({"w": 10}, {"w": "w.2"}),  # promoted: the seven before belong to the interval before
        ({"w": 11}, {"w": "w.2"}),
        ({"w": 12}, {}),  # it drains and is not charged any more
        ({}, {}),
    ]
    for number, (counts, intervals) in enumerate(served):
        assert recorder.see(T0 + number, {}, counts, intervals) is None
    minute = recorder.flush()
    assert minute is not None
    assert minute.served == {"w.1": 10, "w.2": 2}


def test_a_slot_made_anew_counts_from_zero() -> None:
    recorder = Recorder(T0)
    for count in (5, 2, 4):
        recorder.see(T0, {}, {"w": count}, {"w": "w.1"})
    minute = recorder.flush()
    assert minute is not None
    assert minute.served == {"w.1": 9}
