"""`gpudeck bench scaling`: which traffic, what is remembered, the scores by hand, and the command as a whole."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from orchestrator.bench import scaling
from orchestrator.bench.scaling_cells import (
    Cell,
    Measured,
    Shelf,
    Task,
    cells_of,
    figures_of,
    measure,
    measure_all,
    unmeasured,
)
from orchestrator.bench.scaling_field import AUTO, WISH, contender_of, contenders, meaning, version
from orchestrator.bench.scaling_report import Scope, document, text
from orchestrator.bench.scaling_score import (
    Row,
    Spread,
    at_point_of,
    geometric_mean,
    mean_of,
    regret,
    spread,
)
from orchestrator.bench.scaling_traces import Scenario, scenarios_in, setup_for_load, setup_of, setups_told
from orchestrator.bench.table import aligned
from orchestrator.simulator.families import FIXED
from orchestrator.simulator.light import ColdStarts, Setup
from orchestrator.simulator.traces import Shape, Trace, TraceError, read_trace, trace_of
from tests.app.cli_runner import gpudeck_sync

README = """Traces
| file | n | load | run it as (baseline-max, slots per worker) |
|---|---:|---:|---|
| some_b | 8,229 | 0.079 | 0-5 and 1-5, 1 slot |
| `other` | 19,366 | 30.4 | 2-10, 8 slots |
| third | 5 | 1 | as you like |
"""


def write(directory: Path, name: str, trace: Trace) -> Path:
    rows = zip(trace.arrival_ns, trace.service_ns, strict=True)
    text = "arrival_s,service_s\n" + "".join(f"{a / 1e9:.3f},{s / 1e9:.3f}\n" for a, s in rows)
    file = directory / name
    file.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two small traces."""
    directory = tmp_path / "traces"
    directory.mkdir()
    write(directory, "img_sparse_z.csv.gz", Shape("on-off", 2, 4_000, 20).draw(1))
    write(directory, "mine.csv", Shape("steady", 6, 600, 10).draw(2))
    return directory


def measured(autoscaled_s: float, waited_s: float, p95_s: float = 1.0, p99_s: float = 2.0) -> Measured:
    return Measured(10, autoscaled_s, round(autoscaled_s * 4_240), waited_s, 0.5, p95_s, p99_s, 3, 1, 0.01)


# Which traffic


def test_setups_are_written_as_the_field_writes_them() -> None:
    assert setup_of("0-5") == Setup(0, 5)
    assert setup_of("2-10x8") == Setup(2, 10, 8)
    for written, said in {
        "5": "write BASELINE-MAXIMUM",
        "0-5x": "write BASELINE-MAXIMUM",
        "6-5": "the baseline, 6, is more than the maximum, 5",
        "0-11": "the maximum is 1 to 10, not 11",
        "0-0": "the maximum is 1 to 10, not 0",
        "0-1x2000": "slots are 1 to 1024, not 2000",
    }.items():
        with pytest.raises(TraceError, match=said):
            setup_of(written)


def test_how_a_trace_is_run(tmp_path: Path) -> None:
    """The command line, then the README, then the name, then the load."""
    steady = Shape("steady", 6, 600, 10).draw(2)
    for name in ("some_b.csv", "tenant_q.csv", "unknown.csv", "notes.txt"):
        write(tmp_path, name, steady)
    (tmp_path / "README.md").write_text(README, encoding="utf-8")
    found = scenarios_in(tmp_path, {"unknown": (Setup(0, 3, 2),)})
    assert [each.name for each in found] == ["some_b 0-5", "some_b 1-5", "tenant_q 1-10", "unknown 0-3x2"]
    assert [each.name for each in scenarios_in(tmp_path, {}, ("some", "unk"))][-1] == "unknown 1-6"
    assert setups_told(tmp_path / "README.md") == {"some_b": (Setup(0, 5), Setup(1, 5)), "other": (Setup(2, 10, 8),)}
    assert setups_told(tmp_path / "absent.md") == {}


def test_a_setup_follows_from_the_load() -> None:
    def loaded(erlang: float) -> Trace:
        return trace_of("t", [(float(i), erlang) for i in range(1_001)])

    assert setup_for_load(loaded(0.1)) == Setup(0, 5)
    assert setup_for_load(loaded(2.5)) == Setup(2, 10)
    assert setup_for_load(loaded(30.0)) == Setup(3, 10, 8)


def test_llm_workers_have_fewer_slots_when_one_would_hold_the_load(tmp_path: Path) -> None:
    write(tmp_path, "llm_hour_heavy.csv", trace_of("t", [(float(i), 20.0) for i in range(400)]))
    write(tmp_path, "llm_hour_light.csv", trace_of("t", [(float(i), 2.0) for i in range(400)]))
    assert [each.name for each in scenarios_in(tmp_path, {})] == ["llm_hour_heavy 2-10x8", "llm_hour_light 2-10x4"]


