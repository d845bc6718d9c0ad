"""Which wishes are measured to find `auto`'s best at a rival's own point, and how long the rest will take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import pytest

from orchestrator.bench.scaling_cells import Cell, Measured, Shelf, unmeasured
from orchestrator.bench.scaling_field import ALLOWED
from orchestrator.bench.scaling_pace import Pace, Progress, span, tried
from orchestrator.bench.scaling_report import Scope, fixed_points_of, points_of, text
from orchestrator.bench.scaling_rows import Measurement
from orchestrator.bench.scaling_score import Row, at_point_of
from orchestrator.bench.scaling_search import COARSE, wishes_to_measure
from orchestrator.bench.scaling_traces import Scenario
from orchestrator.contract.base import SECOND_NS
from orchestrator.simulator.families import FIXED
from orchestrator.simulator.light import Setup
from orchestrator.simulator.traces import Shape, trace_of

WISHES = tuple(f"w{at}" for at in range(17))
"""Costs fall and waits grow from the first to the last."""


def figures(autoscaled_s: float, p95_s: float) -> Measured:
    return Measured(10, autoscaled_s, 0, 0.0, 0.0, p95_s, p95_s, 0, 0, 0.0)


def plain(at: int) -> Measured:
    return figures(100 - at, at)


def searched(of: Callable[[int], Measured], rivals: Sequence[Measured]) -> tuple[list[list[int]], Row]:
    """Positions measured, by round, and the row at the end. Raises AssertionError for a round that asks again."""
    held = {f"r{number}": each for number, each in enumerate(rivals)}
    close, rounds = dict.fromkeys(held, 1), []
    while asked := wishes_to_measure(Row("s", 30.0, held, {}), close, WISHES, coarse=4):
        assert not held.keys() & set(asked), "measured twice"
        rounds.append([WISHES.index(name) for name in asked])
        held = {**held, **{name: of(WISHES.index(name)) for name in asked}}
    return rounds, Row("s", 30.0, held, {})


def chosen(row: Row, rival: str = "r0") -> str | None:
    return at_point_of(row, rival, [name for name in WISHES if name in row.measured]).chosen


COARSE_ONES = [0, 4, 8, 12, 16]


@pytest.mark.parametrize(
    ("limit_s", "rounds", "best"),
    [
        (9.5, [COARSE_ONES, [10], [9]], "w9"),
        (11.0, [COARSE_ONES, [10], [11]], "w11"),
        (8.0, [COARSE_ONES, [10], [9]], "w8"),
        (0.0, [COARSE_ONES, [2], [1]], "w0"),
        (99.0, [COARSE_ONES], "w16"),
        (-1.0, [COARSE_ONES, [2], [1]], None),
    ],
)
def test_the_search_ends_where_neighbours_are_measured(limit_s: float, rounds: list[list[int]], best: str) -> None:
    found, row = searched(plain, [figures(50, limit_s)])
    assert (found, chosen(row)) == (rounds, best)


def test_rivals_share_what_is_measured() -> None:
    rounds, row = searched(plain, [figures(50, limit_s) for limit_s in (9.0, 9.5, 10.2, 2.0)])
    assert rounds == [COARSE_ONES, [2, 10], [3, 9, 11]]
    assert [chosen(row, f"r{number}") for number in range(4)] == ["w9", "w9", "w10", "w2"]


def test_the_best_fixed_setting_with_hindsight_stands_beside() -> None:
    """The cheapest of those that keep the rival's point."""
    names = [each.name for each in FIXED[:3]]
    rules = dict(zip(names, (figures(80, 9), figures(60, 11), figures(90, 5)), strict=True))
    scope = Scope((1.0,), 1, frozenset({"KPA", *names}))
    [point] = fixed_points_of([Row("s", 30.0, {"KPA": figures(100, 10), **rules}, {})], scope)
    assert (point.rival, point.chosen, point.saving) == ("KPA", names[0], pytest.approx(0.2))
    assert fixed_points_of([Row("s", 30.0, {"KPA": figures(100, 10)}, {})], Scope((1.0,), 1, frozenset({"KPA"}))) == []


def test_where_nothing_is_promised_it_ends_sooner() -> None:
    held = {"r0": figures(50, 9.5), **{WISHES[at]: plain(at) for at in COARSE_ONES}}
    assert wishes_to_measure(Row("s", 30.0, held, {}), {"r0": 4}, WISHES) == []
    assert wishes_to_measure(Row("s", 30.0, held, {}), {"r0": 3}, WISHES) == ["w10"]


def test_a_dent_in_the_costs_is_looked_into() -> None:
    """The twelfth wish is the dearest of all, so the next cheaper one after the eighth is the sixteenth."""

    def dented(at: int) -> Measured:
        return figures(200, 0) if at == 12 else plain(at)

    rounds, row = searched(dented, [figures(50, 13.5)])
    assert chosen(row) == "w13"
    assert 11 not in {at for each in rounds for at in each}, "of those that cost more than one that keeps the point"


def test_a_point_that_no_coarse_wish_keeps_is_looked_for_around_the_nearest() -> None:
    """Only the ninth keeps it, and the eighth misses it by least."""

    def odd(at: int) -> Measured:
        return figures(100 - at, 1 if at == 9 else 5 + abs(at - 8))

    rounds, row = searched(odd, [figures(50, 2.0)])
    assert rounds == [COARSE_ONES, [6, 10], [7, 9]]
    assert chosen(row) == "w9"


