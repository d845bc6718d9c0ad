"""What Docker answers, in our own words: inspect JSON and events to Observed and Exit, refusals to faults. Pure."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from orchestrator.core.workload import LABEL_PREFIX, Exit, ExitCause, Observed
from orchestrator.engine.docker_request import LOOPBACK
from orchestrator.engine.log_text import clean_line
from orchestrator.engine.ports import EngineError, EngineUnavailable, Fault

EVIDENCE_LINES: Final = 50
API_VERSION_MIN: Final = (1, 41)

_UNWITNESSED: Final = 255
"""The code Docker writes for a container whose end it did not see: the host or the runtime went down under it."""

_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_TOOLKIT: Final = (
    "install the NVIDIA Container Toolkit on this host (package nvidia-container-toolkit), then run "
    "`sudo nvidia-ctk runtime configure --runtime=docker` and restart Docker"
)

_REFUSALS: Final[tuple[tuple[Fault, re.Pattern[str]], ...]] = tuple(
    (fault, re.compile(pattern, re.IGNORECASE))
    for fault, pattern in (
        (Fault.NO_SPACE, r"no space left on device|disk quota exceeded"),
        (
            Fault.GPU_UNAVAILABLE,
            r"could not select device driver|nvidia-container|libnvidia-ml|runtime name: nvidia|CDI device|"
            r"known GPU vendor|discover GPU vendor|nvml error",
        ),
        (Fault.PORT_TAKEN, r"port is already allocated|address already in use|ports are not available"),
        (Fault.IMAGE_MISSING, r"no such image|manifest unknown|pull access denied|not found: does not exist"),
        (Fault.ENGINE_TOO_OLD, r"client version .* is too (?:new|old)"),
        (Fault.NAME_CONFLICT, r"container name .* is already in use"),
        (Fault.REFUSED, r"bind source path does not exist"),
    )
)


def parse_time(text: str | None) -> int | None:
    """Wall-clock nanoseconds of a Docker timestamp (RFC 3339, up to nine decimals); None for absent, malformed or the
    zero time `0001-01-01T00:00:00Z`, which means that it has not happened."""
    match = _TIME.fullmatch(text or "")
    if match is None or match[1].startswith("0001-"):
        return None
    try:
        whole = datetime.fromisoformat(match[1] + ("+00:00" if match[3] == "Z" else match[3]))
    except ValueError:
        return None
    # Through whole days and seconds: a float timestamp would lose the last hundred nanoseconds.
    since = whole - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + int((match[2] or "").ljust(9, "0"))


def log_lines(raw: bytes, tail: int) -> tuple[str, ...]:
    """The last `tail` lines of a container's output, oldest first, made harmless."""
    lines = raw.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    return tuple(clean_line(line) for line in lines[-tail:]) if tail > 0 else ()


def has_ended(inspected: Mapping[str, Any]) -> bool:
    return inspected["State"].get("Status") in {"exited", "dead", "removing"}


