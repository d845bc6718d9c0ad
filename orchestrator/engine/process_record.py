"""What the process engine keeps on disk about a worker, and what follows from it. Pure: text in, values out.

One directory per worker holds spec.json (SpecRecord) and stop.json (StopRecord), written by the engine, shim.json
(ShimRecord) and exit.json (ExitRecord), written by the shim, and the log. Instants are wall-clock nanoseconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, TypeVar

from pydantic import Field, ValidationError

from orchestrator.contract.base import Received
from orchestrator.core.workload import Exit, ExitCause, Observed, WorkerSpec

WORKER_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
HOST: Final = "127.0.0.1"

INHERITED: Final = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "XDG_CACHE_HOME", "HF_HOME",
)  # fmt: skip
"""All that a model sees of the orchestrator's own environment: no key, token or proxy password is in it."""

R = TypeVar("R", bound=Received)
_ADDRESS_IN_USE: Final = re.compile(r"address (?:already )?in use|EADDRINUSE", re.IGNORECASE)


class RecordInvalid(ValueError):
    """A record cannot be read; the message names the file's kind, the field and what is wrong with it."""


class SpecRecord(Received):
    """What was asked for, written before anything is started."""

    worker_id: str = Field(min_length=1, max_length=128)
    name: str
    instance: str
    endpoint: str
    interval_id: str
    generation: int
    model: str
    gpu_uuid: str
    port: int = Field(ge=1, le=65_535)
    created_ns: int = Field(ge=0)


class ShimRecord(Received):
    """Who supervises and who is supervised. The model's fields are None until it has been started."""

    shim_pid: int = Field(ge=1)
    shim_ticks: int | None
    boot_id: str
    model_pid: int | None = None
    model_ticks: int | None = None
    started_ns: int | None = None


class ExitRecord(Received):
    """How it ended. `code` is negative for a signal, as Python's subprocess has it."""

    cause: ExitCause
    code: int | None
    at_ns: int | None
    detail: str = Field(max_length=2_000)


class StopRecord(Received):
    grace_s: float


def read_record(kind: type[R], text: bytes) -> R:
    """Raises RecordInvalid for anything that is not exactly such a record."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "document"
        raise RecordInvalid(f"{kind.__name__} {field}: {first['msg']}") from None


def spec_record(spec: WorkerSpec, port: int, created_ns: int) -> SpecRecord:
    return SpecRecord(
        worker_id=spec.worker_id,
        name=spec.name,
        instance=spec.instance,
        endpoint=spec.endpoint,
        interval_id=spec.interval_id,
        generation=spec.generation,
        model=spec.model.name,
        gpu_uuid=spec.gpu.uuid,
        port=port,
        created_ns=created_ns,
    )


def observed(spec: SpecRecord, shim: ShimRecord | None, exit_: Exit | None, *, paused: bool = False) -> Observed:
    """The worker as its records tell it. `engine_ref` is the pid of the model, the number `nvidia-smi` shows."""
    model_pid = None if shim is None else shim.model_pid
    return Observed(
        worker_id=spec.worker_id,
        engine_ref=str(model_pid or 0),
        endpoint=spec.endpoint,
        interval_id=spec.interval_id,
        host=HOST,
        port=spec.port,
        created_ns=spec.created_ns,
        started_ns=None if shim is None else shim.started_ns,
        exit=exit_,
        paused=paused,
    )


def recorded_exit(record: ExitRecord, log: tuple[str, ...]) -> Exit:
    """The evidence in the engines' common form: a signal counts as code 128 + number, as Docker and shells have it."""
    code = record.code if record.code is None or record.code >= 0 else 128 - record.code
    detail = record.detail
    if record.cause is ExitCause.ERROR and address_in_use(log):
        detail = f"{detail}; its port was taken by another program between choosing and listening"
    return Exit(record.cause, code, record.at_ns, detail, log)


def vanished(shim: ShimRecord | None, boot_id: str, seen_ns: int | None, log: tuple[str, ...]) -> Exit:
    """The exit of a worker whose supervisor is gone and left no evidence (reliability.md B3, B5). `seen_ns` is when the
    supervisor was seen to end, None when nobody watched."""
    if shim is None or shim.model_pid is None:
        return Exit(ExitCause.VANISHED, None, None, "it was never started, or its record is damaged", log)
    if shim.boot_id != boot_id:
        return Exit(ExitCause.VANISHED, None, None, "the host was restarted; nothing recorded how it ended", log)
    return Exit(ExitCause.VANISHED, None, seen_ns, "its supervisor was killed; nothing recorded how it ended", log)


def address_in_use(log: tuple[str, ...]) -> bool:
    """True when the last lines say that the port could not be bound."""
    return any(_ADDRESS_IN_USE.search(line) for line in log[-20:])


def model_environment(spec: WorkerSpec, inherited: Mapping[str, str], package_root: str) -> dict[str, str]:
    """The whole environment of a model. Later wins: INHERITED, the model's, the endpoint's, ours.

    A simulated GPU is never passed on: CUDA_VISIBLE_DEVICES is empty, and GPUDECK_SIMULATED_GPU says so.
    """
    env = {name: inherited[name] for name in INHERITED if name in inherited}
    env |= {"PYTHONUNBUFFERED": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    env |= spec.model.env | spec.env
    path = [package_root, *filter(None, [env.get("PYTHONPATH")])]
    env |= {
        "PYTHONPATH": ":".join(path),
        "GPUDECK_INSTANCE": spec.instance,
        "GPUDECK_WORKER": spec.worker_id,
        "GPUDECK_ENDPOINT": spec.endpoint,
        "CUDA_VISIBLE_DEVICES": "" if spec.gpu.simulated else spec.gpu.uuid,
    }
    if spec.gpu.simulated:
        env["GPUDECK_SIMULATED_GPU"] = "1"
    return env
