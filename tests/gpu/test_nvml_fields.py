"""What a driver or a GPU does not support, or answers wrongly (reliability.md 3.3, G5 and G6)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from orchestrator.gpu.nvml import mem_total_bytes, unified_memory_bytes
from tests.gpu.fake_driver import L40_BYTES, MEASURED, MIB, UNKNOWN, Boot, Gpu, build, needs_gcc

NOT_SUPPORTED = 3


# G5: fields that are not supported


@needs_gcc
@pytest.mark.parametrize(
    ("function", "field"),
    [
        ("nvmlDeviceGetUtilizationRates", "utilisation_percent"),
        ("nvmlDeviceGetPowerUsage", "power_mw"),
        ("nvmlDeviceGetEnforcedPowerLimit", "power_limit_mw"),
        ("nvmlDeviceGetTemperature", "temperature_c"),
    ],
)
def test_an_unsupported_field_is_none_and_asked_once(boot: Boot, function: str, field: str) -> None:
    machine = boot(Gpu("GPU-a", lines=[f"fail {function} {NOT_SUPPORTED}"]), Gpu("GPU-b"))
    for line in machine.rounds(4):
        a, b = line["gpus"]
        assert a[field] is None
        assert all(a[other] is not None for other in MEASURED if other != field)
        assert b[field] is not None, "the decision is per GPU"
    calls = Counter(called for _, called in machine.calls())
    rounds = calls["nvmlDeviceGetCount_v2"]
    assert rounds >= 4
    assert rounds <= calls[function] <= rounds + 1, "once for GPU-a, every round for GPU-b"


@needs_gcc
def test_a_new_session_asks_again_what_the_old_one_could_not(boot: Boot) -> None:
    machine = boot(Gpu("GPU-a", lines=[f"fail nvmlDeviceGetUtilizationRates {NOT_SUPPORTED}"]))
    machine.samples(lambda g: g["GPU-a"]["utilisation_percent"] is None, "no utilisation")
    machine.set(Gpu("GPU-a", util=50), lines=("reload 1",))
    machine.samples(lambda g: g["GPU-a"]["utilisation_percent"] == 50, "utilisation")


@needs_gcc
def test_unified_memory_falls_back_to_the_host_s(boot: Boot) -> None:
    fails = [f"fail nvmlDeviceGetMemoryInfo{form} {NOT_SUPPORTED}" for form in ("", "_v2")]
    machine = boot(Gpu("GPU-a", name="NVIDIA GB10", lines=fails), Gpu("GPU-b", name="NVIDIA GB10", total=0, used=0))
    gpus = machine.samples(len, "the GPUs")
    for gpu in gpus.values():
        assert gpu["memory_total_bytes"] == unified_memory_bytes()
        assert gpu["memory_used_bytes"] is None
        assert gpu["type"] == "GB10"


@needs_gcc
def test_a_passing_failure_is_asked_again_and_does_not_shrink_the_gpu(boot: Boot) -> None:
    machine = boot(Gpu("GPU-a"))
    machine.samples(len, "the GPU")
    functions = ("nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetPowerUsage")
    machine.set(Gpu("GPU-a", lines=[f"fail {function} {UNKNOWN}" for function in functions]))
    gpu = machine.samples(lambda g: g["GPU-a"]["power_mw"] is None, "no power")["GPU-a"]
    assert (gpu["memory_used_bytes"], gpu["memory_total_bytes"]) == (None, L40_BYTES)
    machine.set(Gpu("GPU-a"))
    machine.samples(lambda g: g["GPU-a"]["power_mw"] == 91_500, "power again")


@needs_gcc
def test_values_that_cannot_be_are_left_out(boot: Boot) -> None:
    lines = [
        "proc 0 1048576 compute",
        "proc 4294967295 1048576 compute",
        "proc 80 18446744073709551615 compute",
        f"proc 81 {L40_BYTES + 1} graphics",
        "proc 900001 4096 compute",
    ]
    machine = boot(Gpu("GPU-a", util=250, power=2**32 - 1, lines=lines))
    gpu = machine.samples(len, "the GPU")["GPU-a"]
    assert (gpu["utilisation_percent"], gpu["power_mw"]) == (None, None)
    assert gpu["processes"] == [
        {"pid": 80, "name": "worker-80", "memory_bytes": None},
        {"pid": 81, "name": "worker-81", "memory_bytes": None},
        {"pid": 900_001, "name": None, "memory_bytes": 4_096},
    ]


# G6: a driver older than the binding


@needs_gcc
@pytest.mark.parametrize("defines", [("NO_V3",), ("NO_V3", "NO_V2")], ids=["without v3", "without v2"])
def test_an_old_driver_is_asked_the_old_way(boot: Boot, tmp_path: Path, defines: tuple[str, ...]) -> None:
    lines = ["proc 70 1048576 compute", "proc 71 2097152 compute", "proc 72 3145728 graphics"]
    machine = boot(Gpu("GPU-a", lines=lines), libraries=build(tmp_path / "old", *defines))
    gpu = machine.rounds(3)[-1]["gpus"][0]
    assert [(p["pid"], p["memory_bytes"]) for p in gpu["processes"]] == [(70, MIB), (71, 2 * MIB), (72, 3 * MIB)]
    assert (gpu["memory_total_bytes"], gpu["power_limit_mw"]) == (L40_BYTES, 300_000)
    assert gpu["memory_used_bytes"] == 1_024 * MIB + (MIB if "NO_V2" in defines else 0)


@needs_gcc
def test_a_function_that_answers_not_found_is_asked_once(boot: Boot) -> None:
    function = "nvmlDeviceGetComputeRunningProcesses_v3"
    machine = boot(Gpu("GPU-a", lines=["proc 70 1048576 compute"]), Gpu("GPU-b"), lines=(f"fail {function} 13",))
    assert [p["pid"] for p in machine.rounds(3)[-1]["gpus"][0]["processes"]] == [70]
    assert [called for _, called in machine.calls()].count(function) == 1
    machine.set(Gpu("GPU-a"), lines=("reload 1",))
    machine.wait_until(lambda: [c for _, c in machine.calls()].count(function) > 1, "a new driver to be asked anew")


# /proc/meminfo


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("MemTotal:       131072000 kB\nMemFree: 1 kB\n", 131_072_000 * 1024),
        ("MemFree: 1 kB\n", None),
        ("MemTotal: many kB\n", None),
        ("MemTotal: 5 MB\n", None),
        ("", None),
    ],
)
def test_mem_total(text: str, value: int | None) -> None:
    assert mem_total_bytes(text) == value
