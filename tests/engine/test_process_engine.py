"""What only the process engine must do: supervision, the lease, records on disk (reliability.md sections 3.1, 3.5)."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from orchestrator.core.workload import ExitCause, Observed
from orchestrator.engine import process_engine
from orchestrator.engine.ports import EngineError, EngineUnavailable, Fault
from orchestrator.engine.process_files import Directory
from orchestrator.engine.process_record import spec_record
from orchestrator.engine.shim import LOG_BYTES_MAX, memory_bytes, start_ticks
from tests.engine.process_harness import ProcessHarness
from tests.engine.suite import clean_up, evidence, exits, facts
from tests.waiting import until

STAND_IN = str(Path(__file__).with_name("stand_in.py"))
MIB = 1024 * 1024
CANARY = "canary-5d1f"

Build = Callable[..., ProcessHarness]


def mode(name: str) -> tuple[str, ...]:
    return ("{python}", "-I", "-S", STAND_IN, "{port}", name)


def exists(pid: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def environ(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_text().rstrip("\0").split("\0")
    return dict(pair.split("=", 1) for pair in pairs)


@pytest.fixture
async def build(tmp_path: Path) -> AsyncIterator[Build]:
    """Makes the test's harness; afterwards nothing of it may be left."""
    made: list[ProcessHarness] = []

    def make(name: str = "serve", **options: float) -> ProcessHarness:
        made.append(ProcessHarness(tmp_path, process=mode(name), **options))  # type: ignore[arg-type]
        return made[-1]

    try:
        yield make
        for harness in made:
            assert await clean_up(harness) == []
    finally:
        for harness in made:
            await harness.close()


async def begin(harness: ProcessHarness, **overrides: object) -> Observed:
    await harness.open()
    worker = await harness.engine.start(harness.spec(1, **overrides))  # type: ignore[arg-type]
    await harness.settle_healthy(worker)
    return worker


async def inspected(harness: ProcessHarness, worker_id: str = "w-1") -> Observed:
    worker = await harness.engine.inspect(worker_id)
    assert worker is not None
    return worker


async def test_a_killed_model_leaves_evidence(build: Build) -> None:
    harness = build()
    worker = await begin(harness)
    before_ns = harness.now()
    os.kill(int(worker.engine_ref), signal.SIGKILL)
    end = await evidence(harness, "w-1")
    assert (end.cause, end.code) == (ExitCause.SIGNAL, 137)
    assert end.at_ns is not None
    assert before_ns - 50_000_000 <= end.at_ns <= harness.now()
    assert "signal 9" in end.detail
    assert end.log == ("stand-in starts",)


async def test_a_model_dies_with_its_supervisor_and_so_do_its_children(build: Build) -> None:
    harness = build("family")
    worker = await begin(harness)
    assert len(harness.processes()) == 3
    before_ns = harness.now()
    os.kill(harness.pids("w-1")["shim_pid"], signal.SIGKILL)
    end = await evidence(harness, "w-1")
    assert (end.cause, end.code) == (ExitCause.VANISHED, None)
    assert end.at_ns is not None
    assert end.at_ns >= before_ns, "it was watched, so the instant is known"
    await until(lambda: not exists(int(worker.engine_ref)))
    await until(lambda: not harness.processes())
    assert (await inspected(harness)).exit == end


async def test_a_supervisor_lost_while_nobody_watched_has_no_instant(build: Build) -> None:
    harness = build()
    await begin(harness)

    async def kill() -> None:
        os.kill(harness.pids("w-1")["shim_pid"], signal.SIGKILL)
        await until(lambda: not exists(harness.pids("w-1")["model_pid"]), what="the kernel to end the model")

    await harness.reopen(away=kill)
    end = (await inspected(harness)).exit
    assert end is not None
    assert (end.cause, end.at_ns) == (ExitCause.VANISHED, None)


async def test_children_that_left_the_group_end_with_the_model(build: Build) -> None:
    harness = build("family")
    await begin(harness)
    assert len(harness.processes()) == 3
    await harness.crash("w-1", "sigkill")
    await evidence(harness, "w-1")
    await until(lambda: not harness.processes(), timeout_s=2)