def test_a_folder_without_traces_is_refused_in_words(tmp_path: Path, folder: Path) -> None:
    for directory, given, only, said in (
        (tmp_path / "absent", {}, (), "cannot be listed: No such file"),
        (tmp_path, {}, (), "no .csv or .csv.gz file"),
        (folder, {}, ("x",), "no trace's name begins with 'x'"),
        (folder, {"typo": (Setup(0, 1),)}, (), "there is no trace 'typo'"),
    ):
        with pytest.raises(TraceError, match=said):
            scenarios_in(directory, given, only)


# What is remembered


def test_figures_are_kept_by_trace_setup_luck_and_code(tmp_path: Path) -> None:
    shelf, cell = Shelf(tmp_path), Cell("f", "abc", Setup(0, 5), 30.0, 1)
    shelf.keep(cell, {"KPA": {"x": 1}})
    assert Shelf(tmp_path).find(cell, "KPA") == {"x": 1}
    for other in (cell._replace(digest="d"), cell._replace(setup=Setup(0, 4)), cell._replace(cold_s=5.0)):
        assert Shelf(tmp_path).find(other, "KPA") is None
    assert Shelf(tmp_path).find(cell._replace(seed=2), "KPA") is None
    assert Shelf(None).find(cell, "KPA") is None
    file = tmp_path / f"{cell.key}.json"
    file.write_text(file.read_text(encoding="utf-8").replace(version("KPA"), "older"), encoding="utf-8")
    assert Shelf(tmp_path).find(cell, "KPA") is None, "figures of other code are void"
    file.write_text("[{", encoding="utf-8")
    assert Shelf(tmp_path).find(cell, "KPA") is None, "a damaged file is measured anew"
    assert version("KPA") != version(f"{AUTO}1")


def test_words_and_form_are_no_other_code() -> None:
    plain = "def f(x):\n    return x + 1\n"
    told = '"""Module."""\nA: int\n"""About A."""\n\ndef f(x):\n    """Adds."""  # one\n    return (x +\n        1)\n'
    assert meaning(told) == meaning("A: int\n" + plain)
    assert meaning(plain) != meaning(plain.replace("1", "2"))
    assert meaning('x = "a"') != meaning('x = "b"')


def test_a_second_run_measures_nothing(tmp_path: Path, folder: Path) -> None:
    scenario = Scenario(folder / "mine.csv", read_trace(folder / "mine.csv"), Setup(0, 5))
    wanted = dict.fromkeys(cells_of(scenario, 30.0, 2), ("KPA", "nobody waits", "bound, v 1"))
    done: list[Task] = []
    shelf = Shelf(tmp_path / "kept")
    measure_all(unmeasured(wanted, shelf), shelf, 1, done.append)
    first = figures_of(wanted, shelf)
    assert sum(len(names) for _, names in done) == len(first) == 6
    assert not unmeasured(wanted, Shelf(tmp_path / "kept"))
    assert figures_of(wanted, Shelf(tmp_path / "kept")) == first
    more = dict.fromkeys(wanted, ("KPA", "10 s idle"))
    assert [names for _, names in unmeasured(more, Shelf(tmp_path / "kept"))] == [["10 s idle"], ["10 s idle"]]


def test_processes_give_what_one_gives(folder: Path) -> None:
    scenario = Scenario(folder / "mine.csv", read_trace(folder / "mine.csv"), Setup(0, 5))
    wanted = dict.fromkeys(cells_of(scenario, 30.0, 2), ("KPA", "10 s idle"))
    shelves = Shelf(None), Shelf(None)
    for jobs, shelf in enumerate(shelves, start=1):
        measure_all(unmeasured(wanted, shelf), shelf, jobs, lambda task: None)
    alone, together = (figures_of(wanted, shelf) for shelf in shelves)
    assert len(alone) == 4
    for figures in (*alone.values(), *together.values()):
        figures.pop("took_s")
    assert alone == together


def test_what_is_measured_is_what_the_simulator_gives(folder: Path) -> None:
    trace = read_trace(folder / "mine.csv")
    cell = cells_of(Scenario(folder / "mine.csv", trace, Setup(0, 5)), 30.0, 1)[0]
    found = Measured(**measure(cell, ["RunPod delay"])["RunPod delay"])
    outcome = contenders()["RunPod delay"].run(trace, Setup(0, 5), ColdStarts(30.0, 1))
    assert (found.autoscaled_s, found.waited_s) == (outcome.autoscaled_s, outcome.waited_s)
    assert (found.p95_s, found.cold_starts) == (outcome.wait_s(95), outcome.cold_starts)
    assert found.cost(2.0) == outcome.cost(2.0)