def test_a_saving_is_never_overstated_and_the_search_always_ends() -> None:
    """Beside all of them measured, on costs and waits without any order."""
    for seed in range(200):
        dice = Random(seed)
        costs = [100 - at + dice.uniform(-8, 8) for at in range(17)]
        waits = [max(0.0, at + dice.uniform(-3, 3)) for at in range(17)]
        rivals = [figures(90, dice.uniform(-1, 18)) for _ in range(3)]
        _, row = searched(lambda at, costs=costs, waits=waits: figures(costs[at], waits[at]), rivals)  # type: ignore[misc]
        whole = Row("s", 30.0, {**row.measured, **{w: figures(costs[i], waits[i]) for i, w in enumerate(WISHES)}}, {})
        for number in range(3):
            ours = at_point_of(row, f"r{number}", [name for name in WISHES if name in row.measured]).saving
            best = at_point_of(whole, f"r{number}", WISHES).saving
            assert ours is None or (best is not None and ours <= best)


def test_the_measurement_searches_every_row_and_remembers(tmp_path: Path) -> None:
    """Until nothing is left to ask for; a second run simulates nothing and comes to the same."""
    trace = Shape("on-off", 6, 1_200, 10).draw(3)
    file = tmp_path / "mine.csv"
    rows = zip(trace.arrival_ns, trace.service_ns, strict=True)
    file.write_text("arrival_s,service_s\n" + "".join(f"{a / 1e9},{s / 1e9}\n" for a, s in rows), encoding="utf-8")
    scenarios = [Scenario(file, trace, Setup(0, 4))]
    scope = Scope((1.0,), 1, frozenset({"KPA", "10 s idle"}), ALLOWED)
    said: list[str] = []
    first = Measurement(scenarios, (5.0, 30.0), scope).run(Shelf(tmp_path / "kept"), 1, lambda: 0, said.append)
    assert said[0].startswith("2 rows (scenarios x medians of cold starts) x 1 seeds: 28 simulations to do, then some ")
    assert "with 1 process: on the first 1,000 requests auto made " in said[1]
    assert said[2].lstrip().startswith(tuple("123456789")), "progress"
    for row in first.rows:
        assert set(row.measured) >= {"KPA", "10 s idle", *ALLOWED[::COARSE]}
        assert not wishes_to_measure(row, dict.fromkeys(scope.rivals, 1), ALLOWED)
    assert len(points_of(first.rows, scope)) == 4
    assert "a saving may be more than\nis shown, never less" in text(first.rows, scope, ["how"])
    said.clear()
    assert Measurement(scenarios, (5.0, 30.0), scope).run(Shelf(tmp_path / "kept"), 1, lambda: 0, said.append) == first
    assert not said


def cell(requests: int) -> Cell:
    return Cell("f", "abc", Setup(0, 5), 30.0, 1, requests)


def test_long_traces_come_first() -> None:
    """A long one that came last would keep one core busy while the others wait."""
    cells = [Cell("f", str(requests), Setup(0, 5), 30.0, 1, requests) for requests in (5, 900, 40)]
    tasks = unmeasured(dict.fromkeys(cells, ("KPA", "10 s idle", "Modal", "HF Endpoints", "Baseten")), Shelf(None))
    assert [(cell.requests, len(names)) for cell, names in tasks] == [
        (900, 4),
        (900, 1),
        (40, 4),
        (40, 1),
        (5, 4),
        (5, 1),
    ]


def test_the_rest_is_told_by_what_is_done() -> None:
    """`auto` weighs ten times as much as a rival; what was not expected makes it longer."""
    pace, clock, said = Pace(0.01, 0.001), [0], list[str]()
    progress = Progress(pace, 22.0, lambda: clock[0], said.append)
    progress.began([(cell(1_000), ["auto", "KPA"])])
    clock[0] = 20 * SECOND_NS
    progress.finished((cell(1_000), ["auto", "KPA"]))
    assert said == [" 50% done, 20 s left"]
    progress.began([(cell(3_000), ["auto, p95 5", "KPA"])])
    clock[0] = 100 * SECOND_NS
    progress.finished((cell(3_000), ["auto, p95 5"]))
    assert said[1:] == [" 93% done, 7 s left"]
    progress.finished((cell(3_000), ["KPA"]))
    assert said[2:] == ["100% done"]


def test_a_trial_gives_the_pace_of_both_kinds() -> None:
    trace = Shape("steady", 30, 600, 4).draw(2)
    pace = tried([Scenario(Path("f"), trace, Setup(0, 4))] * 7)
    assert 1e-6 <= pace.plain_s < pace.learning_s < 1
    assert min(tried([Scenario(Path("f"), trace_of("one", [(0, 1)]), Setup(0, 4))])) > 0, "an estimate divides by it"


def test_lengths_of_time_have_one_unit_or_two() -> None:
    assert [span(s) for s in (0.4, 42, 100, 130, 3_540, 7_500)] == [
        "0 s",
        "42 s",
        "2 min",
        "2 min",
        "59 min",
        "2 h 5 min",
    ]
