"""Start, health, failures on request and the end of the worker, each with a process of its own."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from orchestrator.assets import load_models
from orchestrator.core.catalogue import fill_arguments
from tests.waiting import until_sync
from tests.worker.running import ROOT, Worker, running

MIB = 1024 * 1024


def ask_and_lose(worker: Worker, **options: object) -> None:
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        worker.predict(**options)


def received(worker: Worker, **options: object) -> bytes:
    """What came of a reply before it broke off, as it has to."""
    got = bytearray()

    def read() -> None:
        with worker.client.stream("POST", f"{worker.url}/predict", json=options) as reply:
            for chunk in reply.iter_raw():
                got.extend(chunk)

    with pytest.raises(httpx.RemoteProtocolError):
        read()
    return bytes(got)


def test_loading_is_503_and_a_stop_while_loading_is_clean(tmp_path: Path) -> None:
    with running(tmp_path / "log", "echo", ready=False, ECHO_STARTUP_S="3600") as worker:
        health = worker.client.get(f"{worker.url}/health")
        assert (health.status_code, health.json()) == (503, {"status": "loading"})
        early = worker.predict()
        assert (early.status_code, early.json()["code"], early.headers["retry-after"]) == (503, "loading", "1")
        assert worker.about()["ready"] is False
        assert worker.end() == 0


def test_startup_delay_ends(tmp_path: Path) -> None:
    with running(tmp_path / "log", "echo", ECHO_STARTUP_S="0.3") as worker:
        ready = next(line for line in worker.log().splitlines() if "ready after" in line)
        assert float(ready.split("ready after ")[1].split(" s")[0]) >= 0.3


def test_memory_is_really_held(tmp_path: Path) -> None:
    with running(tmp_path / "log", "echo", ECHO_MEMORY_MB="80") as worker:
        held = worker.memory_bytes("VmRSS")
        assert held > 80 * MIB
        assert worker.predict(memory_mb=150).status_code == 200
        assert worker.memory_bytes("VmHWM") > held + 140 * MIB
        assert worker.memory_bytes("VmRSS") < held + 100 * MIB, "the memory of a request outlives it"


def test_more_memory_than_there_is_is_a_problem_not_an_end(tmp_path: Path) -> None:
    with running(tmp_path / "log", "echo") as worker:
        resource.prlimit(worker.process.pid, resource.RLIMIT_AS, (4096 * MIB, 4096 * MIB))
        reply = worker.predict(memory_mb=8192)
        assert (reply.status_code, reply.json()["code"]) == (503, "memory")
        assert worker.health() == 200


@pytest.mark.parametrize(("options", "code"), [({"code": 7}, 7), ({"code": 0}, 0), ({}, 1)])
def test_exit_ends_the_process_with_that_code(tmp_path: Path, options: dict[str, int], code: int) -> None:
    with running(tmp_path / "log", "echo") as worker:
        ask_and_lose(worker, fail="exit", **options)
        assert worker.process.wait(10) == code
        assert f"exiting with code {code}" in worker.log()


def test_crash_is_a_sigkill(tmp_path: Path) -> None:
    with running(tmp_path / "log", "echo") as worker:
        ask_and_lose(worker, fail="crash")
        assert worker.process.wait(10) == -signal.SIGKILL


def test_oom_grows_until_killed(tmp_path: Path) -> None:
    with running(tmp_path / "log", "echo", ECHO_OOM_LIMIT_MB="200") as worker:
        ask_and_lose(worker, fail="oom", memory_mb=50)
        assert worker.process.wait(20) == -signal.SIGKILL
        assert "nothing stopped it at 200 MiB" in worker.log()


def test_half_hang_and_unhealthy_leave_the_process_running(tmp_path: Path) -> None:
    with running(tmp_path / "log", "echo") as worker:
        broken = received(worker, fail="half", bytes=4000)
        assert broken == bytes(index % 256 for index in range(2000))
        events = received(worker, fail="half", stream=True, tokens=4)
        assert events.count(b"data: ") == 2
        assert b"[DONE]" not in events
        with pytest.raises(httpx.ReadTimeout):
            worker.client.post(f"{worker.url}/predict", json={"fail": "hang"}, timeout=0.3)
        assert worker.predict().status_code == 200
        assert worker.health() == 200
        assert worker.predict(fail="unhealthy").status_code == 200
        assert worker.health() == 503
        assert worker.predict().status_code == 200


def test_a_stop_lets_the_request_in_flight_finish(tmp_path: Path) -> None:
    with running(tmp_path / "log", "echo") as worker, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(worker.predict, latency_s=0.5, echo="whole")
        with httpx.Client(trust_env=False) as other:
            until_sync(lambda: other.get(f"{worker.url}/").json()["served"] == 1, 10, "the request to arrive")
            assert worker.end() == 0
        assert slow.result().json()["echo"] == "whole"
        assert "in flight get 10 s" in worker.log()


def test_a_stop_does_not_wait_longer_than_the_grace(tmp_path: Path) -> None:
    with running(tmp_path / "log", "echo", "--grace", "0.2") as worker, ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(ask_and_lose, worker, fail="hang")
        until_sync(lambda: "hanging as asked" in worker.log(), 10, "the hang")
        assert worker.end() == 0
        hanging.result(10)


def test_a_request_whose_client_left_is_dropped(tmp_path: Path) -> None:
    """The catalogue says `cancels`: with a grace of ten minutes only a dropped request lets this end."""
    assert load_models()["echo"].cancels
    with running(tmp_path / "log", "echo", "--grace", "600") as worker:
        with pytest.raises(httpx.ReadTimeout):
            worker.client.post(f"{worker.url}/predict", json={"fail": "hang"}, timeout=0.3)
        assert worker.end() == 0


@pytest.mark.parametrize("name", ["sketch", "echo"])
def test_the_command_of_the_catalogue_starts_a_healthy_worker(tmp_path: Path, name: str) -> None:
    model = load_models()[name]
    assert model.process is not None
    argv = fill_arguments(model.process, {"python": sys.executable, "host": "127.0.0.1", "port": 0})
    with running(tmp_path / "log", argv=argv) as worker:
        assert worker.client.get(f"{worker.url}{model.health_path}").status_code == 200
        assert worker.client.post(f"{worker.url}{model.predict_path}").status_code in (200, 400)
        assert model.stop_grace_s > 10, "the engine would kill it before its own grace is over"


def test_a_taken_port_is_said_in_one_line(tmp_path: Path) -> None:
    with running(tmp_path / "log", "echo") as worker:
        port = str(httpx.URL(worker.url).port)
        second = run("echo", "--port", port)
        assert second.returncode == 1
        assert f"cannot listen on 127.0.0.1 port {port}" in second.stdout
        assert "Traceback" not in second.stdout + second.stderr


@pytest.mark.parametrize(
    ("model", "environ", "message"),
    [
        ("echo", {"ECHO_LATENCY": "gauss:1"}, "ECHO_LATENCY: 'gauss:1' is no latency"),
        ("echo", {"ECHO_STARTUP_S": "soon"}, "ECHO_STARTUP_S: 'soon' is no number"),
        ("echo", {"ECHO_MEMORY_MB": "-1"}, "ECHO_MEMORY_MB: give a number from 0"),
        ("sketch", {"SKETCH_THREADS": "0"}, "SKETCH_THREADS: give a whole number from 1 to 64"),
    ],
)
def test_a_bad_environment_is_refused_by_name(model: str, environ: dict[str, str], message: str) -> None:
    ended = run(model, "--port", "0", **environ)
    assert ended.returncode == 2
    assert message in ended.stdout
    assert "Traceback" not in ended.stderr


def test_the_worker_is_a_program_of_its_own() -> None:
    """The image holds orchestrator/worker and its three packages, nothing else."""
    code = (
        "import sys, orchestrator.worker.__main__, orchestrator.worker.echo, orchestrator.worker.sketch\n"
        "import orchestrator.worker.filters\n"
        "own = {n for n in sys.modules if n.startswith('orchestrator.') and not n.startswith('orchestrator.worker')}\n"
        "sys.exit(str(own | ({'pydantic', 'docker', 'httpx'} & set(sys.modules))) if own else 0)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.worker", *arguments],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )
