"""`gpudeck bench gateway`: that it runs, names what is missing, and says no more than it measured."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.bench import gateway, gateway_programs
from orchestrator.bench.__main__ import MEASUREMENTS
from orchestrator.bench.__main__ import main as dispatch
from orchestrator.bench.gateway_pace import run_pace
from orchestrator.bench.gateway_report import Figure, capacity_ratio, document, figures_of, text
from orchestrator.bench.gateway_rounds import Load, Paced, Results, rotated
from tests.app.cli_runner import gpudeck_sync

MISSING = gateway_programs.missing_programs()
with_programs = pytest.mark.skipif("wrk" in MISSING or "nginx" in MISSING, reason=f"not installed: {MISSING}")
MIB = 1024 * 1024


def children() -> set[str]:
    """Processes that this one has started and that have not been collected."""
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def only_programs(monkeypatch: pytest.MonkeyPatch, folder: Path, *names: str) -> None:
    """Make `names` the only programs that are installed."""
    for name in names:
        found = gateway_programs.find_program(name)
        assert found is not None
        (folder / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(gateway_programs, "PLACES", ())


def test_without_any_program_each_one_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only_programs(monkeypatch, tmp_path)
    assert gateway.main(["--quick"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    for package in ("nginx-light", "haproxy", "wrk"):
        assert f"(apt-get install {package})" in err
    assert "nothing can be measured without wrk" in err


@with_programs
def test_a_proxy_that_is_missing_leaves_its_column_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only_programs(monkeypatch, tmp_path, "wrk", "nginx")
    before = children()
    assert gateway.main(["--quick", "--only", "get", "--only", "latency"]) == 0
    assert children() == before
    out, err = capsys.readouterr()
    assert "haproxy is not installed (apt-get install haproxy): its part is left out" in err
    header = next(line for line in out.splitlines() if "conn." in line)
    assert header.split() == ["conn.", "direct", "gpudeck", "nginx", "to", "nginx"]
    assert "on core" in out or "only core" in out
    assert "open loop" in out


@with_programs
def test_the_verb_runs_it_and_prints_json() -> None:
    result = gpudeck_sync("bench", "gateway", "--quick", "--only", "sse", "--only", "memory", "-o", "json")
    assert result.exit_code == 0, result.stderr
    shown = json.loads(result.stdout)
    measured = {load["target"]: load for load in shown["loads"]}
    assert {"gpudeck", "nginx"} <= measured.keys()
    assert "direct" not in measured  # the streaming workers are not the first upstream
    assert all(load["rate"] > 0 and load["kernel_us"] > 0 for load in measured.values())
    assert 0 < shown["memory_bytes"]["gpudeck"] < 200 * MIB
    assert shown["rounds"] == 1


@with_programs
def test_a_profile_says_where_the_time_goes(capsys: pytest.CaptureFixture[str]) -> None:
    assert gateway.main(["--profile", "--only", "varied", "--rounds", "1", "--seconds", "1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("GET, each with an id, at 32 connections")
    assert "µs in the kernel" in out
    assert "(exchange.py)" in out


def test_what_nobody_can_measure_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--connections", "0"], ["--rounds", "x"], ["--only", "beauty"]):
        with pytest.raises(SystemExit) as ended:
            gateway.main(arguments)
        assert ended.value.code == 2
        assert arguments[1] in capsys.readouterr().err
    assert gpudeck_sync("bench", "gateway", "--rounds", "0").exit_code == 2


def test_a_measurement_that_does_not_exist_is_refused_with_those_that_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["speed"]) == 2
    err = capsys.readouterr().err
    assert all(name in err for name in MEASUREMENTS)


def answer_slowly(server: socket.socket, reply: bytes, pause: threading.Event, pause_s: float) -> None:
    """Serve one connection; every reply takes `pause_s`."""
    peer, _ = server.accept()
    with peer:
        while peer.recv(65_536):
            pause.wait(pause_s)
            peer.sendall(reply)


def test_an_open_loop_sees_the_queue_that_a_slow_server_makes() -> None:
    reply = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        thread = threading.Thread(target=answer_slowly, args=(server, reply, threading.Event(), 0.02), daemon=True)
        thread.start()
        pace = run_pace(port, b"GET / HTTP/1.1\r\n\r\n", reply, rate=200.0, seconds=0.2, connections=1)
        thread.join(10)
    assert (pace.sent, pace.failed) == (50, 0), "40, and 10 that open the connections"
    # Due every 5 ms, served every 20 ms: the last one waits for about 40 * 15 ms. A closed loop would say 20 ms.
    assert pace.p99_us > 300_000
    assert pace.late_p99_us < pace.p99_us / 2, "waiting for the only connection is the server's doing"


def test_the_paced_load_answers_for_the_workers_too() -> None:
    reply = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    first, second = gateway_programs.free_ports(2)
    with relay(first, second) as port:
        pace = run_pace(port, b"GET / HTTP/1.1\r\n\r\n", reply, 500.0, 0.5, connections=2, workers=(first, second))
    assert (pace.sent, pace.failed) == (275, 0), "250, and 25 that open the connections"
    assert 0 < pace.p50_us <= pace.p99_us


@contextmanager
def relay(*workers: int) -> Iterator[int]:
    """A proxy that passes bytes between each of its connections and one of the `workers`, in turn; its port."""

    def carry(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def accept(server: socket.socket, stack: ExitStack) -> None:
        for worker in workers:
            client = stack.enter_context(server.accept()[0])
            behind = stack.enter_context(socket.create_connection(("127.0.0.1", worker)))
            for pair in ((client, behind), (behind, client)):
                threading.Thread(target=carry, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as stack:
        thread = threading.Thread(target=accept, args=(server, stack), daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


def test_a_wrong_reply_counts_as_a_failure() -> None:
    reply = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        thread = threading.Thread(target=answer_slowly, args=(server, reply, threading.Event(), 0.0), daemon=True)
        thread.start()
        asked = reply.replace(b"no", b"ok")
        pace = run_pace(port, b"GET / HTTP/1.1\r\n\r\n", asked, rate=200.0, seconds=0.05, connections=1)
        thread.join(10)
    assert (pace.sent, pace.failed) == (20, 20), "10, and 10 that open the connections"


def load(rate: float, *, p50_us: float = 100.0, cpu_us: float = 20.0, busy: float = 1.0) -> Load:
    return Load(rate, p50_us, p50_us * 3, cpu_us / 2, cpu_us / 2, busy)


def results(**changes: float) -> Results:
    ours = {"rate": 30_000.0, "p50_us": 120.0, "p99_us": 900.0, "mib": 40.0} | changes
    return Results(
        loads={
            ("get", 1, "direct"): load(20_000, p50_us=50),
            ("get", 1, "gpudeck"): load(8_000, p50_us=ours["p50_us"]),
            ("get", 1, "nginx"): load(9_000, p50_us=110),
            ("get", 32, "gpudeck"): load(ours["rate"], cpu_us=33),
            ("get", 32, "nginx"): load(50_000),
        },
        paced={"gpudeck": paced(p99_us=ours["p99_us"]), "nginx": paced()},
        memory_bytes={"gpudeck": int(ours["mib"] * MIB)},
        paced_rounds={"gpudeck": (paced(p99_us=ours["p99_us"]),) * 5, "nginx": (paced(),) * 5},
    )


def paced(**changes: float) -> Paced:
    usual = Paced(
        asked=9_000, rate=9_000, p50_us=200, p99_us=500, burst_p99_us=400, late_p99_us=50, cpu_us=30, waited=0
    )
    return replace(usual, **changes)


def test_figures_that_are_met() -> None:
    figures = figures_of(results())
    assert [round(figure.value, 2) for figure in figures] == [0.6, 1.17, 1.8, 40.0]
    assert all(figure.met for figure in figures)


@pytest.mark.parametrize(
    ("index", "changes"),
    [(0, {"rate": 29_999.0}), (1, {"p50_us": 129.0}), (2, {"p99_us": 1_001.0}), (3, {"mib": 61.0})],
)
def test_a_figure_that_is_missed_is_called_missed(index: int, changes: dict[str, float]) -> None:
    figures = figures_of(results(**changes))
    assert [not figure.met for figure in figures] == [number == index for number in range(4)]
    assert "missed" in text(results(**changes), ["direct", "gpudeck", "nginx"], ["here"])


@pytest.mark.parametrize(
    "changes",
    [{"rate": 8_000}, {"late_p99_us": 251}, {"waited": 0.02}],
    ids=["another rate than the one asked for", "a client that was late itself", "a core that others used"],
)
@pytest.mark.parametrize("name", ["gpudeck", "nginx"])
def test_a_latency_under_another_load_settles_nothing(name: str, changes: dict[str, float]) -> None:
    measured = results()
    measured.paced[name] = paced(**changes)
    assert [figure.verdict for figure in figures_of(measured)] == ["met", "met", "unsettled", "met"]


@pytest.mark.parametrize(
    ("slow_rounds", "verdict"), [(0, "met"), (1, "met"), (2, "unsettled"), (3, "unsettled"), (4, "missed")]
)
def test_rounds_that_disagree_settle_nothing(slow_rounds: int, verdict: str) -> None:
    measured = results()
    rounds = [paced(p99_us=5_000 if number < slow_rounds else 600) for number in range(5)]
    measured.paced_rounds["gpudeck"] = tuple(rounds)
    assert figures_of(measured)[2].verdict == verdict


def test_the_table_shows_what_makes_a_tail_long() -> None:
    measured = results()
    measured.paced["gpudeck"] = paced(rate=25_000, cpu_us=30, burst_p99_us=230)
    lines = text(measured, ["gpudeck", "nginx"], ["here"]).splitlines()
    assert next(line.split()[-2:] for line in lines if "how busy its core" in line) == ["75%", "27%"]
    assert next(line.split()[-4:] for line in lines if "1 ms of pause" in line) == ["4.0", "ms", "1.4", "ms"]
    assert next(line.split()[-2:] for line in lines if "median burst" in line) == ["230", "400"]


def test_what_was_not_measured_has_no_figure() -> None:
    assert figures_of(Results({}, {}, {})) == []
    shown = document(Results({}, {}, {}), {"rounds": 3})
    empty = {"figures": [], "loads": [], "latency": {}, "latency_rounds_p99_us": {}, "memory_bytes": {}}
    assert shown == {"rounds": 3} | empty


def test_throughput_below_capacity_is_compared_by_cpu() -> None:
    ours, other = load(30_000, cpu_us=30), load(31_000, cpu_us=20, busy=0.5)
    assert capacity_ratio(ours, other) == (pytest.approx(20 / 30), False)
    assert capacity_ratio(ours, load(60_000)) == (0.5, True)


def test_the_table_marks_what_is_computed_and_what_is_absent() -> None:
    measured = results()
    measured.loads["get", 32, "nginx"] = load(50_000, cpu_us=20, busy=0.5)
    measured.loads["sse", 32, "gpudeck"] = load(100)
    lines = text(measured, ["direct", "gpudeck", "nginx"], ["here"]).splitlines()
    row = next(line.split() for line in lines if line.split()[:4] == ["GET,", "200", "bytes", "32"])
    assert row[4:] == ["–", "30,000", "50,000", "0.61*"]
    assert next(line.split()[4:] for line in lines if "SSE" in line) == ["–", "100", "–", "–"]


def test_a_figure_keeps_to_its_limit_exactly() -> None:
    assert Figure("a", 0.6, 0.6, at_least=True).met
    assert Figure("a", 2.0, 2.0).met
    assert not Figure("a", 2.01, 2.0).met


def test_every_target_leads_a_round() -> None:
    targets = [gateway_programs.Target(name, 1) for name in "abc"]
    assert [rotated(targets, number)[0].name for number in range(4)] == ["a", "b", "c", "a"]
