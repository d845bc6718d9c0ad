"""The NVML probe against a library of our own that answers like a driver (reliability.md 3.3, G1 to G4)."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from orchestrator.gpu.nvml import _pause_s
from tests.gpu.fake_driver import L40_BYTES, LIBRARY, MEASURED, MIB, UNKNOWN, Boot, Gpu, Machine, needs_gcc

UNINITIALISED = 1
DRIVER_NOT_LOADED = 9
VERSION_MISMATCH = 18


@needs_gcc
def test_every_measurement_arrives_in_its_unit(boot: Boot) -> None:
    first = Gpu("GPU-a", lines=["proc 70 1048576 compute", "proc 71 2097152 graphics", "proc 70 4194304 graphics"])
    machine = boot(first, Gpu("GPU-b", name="NVIDIA A100-SXM4-80GB", total=80 * 1024 * MIB), known=["a100", "L40"])
    gpus = machine.samples(len, "two GPUs")
    a, b = gpus["GPU-a"], gpus["GPU-b"]
    assert {k: v for k, v in a.items() if k not in ("sampled_ns", "processes")} == {
        "uuid": "GPU-a",
        "index": 0,
        "type": "L40",
        "name": "NVIDIA L40",
        "simulated": False,
        "lost": False,
        "memory_total_bytes": L40_BYTES,
        "memory_used_bytes": 1_024 * MIB,
        "utilisation_percent": 37,
        "power_mw": 91_500,
        "power_limit_mw": 300_000,
        "temperature_c": 41,
    }
    assert a["processes"] == [
        {"pid": 70, "name": "worker-70", "memory_bytes": 4_194_304},
        {"pid": 71, "name": "worker-71", "memory_bytes": 2_097_152},
    ]
    assert (b["index"], b["type"]) == (1, "a100")


@needs_gcc
def test_values_follow_the_hardware_and_carry_their_time(boot: Boot) -> None:
    machine = boot(Gpu("GPU-a", util=1))
    before = machine.samples(lambda g: g["GPU-a"]["utilisation_percent"] == 1, "1 %")
    machine.set(Gpu("GPU-a", util=99))
    after = machine.samples(lambda g: g["GPU-a"]["utilisation_percent"] == 99, "99 %")
    assert after["GPU-a"]["sampled_ns"] > before["GPU-a"]["sampled_ns"]


@needs_gcc
def test_the_owner_s_type_for_a_name_comes_before_the_price_book(boot: Boot) -> None:
    machine = boot(Gpu("GPU-a", name="NVIDIA L40S"), types={"NVIDIA L40S": "lab-card"}, known=["L40", "L40S"])
    assert machine.samples(len, "a GPU")["GPU-a"]["type"] == "lab-card"


@needs_gcc
def test_one_thread_makes_every_call_and_shuts_nvml_down(boot: Boot) -> None:
    machine = boot(Gpu("GPU-a"))
    thread = machine.rounds(3)[0]["thread"]
    machine.ask("close", "closed")
    calls = machine.calls()
    assert {caller for caller, _ in calls} == {thread}
    functions = Counter(function for _, function in calls)
    assert (functions["nvmlInitWithFlags"], functions["nvmlShutdown"]) == (1, 1)
    assert calls[-1][1] == "nvmlShutdown"


# G1: no driver, no library


def test_without_a_library_it_says_what_to_do_and_lists_nothing(boot: Boot, tmp_path: Path) -> None:
    # A file that is no library at all: on a GPU host an empty directory would let the loader find the real one.
    (tmp_path / LIBRARY).write_bytes(b"not a library")
    machine = boot(libraries=tmp_path)
    told = machine.wait(lambda line: line["kind"] == "samples", "the first round")
    assert told["gpus"] == []
    assert "libnvidia-ml.so.1" in told["problem"]
    assert "--gpus" in told["problem"]
    assert machine.ask("close", "closed")["took_s"] < 2


@needs_gcc
def test_a_library_installed_meanwhile_is_found(boot: Boot, library: Path, tmp_path: Path) -> None:
    place = tmp_path / "lib"
    place.mkdir()
    (place / LIBRARY).write_bytes(b"not a library")
    machine = boot(Gpu("GPU-a"), libraries=place)
    machine.wait(lambda line: line.get("problem"), "a problem")
    shutil.copy(library / LIBRARY, place / "new")
    (place / "new").replace(place / LIBRARY)
    machine.samples(lambda gpus: "GPU-a" in gpus, "the GPU")
    assert machine.ask("problem", "problem")["problem"] is None


@needs_gcc
def test_a_driver_that_is_not_loaded_at_start_is_named_and_waited_for(boot: Boot) -> None:
    machine = boot(Gpu("GPU-a"), lines=(f"driver {DRIVER_NOT_LOADED}",))
    told = machine.wait(lambda line: line.get("problem"), "a problem")
    assert "not loaded" in told["problem"]
    assert told["gpus"] == []
    machine.set(Gpu("GPU-a"))
    assert machine.samples(len, "the GPU")["GPU-a"]["utilisation_percent"] == 37


@needs_gcc
def test_a_driver_without_gpus_is_told_apart_from_no_driver(boot: Boot) -> None:
    machine = boot(rescan_s=0.05)
    assert "lists no GPU" in machine.wait(lambda line: line.get("problem"), "a problem")["problem"]
    machine.set(Gpu("GPU-a"))
    machine.samples(len, "the GPU")


@needs_gcc
@pytest.mark.parametrize(("code", "words"), [(UNKNOWN, "Unknown Error (999)"), (888, "(888)")])
def test_any_other_error_still_makes_a_sentence(boot: Boot, code: int, words: str) -> None:
    machine = boot(lines=(f"driver {code}",))
    assert words in machine.wait(lambda line: line.get("problem"), "a problem")["problem"]


# G2: a GPU is lost


@needs_gcc
def test_a_lost_gpu_is_marked_and_the_others_go_on(boot: Boot) -> None:
    machine = boot(Gpu("GPU-a"), Gpu("GPU-b", util=5))
    machine.samples(len, "both GPUs")
    machine.set(Gpu("GPU-a", lines=["lost"]), Gpu("GPU-b", util=6))
    gpus = machine.samples(lambda g: g["GPU-a"]["lost"], "GPU-a lost")
    assert [gpus["GPU-a"][field] for field in MEASURED] == [None] * 5
    assert (gpus["GPU-a"]["type"], gpus["GPU-a"]["memory_total_bytes"]) == ("L40", L40_BYTES)
    assert machine.samples(lambda g: g["GPU-b"]["utilisation_percent"] == 6, "GPU-b")["GPU-b"]["lost"] is False
    assert machine.ask("problem", "problem")["problem"] is None


@needs_gcc
def test_a_gpu_that_left_the_list_is_known_by_its_uuid_not_its_index(boot: Boot) -> None:
    machine = boot(Gpu("GPU-a", util=1), Gpu("GPU-b", util=2), Gpu("GPU-c", util=3))
    machine.samples(lambda g: len(g) == 3, "three GPUs")
    machine.set(Gpu("GPU-a", util=1), Gpu("GPU-c", util=3))
    gpus = machine.samples(lambda g: g["GPU-b"]["lost"], "GPU-b lost")
    assert [uuid for uuid, gpu in gpus.items() if not gpu["lost"]] == ["GPU-a", "GPU-c"]
    assert (gpus["GPU-c"]["utilisation_percent"], gpus["GPU-c"]["index"]) == (3, 1)
    assert gpus["GPU-b"]["utilisation_percent"] is None


@needs_gcc
def test_a_lost_gpu_comes_back_after_nvml_is_initialised_again(boot: Boot) -> None:
    machine = boot(Gpu("GPU-a"), Gpu("GPU-b"), rescan_s=0.3)
    machine.samples(len, "both GPUs")
    machine.set(Gpu("GPU-a", lines=["lost"]), Gpu("GPU-b"))
    machine.samples(lambda g: g["GPU-a"]["lost"], "GPU-a lost")
    machine.set(Gpu("GPU-a", util=8), Gpu("GPU-b"))  # the fake, like the driver, finds it only in a new session
    back = machine.samples(lambda g: not g["GPU-a"]["lost"], "GPU-a back")
    assert back["GPU-a"]["utilisation_percent"] == 8
    functions = [function for _, function in machine.calls()]
    assert functions.count("nvmlInitWithFlags") >= 2
    assert functions.count("nvmlShutdown") >= 1


@needs_gcc
def test_a_healthy_machine_is_never_initialised_again(boot: Boot) -> None:
    machine = boot(Gpu("GPU-a"), rescan_s=0.0)
    machine.rounds(5)
    assert [function for _, function in machine.calls()].count("nvmlInitWithFlags") == 1


# G3: the driver is reloaded or replaced


@needs_gcc
@pytest.mark.parametrize(
    ("code", "words"), [(DRIVER_NOT_LOADED, "not loaded"), (VERSION_MISMATCH, "different versions")]
)
def test_it_recovers_from_a_driver_that_went_away(boot: Boot, code: int, words: str) -> None:
    machine = boot(Gpu("GPU-a", util=1))
    last = machine.samples(len, "the GPU")["GPU-a"]
    machine.set(lines=(f"driver {code}",))
    told = machine.wait(lambda line: line.get("problem"), "a problem", machine.position)
    assert words in told["problem"]
    stale = told["gpus"][0]
    assert (stale["uuid"], stale["utilisation_percent"], stale["lost"]) == ("GPU-a", 1, False)
    assert stale["sampled_ns"] >= last["sampled_ns"]
    machine.set(Gpu("GPU-a", util=2), lines=("reload 1",))
    fresh = machine.samples(lambda g: g["GPU-a"]["utilisation_percent"] == 2, "fresh values")
    assert fresh["GPU-a"]["sampled_ns"] > stale["sampled_ns"]
    assert machine.ask("problem", "problem")["problem"] is None


@needs_gcc
@pytest.mark.parametrize("code", [UNINITIALISED, DRIVER_NOT_LOADED, VERSION_MISMATCH])
def test_a_driver_that_goes_away_within_a_round_ends_the_session(boot: Boot, code: int) -> None:
    machine = boot(Gpu("GPU-a"))
    machine.samples(len, "the GPU")
    machine.set(Gpu("GPU-a"), lines=(f"fail nvmlDeviceGetPowerUsage {code}",))
    machine.wait(lambda line: line.get("problem"), "a problem", machine.position)
    machine.set(Gpu("GPU-a", util=2))
    machine.samples(lambda g: g["GPU-a"]["utilisation_percent"] == 2, "fresh values")
    assert [function for _, function in machine.calls()].count("nvmlInitWithFlags") > 1


@needs_gcc
def test_last_samples_keep_their_time_while_the_driver_is_away(boot: Boot) -> None:
    machine = boot(Gpu("GPU-a"))
    machine.samples(len, "the GPU")
    machine.set(lines=(f"driver {DRIVER_NOT_LOADED}",))
    machine.wait(lambda line: line.get("problem"), "a problem", machine.position)
    times = {line["gpus"][0]["sampled_ns"] for line in machine.rounds(2)}
    assert len(times) == 1


@needs_gcc
def test_a_reload_between_two_rounds_is_survived_with_gpus_in_another_order(boot: Boot) -> None:
    machine = boot(Gpu("GPU-a", util=1), Gpu("GPU-b", util=2))
    machine.samples(len, "both GPUs")
    machine.set(Gpu("GPU-b", util=12), Gpu("GPU-a", util=11), lines=("reload 1",))
    gpus = machine.samples(lambda g: g["GPU-a"]["utilisation_percent"] == 11, "fresh values")
    assert {uuid: (g["index"], g["utilisation_percent"]) for uuid, g in gpus.items()} == {
        "GPU-a": (1, 11),
        "GPU-b": (0, 12),
    }
    functions = [function for _, function in machine.calls()]
    shutdown = functions.index("nvmlShutdown")
    assert "nvmlInitWithFlags" in functions[shutdown:]


def test_attempts_are_spaced_out_up_to_half_a_minute() -> None:
    assert [_pause_s(1.0, failures) for failures in range(8)] == [1, 2, 4, 8, 16, 30, 30, 30]
    assert _pause_s(1.0, 100_000) == 30
    assert _pause_s(60.0, 3) == 60


# G4: a call blocks


@needs_gcc
def test_a_blocked_call_does_not_hold_up_close_and_reports_nothing_after_it(boot: Boot) -> None:
    machine = boot(Gpu("GPU-a"))
    machine.samples(len, "the GPU")
    machine.set(Gpu("GPU-a"), lines=("delay_ms 400",))  # a round takes some 4 s, more than close may
    machine.wait_for_delay()
    assert machine.ask("close", "closed")["took_s"] < 2
    said = machine.position
    assert machine.calls()[-1][1] != "nvmlShutdown", "the thread was not held up: this test proves nothing"
    machine.wait_until(lambda: machine.calls()[-1][1] == "nvmlShutdown", "the thread to shut NVML down at last")
    assert machine.end() == 0
    assert machine.position == said, "a sample was reported after close"


@needs_gcc
def test_a_call_that_never_returns_does_not_keep_the_program_alive(boot: Boot) -> None:
    machine = boot(Gpu("GPU-a"))
    machine.samples(len, "the GPU")
    machine.set(Gpu("GPU-a"), lines=("delay_ms 600000",))
    machine.wait_for_delay()
    assert machine.ask("close", "closed")["took_s"] < 2
    assert machine.end(timeout_s=15) == 0


@needs_gcc
def test_a_driver_that_does_not_answer_is_a_problem_with_an_age(boot: Boot) -> None:
    machine = boot(Gpu("GPU-a"))
    machine.samples(len, "the GPU")
    machine.set(Gpu("GPU-a"), lines=("delay_ms 600",))

    def slow() -> object:
        return "has not answered for" in (machine.ask("problem", "problem")["problem"] or "")

    machine.wait_until(slow, "the driver to be called slow")
    machine.set(Gpu("GPU-a", util=3))
    machine.samples(lambda g: g["GPU-a"]["utilisation_percent"] == 3, "it answers again")
    assert machine.ask("problem", "problem")["problem"] is None


@pytest.mark.gpu
@pytest.mark.skipif(not Path("/proc/driver/nvidia/version").exists(), reason="no NVIDIA driver is loaded on this host")
def test_a_real_gpu_is_measured(tmp_path: Path) -> None:
    machine = Machine(tmp_path, Path(os.environ.get("LD_LIBRARY_PATH", ""))).run()
    told = machine.wait(lambda line: line["kind"] == "samples" and line["gpus"], "a GPU")
    assert told["problem"] is None
    for gpu in told["gpus"]:
        assert gpu["uuid"].startswith("GPU-")
        assert gpu["name"]
        assert gpu["memory_total_bytes"] > 0
        assert gpu["simulated"] is False
    assert machine.ask("close", "closed")["took_s"] < 2
    assert machine.end() == 0
