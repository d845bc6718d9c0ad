"""What we ask of Docker, as the Engine API's own JSON: a worker's container and the network it lives in. Pure.

Every hardening rule of design.md section 2 is a line here, and tests/engine/test_docker_request.py has one test each.
Nothing weaker can be asked for: there is no field for privileged, host namespaces or restart policies, and the one bind
mount there can be is the read-only file of the worker's own secrets (docker_secrets.py).
"""

from __future__ import annotations

import posixpath
import re
from typing import Any, Final

from orchestrator.contract.secrets import is_secret
from orchestrator.core.catalogue import Model, Volume
from orchestrator.core.workload import LABEL_PREFIX, WorkerSpec
from orchestrator.engine.arguments import filled_in
from orchestrator.engine.docker_secrets import VARIABLES_PATH, WRAPPER, Handover
from orchestrator.engine.ports import EngineError, Fault

NETWORK: Final = "gpudeck"
"""A bridge network of our own in which containers cannot reach each other: workers share nothing."""

LOOPBACK: Final = "127.0.0.1"

_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,127}")
_LABEL_BYTES_MAX: Final = 255
_KERNEL_PATHS: Final = ("/proc", "/sys", "/dev")


def network_request() -> dict[str, Any]:
    """Arguments of `APIClient.create_network`."""
    return {
        "name": NETWORK,
        "driver": "bridge",
        "options": {"com.docker.network.bridge.enable_icc": "false"},
        "labels": {f"{LABEL_PREFIX}network": "1"},
        "check_duplicate": True,
    }


def container_request(spec: WorkerSpec, handover: Handover | None = None) -> dict[str, Any]:
    """Body of `POST /containers/create` for `spec`. It needs a `handover` if, and only if, there are
    `secret_variables`.

    Raises EngineError(MODEL_UNSUPPORTED) when the model has no image or a command that would show a secret,
    EngineError(REFUSED) for a name, label or volume that Docker or we would not take, and for a variable that the
    command needs and nobody set.
    """
    model = spec.model
    image = image_of(spec)
    hidden = secret_variables(spec)
    assert (handover is not None) == bool(hidden), "a secret would be lost, or the wrapper would find no file"
    if not _NAME.fullmatch(spec.name):
        raise EngineError(Fault.REFUSED, f"name: Docker allows 2 to 128 letters, digits, _ . and -, not {spec.name!r}")
    port = f"{model.port}/tcp"
    body: dict[str, Any] = {
        "Image": image,
        "Labels": _labels(spec),
        "Env": [f"{name}={value}" for name, value in environment(spec).items() if name not in hidden],
        "ExposedPorts": {port: {}},
        # The orchestrator probes over HTTP; a check of the image's own would run beside it for ever.
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": _host_config(spec, port),
    }
    if model.command:
        body["Cmd"] = _arguments(model.command, spec)
    if model.entrypoint is not None:
        body["Entrypoint"] = _arguments(model.entrypoint, spec)
    if model.user is not None:
        body["User"] = model.user
    if handover is not None:
        _hand_over(body, handover)
    return body


def image_of(spec: WorkerSpec) -> str:
    """Raises EngineError(MODEL_UNSUPPORTED) when the model has none."""
    if not spec.model.image:
        raise EngineError(
            Fault.MODEL_UNSUPPORTED,
            f"model {spec.model.name} has no image, so Docker cannot run it; add `image` to its catalogue entry",
        )
    return spec.model.image


def secret_variables(spec: WorkerSpec) -> dict[str, str]:
    """Those of its variables that no request may hold."""
    return {name: value for name, value in environment(spec).items() if value and is_secret(name)}


def _hand_over(body: dict[str, Any], handover: Handover) -> None:
    """Put the wrapper before the program, and the file where the wrapper looks for it."""
    own_entrypoint = body.get("Entrypoint")
    # Docker's own rule: an entry point that is given replaces the image's command along with its entry point.
    command = body.get("Cmd", [] if own_entrypoint else list(handover.command))
    program = [*(handover.entrypoint if own_entrypoint is None else own_entrypoint), *command]
    if not program:
        raise EngineError(
            Fault.MODEL_UNSUPPORTED, f"image {body['Image']} has no command; add `command` to the model's entry"
        )
    body["Entrypoint"], body["Cmd"] = list(WRAPPER), program
    file = {"Type": "bind", "Source": str(handover.file), "Target": VARIABLES_PATH, "ReadOnly": True}
    body["HostConfig"].setdefault("Mounts", []).append(file)


