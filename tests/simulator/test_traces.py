"""Traces: reading files, refusing bad ones with file, line and column, and drawing shapes."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from orchestrator.contract.base import SECOND_NS
from orchestrator.simulator.traces import SHAPES, Shape, Trace, TraceError, read_trace, trace_of

HEADER = "arrival_s,service_s\n"


def written(directory: Path, text: str, name: str = "t.csv") -> Path:
    file = directory / name
    file.write_text(text, encoding="utf-8")
    return file


def test_a_file_is_read_plain_and_packed(tmp_path: Path) -> None:
    text = HEADER + "0.000,32.000\n8554.5,17\n\n8554.5,0\n"
    plain = read_trace(written(tmp_path, text))
    (tmp_path / "p.csv.gz").write_bytes(gzip.compress(text.encode()))
    packed = read_trace(tmp_path / "p.csv.gz")
    assert plain == Trace("t", (0, 8_554_500_000_000, 8_554_500_000_000), (32 * SECOND_NS, 17 * SECOND_NS, 1))
    assert (packed.name, packed.digest) == ("p", plain.digest)
    assert (len(plain), plain.span_s, plain.work_s) == (3, 8554.5, pytest.approx(49.0))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (HEADER + "0,2\n3,4\n9.5,1\n", ()),
        ("service_s,arrival_s\n2,0\n4,3\n1,9.5\n", ()),
        (" Arrival_S , SERVICE_S\n0,2\n3,4\n9.5,1\n", ()),
        ("id,service_s,tokens,arrival_s\na,2,,0\nb,4,7,3\nc,1,,9.5\n", ("columns not read: 'id, tokens'",)),
        (HEADER + "3,4\n0,2\n9.5,1\n", ("sorted by arrival: 1 of 3 rows came too late",)),
        (
            HEADER + "1700000003,4\n1700000000,2\n1700000009.5,1\n",
            (
                "sorted by arrival: 1 of 3 rows came too late",
                "arrivals are seconds since 1970: counted from the first, 1700000000.000",
            ),
        ),
    ],
)
def test_what_can_only_mean_one_thing_is_read_and_told(tmp_path: Path, text: str, told: tuple[str, ...]) -> None:
    plain = Trace("t", (0, 3 * SECOND_NS, 9_500_000_000), (2 * SECOND_NS, 4 * SECOND_NS, SECOND_NS))
    found = read_trace(written(tmp_path, text))
    assert (found, found.told) == (plain, told)
    assert found.digest == plain.digest


def test_a_gap_before_the_first_request_stays(tmp_path: Path) -> None:
    """Baseline workers are paid for in it."""
    found = read_trace(written(tmp_path, HEADER + "7200,1\n7201,1\n"))
    assert found.arrival_ns == (7_200 * SECOND_NS, 7_201 * SECOND_NS)
    assert found.told == ("nothing comes in the first 7,200 s: they count as quiet time",)


def test_a_file_s_name_reaches_no_terminal_raw(tmp_path: Path) -> None:
    found = read_trace(written(tmp_path, HEADER + "0,1\n", "a\x1b[31mb.csv"))
    assert found.name == "a\N{REPLACEMENT CHARACTER}[31mb"
    with pytest.raises(TraceError) as refused:
        read_trace(written(tmp_path, "", "a\x1b[31mb.csv"))
    assert str(refused.value).isprintable()


def test_rows_of_one_instant_keep_their_order(tmp_path: Path) -> None:
    found = read_trace(written(tmp_path, HEADER + "5,9\n1,3\n1,1\n1,2\n"))
    assert found.service_ns == tuple(seconds * SECOND_NS for seconds in (3, 1, 2, 9))


def test_the_digest_names_the_content() -> None:
    one, other = trace_of("a", [(0, 1), (2, 3)]), trace_of("b", [(2, 3), (0, 1)])
    assert one.digest == other.digest
    assert one.digest != trace_of("a", [(0, 1), (2, 4)]).digest
    assert one.digest != trace_of("a", [(0, 1)]).digest


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: arrival_s is missing: the header must have arrival_s and service_s, not ''"),
        ("arrival,service\n0,1\n", "line 1: arrival_s is missing: the header must have arrival_s and service_s, not"),
        ("0,1\n1,1\n", "line 1: arrival_s is missing"),
        ("arrival_s,service\n0,1\n", "line 1: service_s is missing"),
        ("arrival_s,service_s,ARRIVAL_S\n0,1,0\n", "line 1: arrival_s is there more than once"),
        (HEADER, "no requests below the header"),
        (HEADER + "0,1\n1\n", "line 3: 1 columns, the header has 2"),
        (HEADER + "0,1,2\n", "line 2: 3 columns"),
        (HEADER + "0,1\nx\x1b[31m,1\n", r"line 3: arrival_s: 'x\x1b[31m' is no number of seconds from 0 to 316224000"),
        (HEADER + "0,1\n1,-1\n", "line 3: service_s: '-1' is no number of seconds from 0 to 86400"),
        (HEADER + "0,nan\n", "line 2: service_s: 'nan' is no number"),
        (HEADER + "1_0,1\n", "line 2: arrival_s: '1_0' is no number of seconds from 0 to 316224000, nor of"),
        (HEADER + "0,inf\n", "line 2: service_s: 'inf' is no number"),
        (HEADER + "2025-11-02T00:00:00Z,1\n", "line 2: arrival_s: '2025-11-02T00:00:00Z' is no number of seconds"),
        (
            HEADER + "1700000000000,1\n",
            "line 2: arrival_s: '1700000000000' is no number of seconds from 0 to 316224000",
        ),
        (
            HEADER + "5,1\n\n1700000000,1\n",
            "line 4: arrival_s: '1700000000' counts since 1970, line 2 from the trace's",
        ),
        (HEADER + "1700000000,1\n5,1\n", "line 3: arrival_s: '5' counts from the trace's beginning, line 2 since 1970"),
        (HEADER + "1000000000,1\n1400000000,1\n", "arrival_s: from first to last more than 316224000 seconds"),
    ],
)
def test_a_bad_file_is_refused_by_line_and_column(tmp_path: Path, text: str, said: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(TraceError) as refused:
        read_trace(file)
    assert str(refused.value).startswith(str(file))
    assert said in str(refused.value)


def test_damaged_files_are_refused_in_words(tmp_path: Path) -> None:
    packed = gzip.compress((HEADER + "0,1\n" * 500).encode())
    cases = {
        "cut.csv.gz": (packed[:40], "damaged or cut short"),
        "bits.csv.gz": (packed[:30] + b"\xff\xff\xff\xff" + packed[34:], "damaged or cut short"),
        "latin.csv": (HEADER.encode() + b"0,1\xe9\n", "not UTF-8"),
        "nul.csv": (HEADER.encode() + b"0,1" + b'\n"' + b"x" * 200_000, "not CSV"),
    }
    for name, (data, said) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(TraceError, match=said):
            read_trace(tmp_path / name)
    with pytest.raises(TraceError, match="cannot be read: No such file"):
        read_trace(tmp_path / "absent.csv")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_is_the_same_for_the_same_seed(shape: str) -> None:
    made = Shape(shape, 60, 8_000, 5)
    trace = made.draw(1)
    assert trace == made.draw(1)
    assert trace.arrival_ns != made.draw(2).arrival_ns
    assert list(trace.arrival_ns) == sorted(trace.arrival_ns)
    assert trace.work_s / len(trace) == pytest.approx(5, rel=0.05)


def test_shapes_have_their_shape() -> None:
    """Requests per eighth of the span, as a share of what the peak rate would bring."""

    def eighths(shape: str) -> list[float]:
        counts = [0] * 8
        for arrival_ns in Shape(shape, 600, 8_000, 1).draw(4).arrival_ns:
            counts[int(arrival_ns / SECOND_NS / 1_000)] += 1
        return [count / 10_000 for count in counts]

    assert eighths("steady") == pytest.approx([1.0] * 8, abs=0.05)
    assert eighths("ramp") == pytest.approx([(2 * i + 1) / 16 for i in range(8)], abs=0.05)
    assert eighths("on-off") == pytest.approx([0.25] * 8, abs=0.05)
    spike, day = eighths("spike"), eighths("diurnal")
    assert spike[:3] == pytest.approx([0.1] * 3, abs=0.02)
    assert spike[3] == spike[4] == pytest.approx(0.46, abs=0.05) or abs(spike[3] - spike[4]) < 0.05
    assert day[0] < 0.15 < 0.8 < day[3]
    assert day[3] == pytest.approx(day[4], abs=0.05)


def test_a_shape_of_no_variation_serves_all_alike() -> None:
    assert set(Shape("steady", 60, 600, 2.5, service_cv=0).draw(1).service_ns) == {2_500_000_000}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("wave", 60, 60, 1), "shape: 'wave' is none of steady, ramp, spike, diurnal, on-off"),
        (("steady", 0, 60, 1), "peak_rpm: give more than 0 and at most 600000, not 0"),
        (("steady", 60, -1, 1), "span_s: give more than 0"),
        (("steady", 60, 60, float("nan")), "service_s: give more than 0"),
        (("steady", 600_000, 10_000, 1), "peak_rpm: comes to more than 10,000,000 requests"),
        (("steady", 60, 60, 1, 11), "service_cv: give 0 to 10, not 11"),
    ],
)
def test_a_shape_out_of_bounds_is_refused_by_field_and_limit(given: tuple[str, float, float, float], said: str) -> None:
    with pytest.raises(TraceError) as refused:
        Shape(*given)
    assert said in str(refused.value)