def test_auto_is_known_at_any_wait_price_and_wish() -> None:
    assert contender_of(f"{AUTO}0.3") is not None
    assert contender_of(f"{WISH}7.5") is not None
    assert contender_of(f"{WISH}0") is None
    assert contender_of(f"{AUTO}x") is None
    assert contender_of(f"{AUTO}-1") is None
    assert contender_of("nobody") is None


# The scores


def test_regret_is_against_the_best_fixed_setting_of_that_row() -> None:
    row = Row("s", 30.0, {"a": measured(100, 10), "b": measured(40, 100), "auto": measured(66, 50)}, {})
    assert regret(row, "auto", 0.2, ["a", "b"]).share == pytest.approx(76 / 60 - 1)  # type: ignore[union-attr]
    dear = regret(row, "auto", 5.0, ["a", "b"])
    assert dear is not None
    assert (dear.best, dear.share) == ("a", pytest.approx(316 / 150 - 1))
    assert regret(Row("s", 30.0, {"a": measured(0, 0)}, {}), "a", 1.0, ["a"]) is None


def test_a_rival_s_own_point_is_kept_in_all_three_waits() -> None:
    row = Row(
        "s",
        30.0,
        {
            "rival": measured(100, 50, 10, 20),
            "worse p95": measured(10, 50, 10.1, 20),
            "worse p99": measured(10, 50, 10, 20.1),
            "worse mean": measured(10, 51, 10, 20),
            "dear": measured(90, 1, 1, 2),
            "equal": measured(70, 50, 10, 20),
        },
        {},
    )
    point = at_point_of(row, "rival", ["worse p95", "worse p99", "worse mean", "dear", "equal"])
    assert (point.chosen, point.saving) == ("equal", pytest.approx(0.3))
    assert point.binding == ("mean",), "of those that cost less, the next one waited longer only on average"
    missed = at_point_of(row, "rival", ["worse p95", "worse p99"])
    assert (missed.chosen, missed.binding) == (None, ("p99",))
    assert at_point_of(row, "rival", ["dear"]).binding == ()
    idle = Row("s", 30.0, {"rival": measured(0, 50, 10, 20), "equal": measured(0, 50, 10, 20)}, {})
    assert at_point_of(idle, "rival", ["equal"]).saving is None


def test_spreads_and_means() -> None:
    assert spread([]) is None
    assert spread([3.0]) == Spread(1, 3.0, 3.0, 3.0)
    assert spread([float(i) for i in range(1, 11)]) == Spread(10, 5.5, 9.0, 10.0)
    assert geometric_mean([1.0, 4.0]) == pytest.approx(2.0)
    assert geometric_mean([]) is None
    assert mean_of([measured(10, 4), measured(20, 8)]).cost(1.0) == 21.0


def test_the_report_says_what_is_met_and_what_is_missed() -> None:
    """Two rows by hand: J at v 1 is 103 against 100, and 260 against 200."""
    fixed, rival = FIXED[0].name, "10 s idle"
    near = {f"{AUTO}1": measured(80, 23), fixed: measured(60, 40), rival: measured(100, 50)}
    far = {f"{AUTO}1": measured(200, 60), fixed: measured(180, 20), rival: measured(190, 61)}
    near[f"{WISH}0.5"], far[f"{WISH}0.5"] = near[f"{AUTO}1"], far[f"{AUTO}1"]
    bounds = {"bound, v 1": 51.5}
    rows = [Row("near 0-5", 30.0, near, bounds), Row("far 0-5x8", 30.0, far, {"bound, v 1": 130.0})]
    shown = text(rows, Scope((1.0,), 1, frozenset(near)), ["how"])
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert f"near 0-5 30 s +3.0% {fixed}" in lines
    assert f"far 0-5x8 30 s +30.0% {fixed}" in lines
    assert "auto all 2 +16.5% +30.0% +30.0%" in lines
    assert "to reach ≤ 3% missed ≤ 20% missed ≤ 50% met" in lines
    # Saved 20% and -5.26%: a median of 7.37%. The fixed setting saves 40% and 5.26%.
    assert "10 s idle 2 +7.4% -5.3% +20.0% 0 +22.6% ≥ 10%, never < -10% missed far 0-5x8, 30 s: none cheaper" in lines
    assert "auto, one slot 2.00" in lines
    assert "auto, all 2.00" in lines
    given = document(rows, Scope((1.0,), 1, frozenset(near)), {"seeds": 1})
    assert [round(each["share"], 4) for each in given["regret"]] == [0.03, 0.3]
    assert given["bound_ratios"] == {"1": pytest.approx(2.0)}