async def test_a_free_lease_ends_the_worker_and_a_held_one_does_not(build: Build) -> None:
    harness = build(lease_grace_s=0.3)
    await begin(harness)
    harness.lease.unlink()  # the data directory is lost, the orchestrator is not: its lock still counts
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    await until(lambda: loop.time() > begun_s + 1.0)
    assert (await inspected(harness)).exit is None
    harness.release_lease()
    end = await evidence(harness, "w-1")
    assert end.cause is not ExitCause.OOM
    assert "no orchestrator has been running for 0.3 s" in end.detail


async def test_the_lease_of_a_new_orchestrator_counts(build: Build) -> None:
    harness = build(lease_grace_s=0.3)
    await begin(harness)
    harness.lease.unlink()
    code = (
        "import fcntl,os,sys; fd=os.open(sys.argv[1], os.O_RDWR|os.O_CREAT); fcntl.flock(fd, fcntl.LOCK_EX);"
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code, str(harness.lease)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as successor:
        assert successor.stdout is not None
        assert await asyncio.to_thread(successor.stdout.readline) == b"held\n"
        harness.release_lease()
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        await until(lambda: loop.time() > begun_s + 1.0)
        assert (await inspected(harness)).exit is None
        successor.kill()
        await evidence(harness, "w-1")


async def test_the_memory_of_a_whole_family_counts(build: Build) -> None:
    harness = build("spread")
    await harness.open()
    await harness.engine.start(harness.spec(1, memory_bytes=180 * MIB))
    end = await evidence(harness, "w-1")
    assert end.cause is ExitCause.OOM
    assert "the limit is 180 MiB" in end.detail


async def test_memory_shared_after_a_fork_counts_once(build: Build) -> None:
    harness = build("shared")
    worker = await begin(harness)
    await until(lambda: len(harness.processes()) == 5)
    family = [pid for pid in harness.processes() if pid != harness.pids("w-1")["shim_pid"]]
    assert int(worker.engine_ref) in family
    assert memory_bytes(family, limit=10**12) > 300 * MIB, "the cheap sum"
    assert 120 * MIB < memory_bytes(family, limit=0) < 200 * MIB, "the exact one"


async def test_a_stubborn_model_is_killed_after_its_grace(build: Build) -> None:
    harness = build("stubborn")
    worker = await begin(harness)
    end = await harness.engine.stop("w-1", grace_s=0.3)
    assert end is not None
    assert (end.cause, end.code) == (ExitCause.SIGNAL, 137)
    assert end.detail.startswith("stopped on request; killed")
    assert worker.started_ns is not None
    assert end.at_ns is not None
    assert end.at_ns - worker.started_ns > 300_000_000


async def test_a_second_stop_can_shorten_the_grace(build: Build) -> None:
    harness = build("stubborn")
    await begin(harness)
    patient = asyncio.create_task(harness.engine.stop("w-1", grace_s=600))
    log = harness.directory / "w-1" / "log"
    await until(lambda: b"SIGTERM" in log.read_bytes())
    other = asyncio.create_task(harness.engine.stop("w-1", grace_s=0.4))
    ends = await asyncio.wait_for(asyncio.gather(patient, other), timeout=15)
    assert ends[0] is not None
    assert ends[0] == ends[1]
    assert ends[0].log.count("SIGTERM") == 1, "a second one makes many servers drop their requests"


async def test_a_supervisor_that_hangs_is_killed_with_its_model(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_engine, "STOP_MARGIN_S", 0.3)
    harness = build()
    worker = await begin(harness)
    os.kill(harness.pids("w-1")["shim_pid"], signal.SIGSTOP)
    end = await harness.engine.stop("w-1", grace_s=0)
    assert end is not None
    assert (end.cause, end.code) == (ExitCause.SIGNAL, 137)
    assert "supervisor" in end.detail
    await until(lambda: not exists(int(worker.engine_ref)))


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


async def test_the_supervisor_is_small_and_idle(build: Build) -> None:
    harness = build()
    await begin(harness)
    status = Path(f"/proc/{harness.pids('w-1')['shim_pid']}/status").read_text()
    resident_kib = int(status.split("VmRSS:")[1].split()[0])
    assert resident_kib < 20 * 1024
    assert status.split("Threads:")[1].split()[0] == "1"


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


async def test_an_orchestrator_killed_while_starting_leaves_no_model(build: Build) -> None:
    """reliability.md O1: the supervisor is there, the plan never came."""
    harness = build()
    spec = harness.spec(1)
    path = Directory(harness.directory).create(spec_record(spec, 1_024, harness.now()))
    shim = Path(process_engine.__file__).with_name("shim.py")
    with subprocess.Popen(
        [sys.executable, "-I", "-S", str(shim), str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline)
        assert harness.processes()
    await until(lambda: not harness.processes())
    await harness.open()
    seen = await inspected(harness)
    assert seen.started_ns is None
    assert seen.exit is not None
    assert (seen.exit.cause, seen.exit.at_ns) == (ExitCause.VANISHED, None)
    assert "never started" in seen.exit.detail


async def test_workers_survive_a_killed_orchestrator(build: Build) -> None:
    """reliability.md O3: SIGKILL, then adoption with the same facts."""
    harness = build()
    code = f"""
import asyncio, pathlib, sys
from tests.engine.process_harness import ProcessHarness
async def main():
    harness = ProcessHarness.__new__(ProcessHarness)
    harness.directory, harness.lease = map(pathlib.Path, sys.argv[1:3])
    harness.instance, harness.lease_grace_s, harness.changes = sys.argv[3], 60.0, []
    harness.process = {mode("serve")!r}
    from orchestrator.clock import system_now
    harness.now = system_now()
    harness.engine = harness.fresh()
    await harness.open()
    print(await harness.engine.start(harness.spec(1)), flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(harness.directory), str(harness.lease), harness.instance],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    ) as orchestrator:
        assert orchestrator.stdout is not None
        line = await asyncio.to_thread(orchestrator.stdout.readline)
        orchestrator.kill()
    await harness.open()
    worker = await inspected(harness)
    assert worker.exit is None
    assert line.decode().strip() == repr(worker)
    await harness.settle_healthy(worker)
    await harness.crash("w-1", "sigkill")
    assert (await evidence(harness, "w-1")).code == 137


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
        await harness.engine.start(harness.spec(1).__class__(**_fields(harness, "garbage")))
    assert refusal.value.fault is Fault.NAME_CONFLICT
    for name in ("empty", "garbage", "partial", "impostor"):
        await harness.engine.remove(name)
        assert not (root / name).exists()
    assert "damaged" not in (await harness.engine.probe()).detail
    (root / "a-file").unlink()


def _fields(harness: ProcessHarness, worker_id: str) -> dict[str, object]:
    spec = harness.spec(1)
    return {name: getattr(spec, name) for name in spec.__dataclass_fields__} | {"worker_id": worker_id}


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


@pytest.mark.parametrize("worker_id", ["../outside", "", ".hidden", "a/b", "x\0y"])
async def test_an_id_that_is_no_name_reaches_no_file(build: Build, worker_id: str) -> None:
    harness = build()
    await harness.open()
    assert await harness.engine.inspect(worker_id) is None
    assert await harness.engine.stop(worker_id, grace_s=0) is None
    await harness.engine.remove(worker_id)
    with pytest.raises(EngineError) as refusal:
        await harness.engine.start(harness.spec(1).__class__(**_fields(harness, worker_id)))  # type: ignore[arg-type]
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
    deadline_s = loop.time() + 10
    while not (await inspected(harness)).paused:
        assert loop.time() < deadline_s
    os.kill(int(worker.engine_ref), signal.SIGCONT)


async def test_the_log_is_capped_and_read_across_its_parts(build: Build) -> None:
    harness = build("chatty")
    await begin(harness, env={"CHATTY_MB": "21"})
    path = harness.directory / "w-1"
    sizes = [(path / name).stat().st_size for name in ("log", "log.1")]
    assert max(sizes) < LOG_BYTES_MAX + 256 * 1024
    lines = await harness.engine.logs("w-1", tail=3_000)
    assert len(lines) == 3_000
    assert lines[-1] == "last line"
    numbers = [int(line.split()[0]) for line in lines[:-1]]
    assert numbers == list(range(21_000 - 2_999, 21_000))
    assert sizes[0] < 3_000 * 1_000, "the lines asked for reach into the older part"


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
