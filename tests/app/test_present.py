"""Presenters: what a snapshot looks like, without a terminal."""

from __future__ import annotations

from datetime import UTC

import pytest

from app.present import (
    chart,
    condition,
    detail,
    endpoints,
    events,
    gpus,
    header,
    lanes,
    logs,
    money,
    snippets,
    table,
    traffic,
)
from app.present.condition import FeedState, Kind
from app.present.lanes import Density
from app.present.text import Line, Span, Tone, clip_line, flow, line, pad, spread, text, width, wrap
from orchestrator.contract.query import AskLogs, LogLines
from orchestrator.contract.snapshot import GpuProcessView, ProblemView, RunwayView, WorkerState
from tests.app import fakes

WIDTHS = (38, 58, 76, 96, 131, 196)


def texts(lines: list[Line]) -> list[str]:
    return [text(each) for each in lines]


@pytest.mark.parametrize("room", WIDTHS)
@pytest.mark.parametrize("density", list(Density))
def test_no_presenter_writes_past_its_room(room: int, density: Density) -> None:
    snapshot = fakes.rich()
    now = snapshot.taken_at_ns
    painted = [
        *lanes.rows(snapshot.endpoints, now, room, density),
        *events.rows(snapshot.events, room, UTC),
        *money.rows(snapshot.accounts[0], snapshot.balance_series_u, room, 12, density),
        *logs.rows((LogLines(worker_id="a", label="w1", lines=("x" * 400,)),), "", room),
    ]
    if room >= 58:
        painted += endpoints.rows(snapshot.endpoints, "sketch", room)
        painted += gpus.rows(snapshot.gpus, snapshot.endpoints, room, Density.COMPACT)
        painted += gpus.rows(snapshot.gpus, snapshot.endpoints, room, Density.NORMAL)
    for endpoint in snapshot.endpoints:
        painted += traffic.rows(endpoint, room, 14, density)
        painted += detail.summary(endpoint, now, room)
        painted += detail.worker_rows(endpoint, snapshot.gpus, now, room) if room >= 58 else []
        painted += detail.cold_starts(endpoint, room)
        painted += detail.figures(endpoint, room) + detail.specification(endpoint, room)
        for language in snippets.LANGUAGES:
            painted += snippets.calling(endpoint, "image", language, room)
    assert [text(each) for each in painted if width(each) > room] == []


def test_endpoint_rows_say_state_by_glyph_and_word_and_mark_the_selected_one() -> None:
    rows = endpoints.rows(fakes.rich().endpoints, "thumbs", 76)
    sketch, thumbs, llama = texts(rows)[1:]
    assert "● serving" in sketch
    assert "○ idle" in thumbs
    assert "✖ failed" in llama
    assert thumbs.startswith("▌")
    assert not sketch.startswith("▌")
    assert all(span.ground is Tone.SELECTED for span in rows[2])


def test_endpoint_columns_leave_by_rank_and_the_essential_ones_stay() -> None:
    narrow, wide = (
        texts(endpoints.rows(fakes.rich().endpoints, None, 60))[0],
        texts(endpoints.rows(fakes.rich().endpoints, None, 196))[0],
    )
    for title in ("ENDPOINT", "STATE", "QUEUE", "RPM", "$/H"):
        assert title in narrow
    assert "P95" not in narrow
    for title in ("MODEL", "LAST 60 S", "P50", "TODAY", "ERR"):
        assert title in wide


def test_pips_show_each_worker_and_the_room_left() -> None:
    assert text(endpoints.pips(fakes.sketch())) == "●●●◐·"
    assert text(endpoints.pips(fakes.thumbs())) == "·····"


@pytest.mark.parametrize(
    ("needle", "found"),
    [("", 3), ("SKET", 2), ("llama", 1), ("h100", 1), ("idle", 1), ("failed", 1), ("nothing like it", 0)],
)
def test_filter_looks_at_name_model_gpu_and_state(needle: str, found: int) -> None:
    assert len(endpoints.matching(fakes.rich().endpoints, needle)) == found


def test_chips_carry_glyph_label_tier_and_word() -> None:
    chips = texts(lanes.lane(fakes.sketch(), fakes.NOW_NS, 200))[-1]
    assert chips == "● w1 B busy   ● w2 B busy   ● w5 A busy   ◐ w7 A starting 8 s"