def environment(spec: WorkerSpec) -> dict[str, str]:
    """The worker's variables, later sources winning: the model's, the endpoint's, ours."""
    found = {**spec.model.env, **spec.env, "GPUDECK_WORKER": spec.worker_id, "GPUDECK_ENDPOINT": spec.endpoint}
    # Without this line an endpoint's own variables, or the image's `all` under an nvidia default runtime, would hand
    # the worker the GPUs of its neighbours.
    found["NVIDIA_VISIBLE_DEVICES"] = "void" if spec.gpu.simulated else spec.gpu.uuid
    if spec.gpu.simulated:
        found["GPUDECK_SIMULATED_GPU"] = "1"
    return found


def _host_config(spec: WorkerSpec, port: str) -> dict[str, Any]:
    model = spec.model
    config: dict[str, Any] = {
        "NetworkMode": NETWORK,
        # Host port empty: the kernel picks a free one, anew at every start. Never 0.0.0.0.
        "PortBindings": {port: [{"HostIp": LOOPBACK, "HostPort": ""}]},
        "Privileged": False,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true"],
        "ReadonlyRootfs": model.read_only,
        "PidsLimit": model.pids,
        "Memory": model.memory_bytes,
        # Equal to Memory means no swap: a worker that swaps is slower than one that fails.
        "MemorySwap": model.memory_bytes,
        "IpcMode": "private",
        "Init": True,
        # Restarts are the controller's decision, and --rm would delete the evidence the bill rests on.
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "AutoRemove": False,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
    }
    if model.shm_bytes:
        config["ShmSize"] = model.shm_bytes
    if model.read_only:
        # exec: compilers of kernels (Triton, torch.compile) load what they wrote here. The memory limit covers it.
        config["Tmpfs"] = {"/tmp": "rw,exec,nosuid,nodev,mode=1777"}  # noqa: S108 -- inside the container
    if model.volumes:
        config["Mounts"] = [_mount(model, volume) for volume in model.volumes]
    if not spec.gpu.simulated:
        # Docker takes DeviceIDs or Count, never both, so Count is not even named.
        config["DeviceRequests"] = [
            {"Driver": "nvidia", "DeviceIDs": [spec.gpu.uuid], "Capabilities": [["gpu"]], "Options": {}}
        ]
    return config


def _mount(model: Model, volume: Volume) -> dict[str, Any]:
    """A named volume, never a bind: `Type: volume` makes Docker read the source as a name whatever it looks like."""
    path = posixpath.normpath(volume.path)
    of_kernel = any(path == top or path.startswith(f"{top}/") for top in _KERNEL_PATHS)
    if path != volume.path.rstrip("/") or path == "/" or of_kernel or not path.isprintable():
        raise EngineError(
            Fault.REFUSED,
            f"volumes: {model.name} may not mount a volume at {volume.path!r}; use a plain absolute directory, such as "
            "/root/.cache/huggingface",
        )
    return {"Type": "volume", "Source": volume.name, "Target": path}


def _labels(spec: WorkerSpec) -> dict[str, str]:
    """`spec.labels()`, checked: labels are shown by every `docker inspect`, so they carry identifiers and no more."""
    labels = spec.labels()
    for name, value in labels.items():
        if len(value.encode()) > _LABEL_BYTES_MAX or any(not character.isprintable() for character in value):
            raise EngineError(
                Fault.REFUSED, f"label {name}: one printable line of at most {_LABEL_BYTES_MAX} bytes, not {value!r}"
            )
    return labels


def _arguments(words: tuple[str, ...], spec: WorkerSpec) -> list[str]:
    """`{host}`, `{port}`, `{python}` and the worker's variables filled in. Inside the container every address is bound:
    what reaches it is decided by the published port."""
    address = {"host": "0.0.0.0", "port": str(spec.model.port), "python": "python3"}  # noqa: S104 -- in the container
    return filled_in(words, spec.model.name, environment(spec), address)
