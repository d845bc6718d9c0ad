"""Docker's answers in our words: times, exits, refusals, silence."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from docker.errors import APIError, DockerException, InvalidVersion

from orchestrator.core.workload import Exit, ExitCause
from orchestrator.engine.docker_answer import (
    image_missing,
    log_lines,
    parse_time,
    published_port,
    read_die_event,
    read_exit,
    read_refusal,
    read_silence,
    read_worker,
    too_old,
)
from orchestrator.engine.docker_client import address_problem, translate
from orchestrator.engine.ports import EngineError, EngineUnavailable, Fault

NOW = 1_800_000_000_000_000_000

TIMES = {
    "2026-11-24T06:09:56.665439981Z": 1_795_500_596_665_439_981,
    "2026-11-24T06:09:56Z": 1_795_500_596_000_000_000,
    "2026-11-24T06:09:56.5Z": 1_795_500_596_500_000_000,
    "2026-11-24T08:09:56.000000001+02:00": 1_795_500_596_000_000_001,
    "1970-01-01T00:00:00.000000001Z": 1,
    "0001-01-01T00:00:00Z": None,
    "2026-13-40T06:09:56Z": None,
    "yesterday": None,
    "": None,
    None: None,
}


@pytest.mark.parametrize("text", TIMES)
def test_a_timestamp_keeps_its_nanoseconds(text: str | None) -> None:
    assert parse_time(text) == TIMES[text]


def state(**changes: Any) -> dict[str, Any]:
    return {
        "Status": "exited",
        "ExitCode": 0,
        "OOMKilled": False,
        "Error": "",
        "StartedAt": "2026-11-24T06:09:50.1Z",
        "FinishedAt": "2026-11-24T06:09:56.665439981Z",
        **changes,
    }


ENDS = [
    ({"ExitCode": 0}, ExitCause.CLEAN, "ended by itself (exit code 0)"),
    ({"ExitCode": 3}, ExitCause.ERROR, "exit code 3"),
    ({"ExitCode": 137, "OOMKilled": True}, ExitCause.OOM, "killed for exceeding its memory limit (exit code 137)"),
    ({"ExitCode": 1, "OOMKilled": True}, ExitCause.OOM, "killed for exceeding its memory limit (exit code 1)"),
    # A child was killed for memory, the worker itself went on and ended well.
    ({"ExitCode": 0, "OOMKilled": True}, ExitCause.CLEAN, "ended by itself (exit code 0)"),
    ({"ExitCode": 137}, ExitCause.SIGNAL, "killed by SIGKILL (exit code 137)"),
    ({"ExitCode": 143}, ExitCause.SIGNAL, "killed by SIGTERM (exit code 143)"),
    ({"ExitCode": 139}, ExitCause.SIGNAL, "killed by SIGSEGV (exit code 139)"),
    ({"ExitCode": 128}, ExitCause.ERROR, "exit code 128"),
    ({"ExitCode": 127, "Error": "exec: \x1b[1mgone"}, ExitCause.ERROR, "exit code 127: exec: gone"),
]


@pytest.mark.parametrize(("changes", "cause", "detail"), ENDS)
def test_the_end_of_a_container_is_explained(changes: dict[str, Any], cause: ExitCause, detail: str) -> None:
    end = read_exit(state(**changes), ("last words",))
    assert end == Exit(cause, changes["ExitCode"], 1_795_500_596_665_439_981, detail, ("last words",))


def test_an_end_that_nobody_saw_has_no_time() -> None:
    """reliability.md fact 5: FinishedAt is then the time Docker came back, and billing to it bills the outage."""
    end = read_exit(state(ExitCode=255), ())
    assert (end.code, end.at_ns) == (255, None)


def test_an_oom_event_counts_when_the_state_forgot_it() -> None:
    assert read_exit(state(ExitCode=137), (), oom=True).cause is ExitCause.OOM


def inspected(**changes: Any) -> dict[str, Any]:
    return {
        "Id": "0123456789abcdef",
        "Created": "2026-11-24T06:09:49.9Z",
        "Config": {
            "Labels": {
                "io.gpudeck.worker": "w-7",
                "io.gpudeck.endpoint": "demo",
                "io.gpudeck.interval": "i-7",
                "io.gpudeck.instance": "abc",
            }
        },
        "State": state(Status="running", FinishedAt="0001-01-01T00:00:00Z", Paused=False),
        "NetworkSettings": {"Ports": {"9000/tcp": None, "8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "32768"}]}},
        **changes,
    }


def test_a_running_container_is_a_worker_with_an_address() -> None:
    worker = read_worker(inspected(), (), NOW)
    assert (worker.worker_id, worker.endpoint, worker.interval_id) == ("w-7", "demo", "i-7")
    assert (worker.engine_ref, worker.host, worker.port) == ("0123456789ab", "127.0.0.1", 32768)
    assert (worker.created_ns, worker.started_ns) == (1_795_500_589_900_000_000, 1_795_500_590_100_000_000)
    assert worker.exit is None
    assert not worker.paused


def test_a_created_container_has_not_started() -> None:
    created = state(Status="created", StartedAt="0001-01-01T00:00:00Z", FinishedAt="0001-01-01T00:00:00Z")
    worker = read_worker(inspected(State=created, NetworkSettings={"Ports": {}}), (), NOW)
    assert (worker.started_ns, worker.exit, worker.host, worker.port) == (None, None, None, None)


@pytest.mark.parametrize("status", ["exited", "dead", "removing"])
def test_an_ended_container_has_an_exit_and_no_address(status: str) -> None:
    worker = read_worker(inspected(State=state(Status=status, ExitCode=3)), ("bye",), NOW)
    assert worker.exit is not None
    assert (worker.exit.code, worker.exit.log) == (3, ("bye",))
    assert (worker.host, worker.port) == (None, None)


def test_a_paused_container_still_runs() -> None:
    worker = read_worker(inspected(State=state(Status="paused", Paused=True)), (), NOW)
    assert worker.paused
    assert worker.exit is None


def test_a_missing_creation_time_is_now() -> None:
    assert read_worker(inspected(Created=""), (), NOW).created_ns == NOW


@pytest.mark.parametrize(
    "ports", [None, {}, {"8000/tcp": None}, {"8000/tcp": []}, {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}]
)
def test_an_unpublished_port_is_none(ports: Any) -> None:
    assert published_port({"NetworkSettings": {"Ports": ports}}) is None


def test_a_die_event_is_evidence_when_the_container_is_gone() -> None:
    event = {"Actor": {"ID": "x", "Attributes": {"exitCode": "137"}}, "timeNano": 5}
    assert read_die_event(event, NOW) == Exit(
        ExitCause.SIGNAL, 137, 5, "killed by SIGKILL (exit code 137); the container was removed", ()
    )
    bare = read_die_event({}, NOW)
    assert (bare.cause, bare.code, bare.at_ns) == (ExitCause.VANISHED, None, NOW)


def test_log_lines_are_the_newest_and_harmless() -> None:
    raw = b"one\ntwo\r\n\x1b]52;c;c2VjcmV0\x07th\x1b[31mree\n"
    assert log_lines(raw, 50) == ("one", "two", "three")
    assert log_lines(raw, 2) == ("two", "three")
    assert log_lines(raw, 0) == ()
    assert log_lines(b"no newline", 5) == ("no newline",)
    assert log_lines(b"", 5) == ()


REFUSALS = [
    (404, "No such image: gpudeck/worker:9", Fault.IMAGE_MISSING),
    (404, "manifest for x/y:z not found: manifest unknown: manifest unknown", Fault.IMAGE_MISSING),
    (404, "pull access denied for x/y, repository does not exist or may require 'docker login'", Fault.IMAGE_MISSING),
    (
        500,
        "driver failed programming external connectivity on endpoint x: Bind for 127.0.0.1:80 failed: port is already "
        "allocated",
        Fault.PORT_TAKEN,
    ),
    (500, "Error starting userland proxy: listen tcp4 127.0.0.1:80: bind: address already in use", Fault.PORT_TAKEN),
    (500, "Ports are not available: exposing port TCP 127.0.0.1:80", Fault.PORT_TAKEN),
    (400, 'invalid mount config for type "bind": bind source path does not exist: /run/x.env', Fault.REFUSED),
    (500, 'could not select device driver "nvidia" with capabilities: [[gpu]]', Fault.GPU_UNAVAILABLE),
    (500, 'could not select device driver "" with capabilities: [[gpu]]', Fault.GPU_UNAVAILABLE),
    (500, "nvidia-container-cli: device error: GPU-1: unknown device: unknown", Fault.GPU_UNAVAILABLE),
    (500, "load library failed: libnvidia-ml.so.1: cannot open shared object file", Fault.GPU_UNAVAILABLE),
    (400, "unknown or invalid runtime name: nvidia", Fault.GPU_UNAVAILABLE),
    (500, "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=0", Fault.GPU_UNAVAILABLE),
    (500, "failed to discover GPU vendor from CDI: no known GPU vendor found", Fault.GPU_UNAVAILABLE),
    (500, "write /var/lib/docker/tmp/x: no space left on device", Fault.NO_SPACE),
    (500, "mkdir /var/lib/docker/x: disk quota exceeded", Fault.NO_SPACE),
    (400, "client version 1.52 is too new. Maximum supported API version is 1.41", Fault.ENGINE_TOO_OLD),
    (400, "client version 1.24 is too old. Minimum supported API version is 1.44", Fault.ENGINE_TOO_OLD),
    (409, 'Conflict. The container name "/x" is already in use by container "1"', Fault.NAME_CONFLICT),
    (400, "OCI runtime create failed: exec: \"nothing\": executable file not found in $PATH", Fault.REFUSED),
    (500, "", Fault.REFUSED),
]  # fmt: skip


@pytest.mark.parametrize(("status", "text", "fault"), REFUSALS)
def test_a_refusal_has_a_stable_fault(status: int, text: str, fault: Fault) -> None:
    error = read_refusal(status, text)
    assert error.fault is fault
    assert not isinstance(error, EngineUnavailable)
    assert text in error.message


@pytest.mark.parametrize("status", [502, 503, 504])
def test_an_engine_that_cannot_answer_now_is_unavailable(status: int) -> None:
    assert isinstance(read_refusal(status, "not now"), EngineUnavailable)


def test_the_missing_toolkit_is_named() -> None:
    message = read_refusal(500, 'could not select device driver "nvidia" with capabilities: [[gpu]]').message
    assert "NVIDIA Container Toolkit" in message
    assert "nvidia-ctk runtime configure --runtime=docker" in message


def test_a_missing_image_is_named_exactly_with_what_to_do() -> None:
    reference = "registry.example:5000/a/b@sha256:0123"
    assert f"`docker pull {reference}`" in read_refusal(404, "No such image: b", reference).message
    # Our own image is on no registry.
    assert "docker build --target worker -t gpudeck/worker:0.1.0 ." in image_missing("gpudeck/worker:0.1.0")


def test_what_docker_says_cannot_steer_a_terminal() -> None:
    assert read_refusal(500, "bad \x1b[2J\x1b]0;title\x07\nthing").message == "Docker refused: bad  thing"


@pytest.mark.parametrize("version", ["1.24", "1.40"])
def test_an_old_engine_is_refused_by_name(version: str) -> None:
    error = too_old(version)
    assert error is not None
    assert error.fault is Fault.ENGINE_TOO_OLD
    assert version in error.message
    assert "20.10" in error.message


@pytest.mark.parametrize("version", ["1.41", "1.44", "1.52", "2.0"])
def test_a_newer_engine_is_taken(version: str) -> None:
    assert too_old(version) is None


def api_error(status: int, text: str) -> APIError:
    response = requests.Response()
    response.status_code = status
    return APIError("said no", response=response, explanation=text)


SILENCES: list[tuple[Exception, str]] = [
    (requests.exceptions.ReadTimeout("UnixHTTPConnectionPool: Read timed out."), "did not answer in time"),
    (DockerException("Error while fetching server API version: Read timed out."), "did not answer in time"),
    (
        DockerException("Error while fetching server API version: FileNotFoundError(2, 'No such file or directory')"),
        "the socket does not exist",
    ),
    (requests.exceptions.ConnectionError("PermissionError(13, 'Permission denied')"), "usermod -aG docker"),
    (requests.exceptions.ConnectionError("ConnectionRefusedError(111, 'Connection refused')"), "start docker"),
    (requests.exceptions.ConnectionError("RemoteDisconnected('closed')"), "was lost"),
]


@pytest.mark.parametrize(("error", "says"), SILENCES)
def test_no_answer_is_an_unknown_outcome(error: Exception, says: str) -> None:
    translated = translate(error, "unix:///run/x.sock")
    assert isinstance(translated, EngineUnavailable)
    assert says in translated.message
    assert "unix:///run/x.sock" in translated.message


def test_an_answer_is_never_taken_for_silence() -> None:
    # APIError is a RequestException too, and an explanation may speak of time-outs.
    assert not isinstance(translate(api_error(500, "hook timed out"), "unix:///x"), EngineUnavailable)
    assert translate(api_error(404, "No such image: a"), "unix:///x", "a:1").fault is Fault.IMAGE_MISSING
    assert translate(InvalidVersion("below 1.24"), "unix:///x").fault is Fault.ENGINE_TOO_OLD


def test_a_time_out_says_that_the_outcome_is_unknown() -> None:
    assert "not known" in read_silence("", "unix:///x", timed_out=True).message


@pytest.mark.parametrize("address", ["tcp://10.0.0.1:2375", "ssh://me@host", "http://x", "npipe:////./pipe/docker"])
def test_a_remote_engine_needs_permission(address: str) -> None:
    problem = address_problem(address, allow_remote=False)
    assert isinstance(problem, EngineError)
    assert problem.fault is Fault.REFUSED
    assert address in problem.message
    assert address_problem(address, allow_remote=True) is None


@pytest.mark.parametrize("address", ["unix://", "unix:///", "unix://relative.sock"])
def test_a_socket_needs_an_absolute_path(address: str) -> None:
    assert address_problem(address, allow_remote=True) is not None


def test_a_local_socket_is_taken() -> None:
    assert address_problem("unix:///var/run/docker.sock", allow_remote=False) is None