@pytest.mark.parametrize(
    ("state", "mark"),
    [
        (WorkerState.STARTING, "◐ w1 B starting"),
        (WorkerState.READY, "○ w1 B idle"),
        (WorkerState.DRAINING, "◌ w1 B draining"),
        (WorkerState.STOPPING, "◍ w1 B stopping"),
        (WorkerState.FAILED, "✖ w1 B failed"),
    ],
)
def test_every_worker_state_has_its_own_glyph_and_word(state: WorkerState, mark: str) -> None:
    assert text(lanes.chip(fakes.worker("w1", state=state, age_s=8), 1, fakes.NOW_NS).line).startswith(mark)


def test_a_concurrent_worker_says_how_many_requests_it_has() -> None:
    assert text(lanes.chip(fakes.worker("w1", running=3), 8, fakes.NOW_NS).line) == "● w1 B busy 3"


def test_lane_strip_stacks_workers_by_state_and_ends_now() -> None:
    strip = lanes.strip_of(fakes.sketch().lanes.samples, 120, 5, per_cell=1)
    newest = [row[-1].tone for row in reversed(strip)]
    assert newest[:4] == [Tone.BUSY, Tone.BUSY, Tone.BUSY, Tone.STARTING]
    assert all(width(row) == 120 for row in strip)


def test_lane_strip_of_a_young_endpoint_starts_empty() -> None:
    strip = lanes.strip_of(fakes.sketch().lanes.samples[-10:], 120, 2)
    bottom = text(strip[-1])
    assert bottom[:110] == "▁" * 110
    assert "▁" not in bottom[110:]


def test_failed_endpoint_shows_its_problem_and_the_next_try() -> None:
    broken = fakes.llama()
    assert broken.problem is not None
    later = broken.model_copy(
        update={"problem": broken.problem.model_copy(update={"retry_at_ns": fakes.NOW_NS + 30 * fakes.SECOND_NS})}
    )
    shown = " ".join(" ".join(texts(lanes.problem(later, fakes.NOW_NS, 60, limit=5))).split())
    assert "3 starts failed in a row" in shown
    assert "Next try in 30 s." in shown
    again = " ".join(texts(lanes.problem(later, fakes.NOW_NS + 31 * fakes.SECOND_NS, 200)))
    assert again.endswith("Trying again.")


def test_a_crash_that_is_healed_is_told_as_past() -> None:
    crash = ProblemView(code="signal", message="w1 ended by itself: killed by signal 9", retry_at_ns=fakes.NOW_NS)
    again = fakes.sketch().model_copy(update={"problem": crash})
    assert texts(lanes.problem(again, fakes.NOW_NS, 200)) == [
        "✔ Healed. The last crash: w1 ended by itself: killed by signal 9"
    ]
    starved = again.model_copy(update={"problem": ProblemView(code="no_gpu", message="no L40 is free")})
    assert texts(lanes.problem(starved, fakes.NOW_NS, 200)) == ["▲ no L40 is free"]


def test_gpu_rows_tell_holder_foreign_process_and_absence_apart() -> None:
    snapshot = fakes.rich()
    rows = texts(gpus.rows(snapshot.gpus, snapshot.endpoints, 96, Density.NORMAL))
    assert rows[0].split() == ["GPU", "MEM", "UTL", "PWR", "TEMP", "HELD", "BY"]
    assert "38.2/45.0 GiB" in rows[1]
    assert "212/300W" in rows[1]
    assert rows[1].endswith("sketch·w1")
    assert rows[5].endswith("▲ jupyter-lab")
    assert "n/a" in rows[5]
    assert gpus.title(fakes.bare()) == "0 of 2 held · SIMULATED"


def test_gpu_process_names_are_foreign_text() -> None:
    evil = GpuProcessView(pid=1, name="\x1b[31m[red]x")
    card = fakes.gpu(0, processes=(evil,))
    assert text(gpus.holder(card, {}).line) == "▲ [red]x"


def test_compact_gpu_keeps_the_worker_when_the_slug_is_long() -> None:
    card = fakes.gpu(0, endpoint="a-very-long-endpoint-name", worker_id="id")
    assert text(gpus.holder(card, {"id": "w12"}, 9).line) == "a-ve…·w12"


def test_money_shows_three_runways_warning_and_floor() -> None:
    shown = texts(money.rows(fakes.account(), (), 44, 12, Density.NORMAL))
    whole = "\n".join(shown)
    for wanted in ("$642.37", "$35.86/h", "$0.0099/s", "today $62.04", "4.9 d", "17 h 37 m", "4 h 37 m"):
        assert wanted in whole
    assert shown[-1] == "warns at $368.68 · stops below $10.00"


