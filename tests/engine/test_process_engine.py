"""What only the process engine must do: faults of a start, environment, records (reliability.md section 3.1)."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.core.workload import ExitCause
from orchestrator.engine.ports import EngineError, EngineUnavailable, Fault
from orchestrator.engine.process_files import Directory
from orchestrator.engine.process_record import spec_record
from orchestrator.engine.shim import start_ticks
from tests.engine.process_harness import Build, ProcessHarness, begin, building, exists, inspected, mode
from tests.engine.suite import evidence, exits, facts
from tests.waiting import until

CANARY = "canary-5d1f"


@pytest.fixture
async def build(tmp_path: Path) -> AsyncIterator[Build]:
    async with building(tmp_path) as make:
        yield make


def environ(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_text().rstrip("\0").split("\0")
    return dict(pair.split("=", 1) for pair in pairs)


async def test_a_port_taken_each_time_is_a_fault(build: Build) -> None:
    harness = build("in_use")
    await harness.open()
    with pytest.raises(EngineError) as refusal:
        await harness.engine.start(harness.spec(1))
    assert refusal.value.fault is Fault.PORT_TAKEN
    assert "3 times" in refusal.value.message
    assert await harness.engine.list_workers() == []
    assert harness.changes == [], "an attempt that is repeated is nobody's business"


@pytest.mark.parametrize("program", ["/nonexistent/server", "/dev/null"])
async def test_a_program_that_cannot_be_executed_leaves_nothing(build: Build, program: str) -> None:
    harness = build()
    harness.process = (program, "{port}")
    await harness.open()
    with pytest.raises(EngineError) as refusal:
        await harness.engine.start(harness.spec(1))
    assert refusal.value.fault is Fault.REFUSED
    assert program in refusal.value.message
    assert await harness.leftovers() == []


async def test_an_unusable_directory_is_explained(tmp_path: Path) -> None:
    harness = ProcessHarness(tmp_path, process=mode("serve"))
    harness.directory.write_text("a file, not a directory")
    view = await harness.engine.probe()
    assert not view.ok
    assert str(harness.directory) in view.detail
    with pytest.raises(EngineUnavailable):
        await harness.open()
    with pytest.raises(EngineError):
        await harness.engine.start(harness.spec(1))
    await harness.close()


async def test_no_environment_leaks_into_the_model(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUDECK_CANARY", CANARY)
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    harness = build()
    worker = await begin(harness, env={"TOKEN": "of-the-endpoint"})
    seen = environ(int(worker.engine_ref))
    assert CANARY not in seen.values()
    assert seen["TOKEN"] == "of-the-endpoint"
    assert seen["ECHO_STARTUP_S"] == "0.0"
    assert (seen["GPUDECK_WORKER"], seen["GPUDECK_ENDPOINT"]) == ("w-1", "demo")
    assert (seen["CUDA_VISIBLE_DEVICES"], seen["GPUDECK_SIMULATED_GPU"]) == ("", "1")
    supervisor = environ(harness.pids("w-1")["shim_pid"])
    assert CANARY not in supervisor.values()
    assert "TOKEN" not in supervisor
    for file in (harness.directory / "w-1").iterdir():
        assert b"of-the-endpoint" not in file.read_bytes(), f"{file.name} holds a value of the environment"
    for pid in (harness.pids("w-1")["shim_pid"], int(worker.engine_ref)):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        assert command, "it runs: the look at its command is not blind"
        assert b"of-the-endpoint" not in command


async def test_a_real_gpu_is_pinned_by_uuid(build: Build) -> None:
    harness = build()
    worker = await begin(harness, simulated=False)
    seen = environ(int(worker.engine_ref))
    assert seen["CUDA_VISIBLE_DEVICES"] == "GPU-1"
    assert "GPUDECK_SIMULATED_GPU" not in seen


async def test_records_are_for_the_owner_only(build: Build) -> None:
    harness = build()
    await begin(harness)
    assert harness.directory.stat().st_mode & 0o777 == 0o700
    for path in (harness.directory / "w-1", *(harness.directory / "w-1").iterdir()):
        assert path.stat().st_mode & 0o077 == 0, path.name


async def test_listing_does_not_disturb_a_start_under_way(build: Build) -> None:
    harness = build()
    await harness.open()
    task = asyncio.create_task(harness.engine.start(harness.spec(1)))
    while not task.done():
        for worker in await harness.engine.list_workers():
            assert worker.exit is None
        await asyncio.sleep(0)
    await harness.settle_healthy(await task)
    assert harness.changes == []


async def test_a_reused_pid_is_neither_adopted_nor_killed(build: Build) -> None:
    harness = build()
    await harness.open()
    with subprocess.Popen(["sleep", "600"]) as stranger:
        ticks = start_ticks(stranger.pid)
        assert ticks is not None
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        for n, (seen_ticks, seen_boot) in enumerate([(ticks - 1, boot), (ticks, "an-earlier-boot")], start=1):
            path = Directory(harness.directory).create(spec_record(harness.spec(n), 1_024, harness.now()))
            (path / "shim.json").write_text(
                f'{{"shim_pid": {stranger.pid}, "shim_ticks": {seen_ticks}, "boot_id": "{seen_boot}",'
                f' "model_pid": {stranger.pid}, "model_ticks": {seen_ticks}, "started_ns": 5}}'
            )
        reused, rebooted = await harness.engine.list_workers()
        for worker in (reused, rebooted):
            assert worker.exit is not None
            assert (worker.exit.cause, worker.exit.at_ns) == (ExitCause.VANISHED, None)
            assert await harness.engine.stop(worker.worker_id, grace_s=0) == worker.exit
        assert rebooted.exit is not None
        assert "restarted" in rebooted.exit.detail
        assert stranger.poll() is None, "a stranger was killed"
        stranger.kill()


async def test_a_record_whose_making_is_cut_short_is_none(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a SIGKILL between its directory and its specification: nothing has been started, and nothing stays."""
    harness = build()
    await harness.open()

    def killed(_path: Path, _document: object) -> None:
        raise KeyboardInterrupt

    files = Directory(harness.directory)
    spec = spec_record(harness.spec(1), 1_024, harness.now())
    with monkeypatch.context() as patch:
        patch.setattr("orchestrator.engine.process_files.write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            files.create(spec)
    assert await harness.engine.list_workers() == []
    assert "damaged" not in (await harness.engine.probe()).detail
    files.prepare()
    assert list(harness.directory.iterdir()) == []


async def test_a_record_is_made_once_and_whole_or_not_at_all(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    harness = build()
    files = Directory(harness.directory)
    spec = spec_record(harness.spec(1), 1_024, harness.now())

    def full(_path: Path, _document: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("orchestrator.engine.process_files.write_json", full)
        with pytest.raises(OSError, match="No space"):
            files.create(spec)
    assert list(harness.directory.iterdir()) == []
    path = files.create(spec)
    with pytest.raises(FileExistsError):
        files.create(spec)
    assert list(harness.directory.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o700
    assert files.spec(spec.worker_id) == spec


async def test_damaged_records_are_reported_and_not_fatal(build: Build) -> None:
    harness = build()
    good = await begin(harness)
    root = harness.directory
    for name, files in {
        "empty": {},
        "garbage": {"spec.json": b"\x00\xff not json"},
        "partial": {"spec.json": (root / "w-1" / "spec.json").read_bytes()[:40]},
        "impostor": {"spec.json": (root / "w-1" / "spec.json").read_bytes()},
    }.items():
        (root / name).mkdir()
        for file, text in files.items():
            (root / name / file).write_bytes(text)
    (root / "a-file").write_text("")
    assert [facts(w) for w in await harness.engine.list_workers()] == [facts(good)]
    view = await harness.engine.probe()
    assert view.ok
    for name in ("empty", "garbage", "partial", "impostor"):
        assert f"record {name} is damaged" in view.detail
        assert await harness.engine.inspect(name) is None
    with pytest.raises(EngineError) as refusal:
        await harness.engine.start(replace(harness.spec(1), worker_id="garbage"))
    assert refusal.value.fault is Fault.NAME_CONFLICT
    for name in ("empty", "garbage", "partial", "impostor"):
        await harness.engine.remove(name)
        assert not (root / name).exists()
    assert "damaged" not in (await harness.engine.probe()).detail
    (root / "a-file").unlink()


async def test_a_damaged_supervisor_record_never_hides_a_running_model(build: Build) -> None:
    harness = build()
    worker = await begin(harness)
    (harness.directory / "w-1" / "shim.json").write_bytes(b'{"shim_pid": ')
    await harness.reopen()
    seen = await inspected(harness)
    assert seen.exit is not None, "what is reported as ended ..."
    await until(lambda: not exists(int(worker.engine_ref)), what="... is not running")


async def test_damaged_evidence_counts_as_none(build: Build) -> None:
    harness = build()
    await begin(harness)
    (harness.directory / "w-1" / "exit.json").write_bytes(b'{"cause": "cl')
    assert (await inspected(harness)).exit is None, "its supervisor lives, so it runs"
    os.kill(harness.pids("w-1")["shim_pid"], signal.SIGKILL)
    assert (await evidence(harness, "w-1")).cause is ExitCause.VANISHED
    told = exits(harness, "w-1")[0]
    await harness.reopen()
    assert (await inspected(harness)).exit == told, "the damage is mended: the next orchestrator reads the same"


async def test_workers_of_another_instance_are_not_ours(build: Build) -> None:
    harness = build()
    await begin(harness)
    other = harness.fresh("another-instance")
    await other.open(lambda worker_id, exit_: None)
    assert await other.list_workers() == []
    assert await other.inspect("w-1") is None
    assert await other.stop("w-1", grace_s=0) is None
    await other.remove("w-1")
    with pytest.raises(EngineError) as refusal:
        await other.start(harness.spec(1))
    assert refusal.value.fault is Fault.REFUSED
    await other.close()
    assert (await inspected(harness)).exit is None


async def test_a_models_command_gets_the_endpoints_variables_and_no_secret(build: Build) -> None:
    harness = build()
    harness.process = ("{python}", "-c", "print('{GREETING}')", "{A_TOKEN}")
    await harness.open()
    for env, fault in (({"GREETING": "hi"}, Fault.REFUSED), ({"A_TOKEN": CANARY}, Fault.MODEL_UNSUPPORTED)):
        with pytest.raises(EngineError) as refusal:
            await harness.engine.start(harness.spec(1, env=env))
        assert refusal.value.fault is fault
        assert refusal.value.message.startswith("env.A_TOKEN: ")
    assert await harness.engine.list_workers() == []
    harness.process = harness.process[:-1]
    await harness.engine.start(harness.spec(1, env={"GREETING": "hello there"}))
    assert (await evidence(harness, "w-1")).log[-1] == "hello there"


@pytest.mark.parametrize("worker_id", ["../outside", "", ".hidden", "a/b", "x\0y"])
async def test_an_id_that_is_no_name_reaches_no_file(build: Build, worker_id: str) -> None:
    harness = build()
    await harness.open()
    assert await harness.engine.inspect(worker_id) is None
    assert await harness.engine.stop(worker_id, grace_s=0) is None
    await harness.engine.remove(worker_id)
    with pytest.raises(EngineError) as refusal:
        await harness.engine.start(replace(harness.spec(1), worker_id=worker_id))
    assert refusal.value.fault is Fault.REFUSED


async def test_a_running_worker_cannot_be_removed(build: Build) -> None:
    harness = build()
    await begin(harness)
    with pytest.raises(EngineError) as refusal:
        await harness.engine.remove("w-1")
    assert refusal.value.fault is Fault.REFUSED
    assert (await inspected(harness)).exit is None


async def test_a_record_removed_by_hand_is_worth_a_relist(build: Build) -> None:
    harness = build()
    await begin(harness)
    model = harness.pids("w-1")["model_pid"]
    shutil.rmtree(harness.directory / "w-1")
    assert await harness.engine.inspect("w-1") is None
    os.kill(model, signal.SIGKILL)
    await until(lambda: harness.changes)
    assert harness.changes == [("w-1", None)]


async def test_a_paused_model_is_seen(build: Build) -> None:
    harness = build()
    worker = await begin(harness)
    os.kill(int(worker.engine_ref), signal.SIGSTOP)
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + 60
    while not (await inspected(harness)).paused:
        assert loop.time() < deadline_s
    os.kill(int(worker.engine_ref), signal.SIGCONT)


async def test_without_pidfd_the_end_is_found_by_polling(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    harness = build()
    await begin(harness)
    await harness.crash("w-1", "sigkill")
    assert (await evidence(harness, "w-1")).code == 137
    second = await harness.engine.start(harness.spec(2))
    end = await harness.engine.stop(second.worker_id, grace_s=2)
    assert end is not None
    assert end.at_ns is not None
