"""Every hardening rule of a worker's container (design.md section 2, reliability.md 5.2), one test each."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.catalogue import Model, Volume
from orchestrator.core.workload import GpuGrant, WorkerSpec
from orchestrator.engine.docker_request import (
    NETWORK,
    container_request,
    environment,
    network_request,
    secret_variables,
)
from orchestrator.engine.docker_secrets import VARIABLES_PATH, WRAPPER, Handover
from orchestrator.engine.ports import EngineError, Fault

GIB = 1024**3
REAL_GPU = GpuGrant(uuid="GPU-6a1b", index=0, type="L40", simulated=False)
DECLARED_GPU = GpuGrant(uuid="SIM-0", index=0, type="L40", simulated=True)


def model(**changes: Any) -> Model:
    values: dict[str, Any] = {
        "name": "vllm",
        "title": "vLLM",
        "summary": "text",
        "kind": "text",
        "image": "vllm/vllm-openai:v0.18.0",
        "command": ("--host", "{host}", "--port", "{port}"),
        "port": 8123,
        "memory_bytes": 4 * GIB,
        "shm_bytes": GIB,
        "pids": 321,
    }
    return Model.model_validate(values | changes)


def spec(gpu: GpuGrant = REAL_GPU, env: dict[str, str] | None = None, **changes: Any) -> WorkerSpec:
    return WorkerSpec(
        worker_id="w-7",
        name="gpudeck-abc-demo-7",
        instance="abc",
        endpoint="demo",
        interval_id="i-7",
        generation=3,
        model=model(**changes),
        gpu=gpu,
        env=env or {},
    )


def host_config(**changes: Any) -> dict[str, Any]:
    config: dict[str, Any] = container_request(spec(**changes))["HostConfig"]
    return config


HARDENING = {
    "all capabilities are dropped": ("CapDrop", ["ALL"]),
    "no new privileges": ("SecurityOpt", ["no-new-privileges:true"]),
    "not privileged": ("Privileged", False),
    "the root is read-only": ("ReadonlyRootfs", True),
    "processes are limited": ("PidsLimit", 321),
    "memory is limited": ("Memory", 4 * GIB),
    "and there is no swap on top": ("MemorySwap", 4 * GIB),
    "shared memory is limited": ("ShmSize", GIB),
    "its IPC is its own": ("IpcMode", "private"),
    "an init reaps its children": ("Init", True),
    "Docker never restarts it": ("RestartPolicy", {"Name": "no", "MaximumRetryCount": 0}),
    "its evidence is never removed": ("AutoRemove", False),
    "its log is capped": ("LogConfig", {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}),
    "its network keeps workers apart": ("NetworkMode", NETWORK),
    "it is published on loopback only": ("PortBindings", {"8123/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}),
    "/tmp is writable in memory": ("Tmpfs", {"/tmp": "rw,exec,nosuid,nodev,mode=1777"}),
}


@pytest.mark.parametrize("rule", HARDENING)
def test_a_container_is_hardened(rule: str) -> None:
    name, value = HARDENING[rule]
    assert host_config()[name] == value


def test_nothing_weaker_can_slip_in() -> None:
    weak = {"Binds", "PidMode", "UsernsMode", "UTSMode", "CapAdd", "Devices", "VolumesFrom", "CgroupnsMode", "Runtime"}
    config = host_config(volumes=(Volume(name="hf", path="/cache"),), read_only=False)
    assert not weak & config.keys()


def test_containers_of_the_network_cannot_reach_each_other() -> None:
    request = network_request()
    assert request["options"] == {"com.docker.network.bridge.enable_icc": "false"}
    assert request["name"] == NETWORK


def test_a_real_gpu_is_asked_for_by_uuid_without_a_count() -> None:
    assert host_config()["DeviceRequests"] == [
        {"Driver": "nvidia", "DeviceIDs": ["GPU-6a1b"], "Capabilities": [["gpu"]], "Options": {}}
    ]
    assert environment(spec())["NVIDIA_VISIBLE_DEVICES"] == "GPU-6a1b"
    assert "GPUDECK_SIMULATED_GPU" not in environment(spec())


def test_a_declared_gpu_is_never_asked_for() -> None:
    declared = spec(DECLARED_GPU)
    assert "DeviceRequests" not in container_request(declared)["HostConfig"]
    assert environment(declared)["GPUDECK_SIMULATED_GPU"] == "1"
    assert environment(declared)["NVIDIA_VISIBLE_DEVICES"] == "void"


def test_the_endpoints_variables_override_the_models_but_never_ours() -> None:
    ours = {"NVIDIA_VISIBLE_DEVICES": "all", "GPUDECK_WORKER": "other", "GPUDECK_ENDPOINT": "other"}
    grabbing = dataclasses.replace(spec(env={"A": "endpoint", **ours}), model=model(env={"A": "model", "B": "model"}))
    assert environment(grabbing) == {
        "A": "endpoint",
        "B": "model",
        "GPUDECK_WORKER": "w-7",
        "GPUDECK_ENDPOINT": "demo",
        "NVIDIA_VISIBLE_DEVICES": "GPU-6a1b",
    }
    assert "A=endpoint" in container_request(grabbing)["Env"]


def test_arguments_get_the_address_inside_the_container_and_keep_their_braces() -> None:
    request = container_request(
        spec(
            command=("--host={host}", "--port", "{port}", '{"a": {"b": 1}}', "{MODEL}"), env={"MODEL": "Qwen/Q {port}"}
        )
    )
    assert request["Cmd"] == ["--host=0.0.0.0", "--port", "8123", '{"a": {"b": 1}}', "Qwen/Q {port}"]
    assert "Entrypoint" not in request


def test_a_variable_that_the_command_needs_is_named() -> None:
    with pytest.raises(EngineError, match="MODEL_ID") as refusal:
        container_request(spec(command=("--model", "{MODEL_ID}")))
    assert refusal.value.fault is Fault.REFUSED


def test_entrypoint_and_user_are_the_images_own_unless_the_model_says_otherwise() -> None:
    plain = container_request(spec(command=()))
    assert not {"Cmd", "Entrypoint", "User"} & plain.keys()
    given = container_request(spec(entrypoint=("serve", "{port}"), user="10001:10001"))
    assert (given["Entrypoint"], given["User"]) == (["serve", "8123"], "10001:10001")


def test_the_images_own_health_check_is_off() -> None:
    assert container_request(spec())["Healthcheck"] == {"Test": ["NONE"]}


def test_a_writable_root_gets_no_tmpfs() -> None:
    config = host_config(read_only=False)
    assert config["ReadonlyRootfs"] is False
    assert "Tmpfs" not in config


def test_volumes_are_named_ones_never_binds() -> None:
    config = host_config(volumes=(Volume(name="hf", path="/root/.cache/huggingface"), Volume(name="x", path="/data/")))
    assert config["Mounts"] == [
        {"Type": "volume", "Source": "hf", "Target": "/root/.cache/huggingface"},
        {"Type": "volume", "Source": "x", "Target": "/data"},
    ]


@pytest.mark.parametrize(
    "path", ["/", "//", "/proc", "/proc/sys", "/sys/fs", "/dev/shm", "/a/../proc", "/a//b", "/a\n"]
)
def test_a_volume_over_the_system_is_refused(path: str) -> None:
    with pytest.raises(EngineError, match="volumes: vllm") as refusal:
        container_request(spec(volumes=(Volume(name="hf", path=path),)))
    assert refusal.value.fault is Fault.REFUSED


def test_labels_identify_the_worker_and_hold_no_variable() -> None:
    request = container_request(spec(env={"REVISION": "rev_canary_5f2c"}))
    assert request["Labels"] == {
        "io.gpudeck.instance": "abc",
        "io.gpudeck.endpoint": "demo",
        "io.gpudeck.worker": "w-7",
        "io.gpudeck.interval": "i-7",
        "io.gpudeck.generation": "3",
        "io.gpudeck.model": "vllm",
        "io.gpudeck.gpu": "GPU-6a1b",
    }
    everywhere_else = {name: value for name, value in request.items() if name != "Env"}
    assert "rev_canary_5f2c" not in json.dumps(everywhere_else)


HANDOVER = Handover(Path("/run/deck/secrets/w-7.env"), entrypoint=("/serve", "--fast"), command=("all",))
SECRET = {"HF_TOKEN": "hf_canary_5f2c", "REVISION": "main"}


def test_a_secret_is_nowhere_in_the_request() -> None:
    request = container_request(spec(env=SECRET), HANDOVER)
    assert "hf_canary_5f2c" not in json.dumps(request)
    assert "REVISION=main" in request["Env"]
    assert request["HostConfig"]["Mounts"] == [
        {"Type": "bind", "Source": "/run/deck/secrets/w-7.env", "Target": VARIABLES_PATH, "ReadOnly": True}
    ]


def test_secrets_are_found_by_name_whoever_sets_them_and_an_empty_one_is_none() -> None:
    found = dataclasses.replace(
        spec(env={"HF_TOKEN": "a", "REVISION": "b", "PASSWORD": ""}), model=model(env={"API_KEY": "c", "D": "d"})
    )
    assert secret_variables(found) == {"HF_TOKEN": "a", "API_KEY": "c"}


@pytest.mark.parametrize(
    ("changes", "program"),
    [
        ({"command": ()}, ["/serve", "--fast", "all"]),
        ({"command": ("--port", "{port}")}, ["/serve", "--fast", "--port", "8123"]),
        ({"command": (), "entrypoint": ("/own",)}, ["/own"]),
        ({"command": ("x",), "entrypoint": ("/own", "{port}")}, ["/own", "8123", "x"]),
        ({"command": (), "entrypoint": ()}, ["all"]),
        ({"command": ("x",), "entrypoint": ()}, ["x"]),
    ],
)
def test_the_wrapper_runs_what_docker_would_have_run(changes: dict[str, Any], program: list[str]) -> None:
    """Docker's rule: an entry point that is given replaces the image's command too; an empty one only itself."""
    request = container_request(spec(env=SECRET, **changes), HANDOVER)
    assert (request["Entrypoint"], request["Cmd"]) == (list(WRAPPER), program)


def test_without_a_program_there_is_nothing_to_wrap() -> None:
    with pytest.raises(EngineError, match="has no command") as refusal:
        container_request(spec(env=SECRET, command=()), Handover(Path("/x"), (), ()))
    assert refusal.value.fault is Fault.MODEL_UNSUPPORTED


@pytest.mark.parametrize("field", ["command", "entrypoint"])
def test_a_secret_in_the_command_is_refused_by_name(field: str) -> None:
    with pytest.raises(EngineError, match=r"env\.API_KEY: .*list of processes") as refusal:
        container_request(spec(env={"API_KEY": "k-canary"}, **{field: ("serve", "--api-key={API_KEY}")}), HANDOVER)
    assert refusal.value.fault is Fault.MODEL_UNSUPPORTED
    assert "k-canary" not in refusal.value.message


@pytest.mark.parametrize("bad", ["two\nlines", "\x1b[31mred", "x" * 256, "nul\0"])
def test_a_label_is_one_short_printable_line(bad: str) -> None:
    with pytest.raises(EngineError, match=r"label io\.gpudeck\.interval") as refusal:
        container_request(dataclasses.replace(spec(), interval_id=bad))
    assert refusal.value.message.isprintable()


@pytest.mark.parametrize("name", ["", "a", "-x", "a b", "a/b", "a" * 129])
def test_a_name_docker_would_not_take_is_refused(name: str) -> None:
    with pytest.raises(EngineError, match="name: Docker allows 2 to 128"):
        container_request(dataclasses.replace(spec(), name=name))


def test_a_model_without_an_image_is_unsupported() -> None:
    with pytest.raises(EngineError, match="vllm has no image") as refusal:
        container_request(spec(image=None))
    assert refusal.value.fault is Fault.MODEL_UNSUPPORTED