def test_money_turns_amber_when_warned_and_red_when_suspended() -> None:
    assert money.balance_tone(fakes.account()) is Tone.ACCENT
    assert money.balance_tone(fakes.account(warned=True)) is Tone.STARTING
    assert money.balance_tone(fakes.account(suspended=True)) is Tone.FAILED
    idle = fakes.account(per_hour_u=0, runway=RunwayView())
    assert "no burn" in "\n".join(texts(money.rows(idle, (), 44, 12, Density.NORMAL)))


def test_money_shows_the_balances_of_all_accounts() -> None:
    others = (
        fakes.account(name="lab", balance_u=12_500_000, per_hour_u=0),
        fakes.account(name="[red]team", balance_u=9_000_000, suspended=True),
        fakes.account(name="a-name-that-is-longer-than-the-panel-is-wide"),
    )
    shown = texts(money.rows(fakes.account(), (1, 2, 3), 44, 12, Density.NORMAL, others))
    assert [text.split()[0] for text in shown[1:4]] == ["[red]team", "lab", "a-name-that-is-lo…"]
    assert [text.split()[-1] for text in shown[1:4]] == ["$9.00", "$12.50", "$642.37"]
    assert max(map(len, shown)) <= 44
    compact = texts(money.rows(fakes.account(), (), 30, 6, Density.COMPACT, others))
    assert len(compact) == 6
    assert compact[-1] == "+2 more: `gpudeck account ls`"


def test_traffic_fills_the_height_it_has() -> None:
    for height in (7, 10, 14, 20):
        assert len(traffic.rows(fakes.sketch(), 60, height, Density.NORMAL)) == height


def test_a_figure_never_touches_its_neighbour_where_there_is_little_room() -> None:
    rich = fakes.account(balance_u=1_235_650_000, per_hour_u=8_010_000)
    wide, narrow = (texts(money.rows(rich, (), room, 4, Density.COMPACT))[0] for room in (29, 28))
    assert wide == "balance $1,235.65 now $8.01/h"
    assert narrow == "$1,235.65        now $8.01/h"


def test_two_gpus_in_a_narrow_line_keep_their_figures() -> None:
    cards = tuple(fakes.gpu(index, temperature_c=71) for index in range(2))
    (row,) = texts(list(gpus.rows(cards, (), 58, Density.COMPACT)))
    assert row.count("71°C") == 2
    assert "…" not in row


def test_an_idle_wait_is_no_cold_start() -> None:
    worker = fakes.sketch().workers[0]
    start = worker.cold_start.model_copy(update={"healthy_ms": 1_000, "first_byte_ms": 524_000})
    idle = worker.model_copy(update={"cold_start": start})
    lines = texts(detail.cold_starts(fakes.sketch().model_copy(update={"workers": (idle,)}), 80))
    assert lines[1].endswith("1.00 s")


def test_cold_start_waterfall_is_on_one_scale() -> None:
    lines = detail.cold_starts(fakes.sketch(), 80)
    assert "create" in text(lines[0])
    full, short = lines[1], lines[4]
    assert text(full).endswith("3.18 s")
    bars = [sum(len(span.text) for span in each if "▆" in span.text) for each in (full, short)]
    assert bars[0] == 80 - 15
    assert 0 < bars[1] < bars[0] / 4


def test_curl_never_contains_a_secret() -> None:
    command = detail.curl(fakes.sketch(), "image")
    assert (
        command
        == 'curl -sS http://127.0.0.1:8600/v1/sketch -H "x-api-key: $GPUDECK_KEY" -F image=@photo.jpg -o out.png'
    )


def test_log_lines_are_cleaned_labelled_and_filtered() -> None:
    found = fakes.example_answer(AskLogs(slug="sketch"))
    shown = texts(logs.rows(found.workers, "WARM", 60))
    assert shown == ["w1  [bold]warm-up[/bold] 3 of 3 done", "w2  [bold]warm-up[/bold] 3 of 3 done"]


def test_conditions_of_the_panels() -> None:
    snapshot = fakes.rich()
    assert condition.of_feed(None, FeedState()).kind is Kind.LOADING
    assert condition.of_feed(None, FeedState(reason="gone")).kind is Kind.FAILED
    assert condition.of_feed(snapshot, FeedState(connected=True)).kind is Kind.LIVE
    assert condition.of_feed(snapshot, FeedState(connected=True, silent_s=3)) == condition.Condition(
        Kind.STALE, "stale 3 s"
    )
    lost = snapshot.model_copy(update={"gpus": tuple(g.model_copy(update={"state": "lost"}) for g in snapshot.gpus)})
    assert condition.of_gpus(lost, FeedState(connected=True)).kind is Kind.FAILED
    broken = snapshot.model_copy(update={"ledger_ok": False, "ledger_problem": "disk full"})
    assert condition.of_money(broken, FeedState(connected=True)) == condition.Condition(Kind.FAILED, "disk full")