def belongs_to(inspected: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a container is the worker that `labels` describe: same instance and same worker id."""
    found = inspected["Config"].get("Labels") or {}
    return all(found.get(f"{LABEL_PREFIX}{name}") == labels[f"{LABEL_PREFIX}{name}"] for name in ("instance", "worker"))


def read_worker(inspected: Mapping[str, Any], log: tuple[str, ...], now_ns: int, *, oom: bool = False) -> Observed:
    """A container's inspect JSON as a worker. `now_ns` stands in for a creation time Docker does not give; `oom` says
    that an oom event was seen for it, which some engines forget to note in the state."""
    state = inspected["State"]
    labels = inspected["Config"].get("Labels") or {}
    ended = has_ended(inspected)
    port = None if ended else published_port(inspected)
    return Observed(
        worker_id=labels.get(f"{LABEL_PREFIX}worker", ""),
        engine_ref=inspected["Id"][:12],
        endpoint=labels.get(f"{LABEL_PREFIX}endpoint", ""),
        interval_id=labels.get(f"{LABEL_PREFIX}interval", ""),
        host=None if port is None else LOOPBACK,
        port=port,
        created_ns=parse_time(inspected.get("Created")) or now_ns,
        started_ns=parse_time(state.get("StartedAt")),
        exit=read_exit(state, log, oom=oom) if ended else None,
        paused=bool(state.get("Paused")),
    )


def published_port(inspected: Mapping[str, Any]) -> int | None:
    """The host port of the one port we publish. Docker may choose another one at every start, so never keep it."""
    for bindings in (inspected.get("NetworkSettings", {}).get("Ports") or {}).values():
        for binding in bindings or ():
            if binding.get("HostPort", "").isdigit() and binding["HostPort"] != "0":
                return int(binding["HostPort"])
    return None


def read_exit(state: Mapping[str, Any], log: tuple[str, ...], *, oom: bool = False) -> Exit:
    """The evidence in a container's State.

    Code 255 is what Docker writes when nobody saw the end, and then FinishedAt is the time Docker came back, not the
    time of the end (reliability.md B3): `at_ns` is None, so that no bill rests on it.
    """
    code = state.get("ExitCode")
    error = clean_line(state.get("Error") or "")
    at_ns = parse_time(state.get("FinishedAt"))
    if code == _UNWITNESSED:
        detail = "exit code 255, which Docker also gives when the host or the engine went down; the time is not known"
        return Exit(ExitCause.ERROR, code, None, _with_reason(detail, error), log)
    cause, detail = _cause(code, oom=oom or bool(state.get("OOMKilled")))
    return Exit(cause, code, at_ns, _with_reason(detail, error), log)


def read_die_event(event: Mapping[str, Any], now_ns: int) -> Exit:
    """The evidence in a `die` event, for a container that was removed before it could be inspected."""
    attributes = event.get("Actor", {}).get("Attributes", {})
    text = attributes.get("exitCode", "")
    cause, detail = _cause(int(text) if text.isdigit() else None, oom=False)
    at_ns = event.get("timeNano")
    code = int(text) if text.isdigit() else None
    return Exit(cause, code, at_ns if isinstance(at_ns, int) else now_ns, f"{detail}; the container was removed", ())


def _cause(code: int | None, *, oom: bool) -> tuple[ExitCause, str]:
    if code is None:
        return ExitCause.VANISHED, "ended without an exit code"
    if code == 0:
        return ExitCause.CLEAN, "ended by itself (exit code 0)"
    if oom:
        return ExitCause.OOM, f"killed for exceeding its memory limit (exit code {code})"
    if 128 < code < 128 + signal.NSIG:
        return ExitCause.SIGNAL, f"killed by {_signal_name(code - 128)} (exit code {code})"
    return ExitCause.ERROR, f"exit code {code}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _with_reason(detail: str, reason: str) -> str:
    return f"{detail}: {reason}" if reason else detail


def read_refusal(status: int | None, text: str, image: str | None = None) -> EngineError:
    """The error for an HTTP `status` with Docker's explanation `text`; `image` is the reference that was asked for."""
    said = clean_line(text.replace("\n", " ")).strip()
    for fault, pattern in _REFUSALS:
        if pattern.search(said):
            return EngineError(fault, _advice(fault, said, image))
    if status in {502, 503, 504}:
        return EngineUnavailable(f"Docker is not able to answer now ({status}): {said}")
    return EngineError(Fault.REFUSED, f"Docker refused: {said or status}")


def _advice(fault: Fault, said: str, image: str | None) -> str:
    match fault:
        case Fault.NO_SPACE:
            return f"Docker's disk is full; free space with `docker system df` and `docker system prune` ({said})"
        case Fault.GPU_UNAVAILABLE:
            return f"Docker cannot hand out GPUs: {_TOOLKIT} ({said})"
        case Fault.PORT_TAKEN:
            return f"the port is taken by another program ({said})"
        case Fault.IMAGE_MISSING:
            return image_missing(image) if image else f"the image is not on this host ({said})"
        case Fault.ENGINE_TOO_OLD:
            return f"this Docker engine and gpudeck have no API version in common; update Docker ({said})"
        case Fault.REFUSED:
            return (
                "Docker does not find the file with the endpoint's secrets: gpudeck runs in a container itself, or "
                "Docker in a machine of its own; give both the same runtime directory (XDG_RUNTIME_DIR) under the same "
                f"path ({said})"
            )
        case _:
            return f"Docker refused: {said}"


def image_missing(image: str) -> str:
    """What to do about an image that is not here. gpudeck never pulls on its own: a pull can cost tens of gigabytes."""
    if image.startswith("gpudeck/worker:"):
        return (
            f"image {image} is not on this host; build it in gpudeck's source directory with "
            f"`docker build --target worker -t {image} .`"
        )
    return f"image {image} is not on this host; fetch it with `docker pull {image}`"


def too_old(version: str) -> EngineError | None:
    """The refusal of an engine whose API is below 1.41 (Docker 20.10), or None."""
    parts = tuple(int(part) for part in version.split(".") if part.isdigit())
    if parts >= API_VERSION_MIN:
        return None
    wanted = ".".join(str(part) for part in API_VERSION_MIN)
    return EngineError(
        Fault.ENGINE_TOO_OLD,
        f"Docker's API is {version}, gpudeck needs {wanted} (Docker 20.10) or later; update Docker",
    )


def read_silence(text: str, address: str, *, timed_out: bool) -> EngineUnavailable:
    """The error for a call without an answer. `text` is the transport's own description."""
    if timed_out:
        return EngineUnavailable(
            f"Docker at {address} did not answer in time; whether the call took effect is not known yet"
        )
    if "FileNotFoundError" in text or "No such file" in text:
        return EngineUnavailable(
            f"no Docker engine at {address}: the socket does not exist; start Docker, or set DOCKER_HOST to its socket"
        )
    if "PermissionError" in text or "Permission denied" in text:
        return EngineUnavailable(
            f"no permission to use Docker at {address}; add yourself to the group `docker` "
            "(`sudo usermod -aG docker $USER`) and log in again"
        )
    if "ConnectionRefusedError" in text or "Connection refused" in text:
        return EngineUnavailable(f"no Docker engine listens at {address}; start Docker (`sudo systemctl start docker`)")
    return EngineUnavailable(f"the connection to Docker at {address} was lost: {clean_line(text)}")
