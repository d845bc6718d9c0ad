"""Figures as text: tables of what goes in and what a user reads."""

from __future__ import annotations

from datetime import UTC, timedelta, timezone

import pytest

from app import format as fmt

S = 1_000_000_000


@pytest.mark.parametrize(
    ("amount_u", "text"),
    [
        (0, "$0.00"),
        (1, "$0.000001"),
        (42, "$0.000042"),
        (4_240, "$0.0042"),
        (9_999, "$0.0099"),
        (10_000, "$0.01"),
        (2_670_000, "$2.67"),
        (12_349_999, "$12.34"),
        (1_234_567_890, "$1,234.56"),
        (-1_200_000, "−$1.20"),
        (-4_200, "−$0.0042"),
    ],
)
def test_money(amount_u: int, text: str) -> None:
    assert fmt.money(amount_u) == text


def test_money_never_rounds_up_to_the_floor() -> None:
    assert fmt.money(9_999_999) == "$9.99"


@pytest.mark.parametrize(
    ("rate_uh", "hour", "second"),
    [
        (2_670_000, "$2.67/h", "$0.0007/s"),
        (15_264_000, "$15.26/h", "$0.0042/s"),
        (35_868_000, "$35.86/h", "$0.0099/s"),
        (0, "$0.00/h", "$0.0000/s"),
        (72_000, "$0.07/h", "$0.000020/s"),
        (7_200_000_000, "$7,200.00/h", "$2.00/s"),
    ],
)
def test_rates(rate_uh: int, hour: str, second: str) -> None:
    assert (fmt.rate_per_hour(rate_uh), fmt.rate_per_second(rate_uh)) == (hour, second)


@pytest.mark.parametrize(
    ("span_ns", "text"),
    [
        (-5, "0 ms"),
        (850_000_000, "850 ms"),
        (3_190_000_000, "3.1 s"),
        (42 * S, "42 s"),
        (192 * S, "3 m 12 s"),
        (8_050 * S, "2 h 14 m"),
        (273_600 * S, "3 d 4 h"),
    ],
)
def test_duration(span_ns: int, text: str) -> None:
    assert fmt.duration(span_ns) == text


@pytest.mark.parametrize(("then", "text"), [(100, "now"), (97, "3 s ago"), (101, "now"), (40, "1 m 00 s ago")])
def test_age(then: int, text: str) -> None:
    assert fmt.age(then * S, 100 * S) == text


@pytest.mark.parametrize(
    ("hours", "text"),
    [
        (None, "no burn"),
        (0.0, "none"),
        (-1.0, "none"),
        (0.9, "54 m"),
        (2.14, "2 h 08 m"),
        (47.99, "47 h 59 m"),
        (118.4, "4.9 d"),
        (9_888.0, "> 1 y"),
        (4_000.0, "166 d"),
    ],
)
def test_runway(hours: float | None, text: str) -> None:
    assert fmt.runway(hours) == text


@pytest.mark.parametrize(
    ("span_ms", "text"),
    [
        (None, "–"),
        (0, "0 ms"),
        (999, "999 ms"),
        (1_249, "1.24 s"),
        (12_349, "12.3 s"),
        (123_000, "2m 03s"),
        (7_260_000, "2h 01m"),
    ],
)
def test_latency_fits_seven_cells(span_ms: int | None, text: str) -> None:
    assert fmt.latency(span_ms) == text
    assert len(text) <= 7


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (9_999, "9,999"), (10_000, "10.0k"), (10_670, "10.6k"), (999_999, "999k"), (4_500_000, "4.5M"),
     (12_000_000_000, "12.0G")],
)  # fmt: skip
def test_count(number: int, text: str) -> None:
    assert fmt.count(number) == text


def test_measurements_that_are_absent_are_never_zero() -> None:
    assert fmt.memory(None) == fmt.percent(None) == fmt.temperature(None) == fmt.power(None, 300_000) == "n/a"
    assert fmt.memory_pair(None, None) == "n/a"
    assert fmt.memory_pair(None, 45 * 2**30) == "45.0 GiB"
    assert fmt.memory_pair(2**30, None) == "1.0/n/a"
    assert fmt.percent(0) == "0%"


def test_measurements() -> None:
    assert fmt.memory(812 * 2**20) == "812 MiB"
    assert fmt.memory(int(38.2 * 2**30)) == "38.2 GiB"
    assert fmt.memory_pair(int(38.2 * 2**30), 45 * 2**30) == "38.2/45.0 GiB"
    assert fmt.power(212_900, 300_000) == "212/300W"
    assert fmt.power(212_900, None) == "212W"
    assert fmt.temperature(61) == "61°C"


def test_clock_is_in_the_zone_it_is_given() -> None:
    assert fmt.clock(1_790_000_000 * S, UTC) == "14:13:20"
    assert fmt.clock(1_790_000_000 * S, timezone(timedelta(hours=5, minutes=30))) == "19:43:20"


@pytest.mark.parametrize(
    ("foreign", "text"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("a\x00b\x08c", "abc"),
        ("one\ttwo\nthree", "one    two three"),
        ("abc\u202edef", "abcdef"),
        ("[bold]kept[/bold]", "[bold]kept[/bold]"),
        ("naïve 日本", "naïve 日本"),
    ],
)
def test_plain_takes_the_teeth_out_of_foreign_text(foreign: str, text: str) -> None:
    assert fmt.plain(foreign) == text


@pytest.mark.parametrize(
    ("text", "width", "clipped"),
    [("short", 8, "short"), ("longer text", 6, "longe…"), ("日本語", 4, "日…"), ("abc", 1, "…"), ("abc", 0, "")],
)
def test_clip(text: str, width: int, clipped: str) -> None:
    assert fmt.clip(text, width) == clipped
    assert fmt.cells(clipped) <= width


def test_fit_is_exact_on_both_sides() -> None:
    assert fmt.fit("ab", 4) == "ab  "
    assert fmt.fit("ab", 4, right=True) == "  ab"
    assert fmt.fit("日本語", 4) == "日… "


@pytest.mark.parametrize(
    ("span_s", "text"),
    [(0.0, "0.0 s"), (0.0004, "0.0 s"), (0.0262, "26 ms"), (0.0994, "99 ms"), (0.0996, "0.1 s"), (12.34, "12.3 s"),
     (99.96, "100 s"), (1_607.2, "1,607 s")],
)  # fmt: skip
def test_waits_fit_seven_cells(span_s: float, text: str) -> None:
    assert fmt.wait(span_s) == text
    assert len(text) <= 7