def test_banner_names_the_worst_first() -> None:
    live = FeedState(connected=True)
    assert header.banner(fakes.rich(), live) is None
    warned = fakes.rich(accounts=(fakes.account(warned=True, runway=RunwayView(current_h=3.37)),))
    assert header.banner(warned, live) == Span(
        "Credit of local lasts 3 h 22 m at the current burn. Top up with t.", Tone.STARTING
    )
    both = warned.model_copy(update={"ledger_ok": False, "ledger_problem": "disk full"})
    assert header.banner(both, live) == Span("Ledger: disk full", Tone.FAILED)
    gone = header.banner(both, FeedState(reason="pid 7 is gone"))
    assert gone is not None
    assert gone.text.startswith("Connection lost: pid 7 is gone")


def test_title_bar_marks_simulation_and_read_only() -> None:
    bar = text(header.title_bar(fakes.bare(), FeedState(connected=True), 120, readonly=True))
    assert "SIMULATED" in bar
    assert "READ-ONLY" in bar
    assert "http://127.0.0.1:8600" in bar
    assert bar.endswith("● live ")


@pytest.mark.parametrize(
    ("size", "density"),
    [
        ((80, 24), Density.COMPACT),
        ((120, 40), Density.NORMAL),
        ((200, 50), Density.ROOMY),
        ((200, 24), Density.COMPACT),
    ],
)
def test_density(size: tuple[int, int], density: str) -> None:
    assert lanes.density_of(*size) == density


def test_area_chart_shows_small_values_and_ends_at_the_right() -> None:
    (row,) = chart.area((0, 1, 1_000), 5)
    assert text(row) == "  ▁▂▇"
    assert row[1].tone is Tone.TRACK
    assert texts(chart.area((8, 16), 2, 2)) == [" █", "██"]
    assert texts(chart.area((), 3)) == ["   "]


def test_resample_keeps_peaks() -> None:
    assert chart.resample((0, 0, 9, 0, 0, 1), 3) == [0, 9, 1]
    assert chart.resample((1, 2), 10) == [1, 2]


def test_meter_marks_and_never_hides_a_little() -> None:
    assert text(chart.meter(0.001, 10, Tone.ACCENT)) == "╾─────────"
    assert text(chart.meter(0.5, 10, Tone.ACCENT, mark=0.7)) == "━━━━━──┼──"
    assert [span.tone for span in chart.meter(None, 4, Tone.ACCENT)] == [Tone.TRACK]


def test_lines_are_cut_padded_spread_and_wrapped_exactly() -> None:
    spans = line(Span("abc", Tone.STRONG), "defgh")
    assert text(clip_line(spans, 5)) == "abcd…"
    assert text(clip_line(spans, 3)) == "ab…"
    assert text(clip_line(spans, 8)) == "abcdefgh"
    assert text(pad(spans, 10, right=True)) == "  abcdefgh"
    assert text(spread(line("left"), line("right"), 12)) == "left   right"
    assert text(spread(line("a long left part"), line("right"), 12)) == "a long…right"
    assert texts(flow([line("one"), line("two"), line("three")], 9)) == ["one  two", "three"]
    assert texts(wrap("one two three four", 9, limit=2)) == ["one two", "three fo…"]


def test_table_leaves_out_the_highest_rank_first() -> None:
    columns = (
        table.Column("a", "A", 4),
        table.Column("b", "B", 4, rank=2),
        table.Column("c", "C", 4, rank=1, grow=True),
    )
    assert [kept.key for kept, _ in table.choose(columns, 10, 1)] == ["a", "c"]
    assert [size for _, size in table.choose(columns, 20, 1)] == [4, 4, 10]


def test_logs_can_be_narrowed_to_what_is_wrong() -> None:
    found = (LogLines(worker_id="a", label="w1", lines=("fine", "WARNING slow", "Traceback (most recent)")),)
    shown = {level: texts(logs.rows(found, "", 60, level)) for level in logs.LEVELS}
    wrong = ["WARNING slow", "Traceback (most recent)"]
    assert list(shown.values()) == [["fine", *wrong], wrong, wrong[1:]]
    assert texts(logs.rows(found, "trace", 60, logs.Level.WARNINGS)) == ["Traceback (most recent)"]