def test_tables_are_aligned() -> None:
    assert aligned([["", "n"], ["ab", "10"]]) == "       n\n  ab  10"


# The command


def test_the_command_measures_a_folder(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["--traces", str(folder), "--cold", "30", "--seeds", "1", "--jobs", "1", "--no-cache"]
    assert scaling.main([*arguments, "--v", "1"]) == 0
    shown = capsys.readouterr().out
    for expected in (
        "img_sparse_z 0-5, cold start 30 s",
        "mine 1-6, cold start 30 s",
        "10 s idle",
        "Regret of auto",
        "to reach",
        "at each rival's own point",
        "Times the clairvoyant bound",
        "Autoscaled cost of round robin over all ready workers",
        "simulated requests per second",
    ):
        assert expected in shown
    assert max(len(line) for line in shown.splitlines()) < 220


def test_the_command_gives_json(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPUDECK_HOME", str(folder.parent / "home"))
    arguments = [
        "--traces",
        str(folder),
        "--cold",
        "5,30",
        "--seeds",
        "1",
        "--jobs",
        "1",
        "--only",
        "img",
        "-o",
        "json",
    ]
    assert scaling.main([*arguments, "--quick"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [(row["scenario"], row["cold_s"]) for row in document["rows"]] == [
        ("img_sparse_z 0-5", 5),
        ("img_sparse_z 0-5", 30),
    ]
    assert {"KPA", "auto", "auto, v 0.2"} <= document["rows"][0]["measured"].keys()
    assert document["regret"] == []
    assert document["bound_ratios"]["1"] >= 1
    assert list((folder.parent / "home").glob("**/*.json"))
    assert scaling.main([*arguments, "--quick"]) == 0
    assert json.loads(capsys.readouterr().out) == document


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--policy", "nobody"], "--policy: there is no 'nobody'"),
        (["--setup", "mine"], "--setup: write TRACE=BASELINE-MAXIMUM"),
        (["--setup", "mine=9-2"], "the baseline, 9, is more than the maximum, 2"),
        (["--only", "zzz"], "no trace's name begins with 'zzz'"),
    ],
)
def test_the_command_refuses_in_words(
    folder: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    assert scaling.main(["--traces", str(folder), *more]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("more", [["--cold", "0"], ["--v", "x"], ["--seeds", "0"], ["--jobs", "²"], ["--cold", ""]])
def test_the_command_refuses_bad_numbers_by_their_limits(
    folder: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        scaling.main(["--traces", str(folder), *more])
    assert " from " in capsys.readouterr().err


def test_a_bad_row_names_file_line_and_column(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mine.csv").write_text("arrival_s,service_s\n0,1\n1,slow\n", encoding="utf-8")
    assert scaling.main(["--traces", str(folder)]) == 1
    assert "mine.csv: line 3: service_s: 'slow' is no number of seconds" in capsys.readouterr().err


def test_what_reading_made_of_a_file_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same reader as that of `gpudeck sim`."""
    (folder / "log.csv").write_text("id,service_s,arrival_s\nb,2,1700000060\na,1,1700000000\n", encoding="utf-8")
    arguments = ["--traces", str(folder), "--only", "log", "--policy", "KPA", "--cold", "30", "--seeds", "1"]
    assert scaling.main([*arguments, "--jobs", "1", "--no-cache"]) == 0
    shown = capsys.readouterr()
    told = (
        "columns not read: 'id'; sorted by arrival: 1 of 2 rows came too late; arrivals are seconds since 1970: counted"
    )
    assert f"  log: {told} from the first, 1700000000.000\n" in shown.out
    assert " s per 10,000 requests of a scenario, median and seed\n" in shown.out
    assert "then some" not in shown.err, "nobody is searched for a policy that is named"
    assert scaling.main([*arguments, "--jobs", "1", "--no-cache", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["read"]["log"].startswith(told)


def test_the_program_passes_its_options_on(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", "scaling", "--traces", str(folder), "--setup", "mine=0-4x2", "--only", "mine", "--cold", "30"]
    more = ["--seeds", "1", "--v", "1", "--policy", "KPA", "--jobs", "1", "--no-cache", "-o", "json"]
    done = gpudeck_sync(*arguments, *more)
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert [(row["scenario"], list(row["measured"])) for row in document["rows"]] == [("mine 0-4x2", ["KPA"])]
    refused = gpudeck_sync("bench", "scaling", "--traces", str(folder / "absent"))
    assert refused.exit_code == 1
    assert "cannot be listed" in capfd.readouterr().err


def test_all_names_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        scaling.main(["--list"])
    assert capsys.readouterr().out.splitlines() == list(contenders())
