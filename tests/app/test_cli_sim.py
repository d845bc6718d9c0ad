"""`gpudeck sim`: options to the simulator, its result as text and as data."""

from __future__ import annotations

import gzip
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import orchestrator.simulator.__main__ as simulator
from app.cli import reports
from app.cli.exits import CliError
from app.cli.sim import USUAL, worker_chart
from app.reporting import Printed
from tests.app.cli_runner import gpudeck_sync as run


def test_a_shape_compares_policies_in_a_table() -> None:
    result = run(
        "sim", "--shape", "spike", "--span", "300", "--peak-rpm", "30", "--cold", "5", "--policy", "queue_delay",
        "--policy", "request_count:1", "--seed", "4",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "1-5 × L40, cold start 5 s" in result.stdout
    rows = [line for line in result.stdout.splitlines() if line.startswith(("queue_delay", "request_count:1"))]
    assert len(rows) == 2
    assert all("$" in row and row.endswith("100.0%") for row in rows)
    assert result.stdout.count("\n 1 ┤█") == 2


def test_data_is_whole_and_repeatable() -> None:
    def document() -> dict[str, object]:
        result = run(
            "sim", "--shape", "steady", "--span", "120", "--policy", "queue_delay", "--faults", "death=5,crash",
            "--seed", "9", "-o", "json",
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        found: dict[str, object] = json.loads(result.stdout)
        return found

    first, second = document(), document()
    [one], [two] = first["runs"], second["runs"]  # type: ignore[misc]
    for timing in ("wall_s", "requests_per_s"):
        del one[timing], two[timing]
    assert first == second
    assert first["faults"] == {"death": 5.0, "crash": 1.0}
    assert one["cost_u"] == one["baseline_u"] + one["autoscaled_u"] > 0
    assert sum(one["outcomes"].values()) == one["requests"]


def test_a_trace_by_hand(tmp_path: Path) -> None:
    """One request: a cold start of 10 s, 20 s of work, 10 s idle; 40 s at $0.00424."""
    file = tmp_path / "one.csv.gz"
    file.write_bytes(gzip.compress(b"arrival_s,service_s\n0.0,20.0\n"))
    result = run(
        "sim", str(file), "--setup", "0-1", "--policy", "queue_delay", "--cold", "10", "--sigma", "0", "-o", "json"
    )
    assert result.exit_code == 0, result.output
    [one] = json.loads(result.stdout)["runs"]
    assert one["autoscaled_u"] == 40 * 4_240
    assert one["wait_s"]["max"] == 10.0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--shape", "spike", "--setup", "9-5"], "baseline: 9 is more than maximum 5"),
        (["--shape", "spike", "--setup", "5"], "--setup: '5' is no setup"),
        (["--shape", "spike", "--policy", "magic"], "there is no policy 'magic'"),
        (["--shape", "spike", "--faults", "deth"], "'deth' is none of all, none, lost-before"),
        (["--shape", "spike", "--cold", "-1"], "cold: give 0 to 3600 seconds, not -1"),
        (["--shape", "spike", "--cold", "nan"], "cold: give 0 to 3600 seconds, not nan"),
        (["--shape", "spike", "--sigma", "9"], "sigma: give 0 to 3, not 9"),
        (["--shape", "spike", "--slug", "sketch"], "give a trace file or a shape, or the slug of an endpoint"),
        (["--shape", "spike", "--gpu", "B300"], "B300"),
        (["--shape", "spike", "--idle-timeout", "999"], "must be at most 300, not 999"),
        ([], "give a trace file or a shape"),
    ],
)
def test_mistakes_are_named(arguments: list[str], said: str) -> None:
    result = run("sim", *arguments)
    assert result.exit_code == 2, result.output
    assert said in result.stderr


def test_a_bad_row_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "bad.csv"
    file.write_text("arrival_s,service_s\n0.0,1.0\n1.0,soon\n")
    result = run("sim", str(file))
    assert result.exit_code == 2
    assert "line 3: service_s: 'soon'" in result.stderr


def test_a_spreadsheet_s_mark_and_line_ends_are_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "sheet.csv"
    file.write_bytes(b'\xef\xbb\xbf"arrival_s","service_s"\r\n"0","1"\r\n')
    result = run("sim", str(file), "--setup", "0-1", "--policy", "queue_delay")
    assert result.exit_code == 0, result.output
    assert "traffic  sheet: 1 request in 0 ms" in result.stdout


def test_a_dash_reads_stdin(tmp_path: Path) -> None:
    """Rows as a database gives them: other columns, the newest first, dates as seconds since 1970."""
    text = "id,service_s,arrival_s\nb,2,1700000060\na,1,1700000000\n"
    command = [sys.executable, "-m", "app", "sim", "-", "--setup", "0-1", "--policy", "queue_delay"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "traffic  stdin: 2 requests in 1 m 00 s" in done.stdout
    assert "read     columns not read: 'id'; sorted by arrival: 1 of 2 rows came too late; arrivals are" in done.stdout
    refused = subprocess.run(command, input="0,1\n", capture_output=True, text=True, timeout=120, check=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "gpudeck: stdin: line 1: arrival_s is missing" in refused.stderr


def test_what_only_a_shape_has_is_refused_beside_a_recording(tmp_path: Path) -> None:
    """Else the one who gave a rate would think that the file was played at it."""
    file = tmp_path / "one.csv"
    file.write_text("arrival_s,service_s\n0,1\n")
    result = run("sim", str(file), "--peak-rpm", "100")
    assert (result.exit_code, result.stderr) == (
        2, "gpudeck: peak_rpm: only a shape has one; a recording is played as it is\n",
    )  # fmt: skip


def test_an_invariant_that_does_not_hold_comes_with_the_command_that_repeats_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def break_down(*_: object, **__: object) -> None:
        raise AssertionError("two workers on one GPU")

    monkeypatch.setattr(simulator, "play", break_down)
    arguments = ["--shape=spike", f"--spec={json.dumps(USUAL)}", "--seed=7"]
    assert simulator.main(arguments) == 1
    said = capsys.readouterr().err
    monkeypatch.setattr(reports, "_run", lambda _: Printed(b"", said.encode(), 1))
    with pytest.raises(CliError) as failure:
        reports.run_program(arguments, 1.0)
    assert failure.value.message == "an invariant does not hold: two workers on one GPU"
    assert failure.value.hint == f"repeat: python -m orchestrator.simulator {shlex.join(arguments)}"


def test_the_chart_has_a_row_a_worker() -> None:
    assert worker_chart([0.0, 0.5, 1.0, 1.25, 2.0], 2) == [" 2 ┤   ▂█", " 1 ┤ ▄███"]
    assert worker_chart([0.0], 0) == [" 1 ┤"]
