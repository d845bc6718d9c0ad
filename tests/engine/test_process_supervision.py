"""The supervisor of a worker: what dies with whom, the lease, memory, grace, the log (reliability.md section 3.1)."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.core.workload import ExitCause
from orchestrator.engine import process_engine
from orchestrator.engine.process_files import Directory
from orchestrator.engine.process_record import spec_record
from orchestrator.engine.process_table import is_alive
from orchestrator.engine.shim import LOG_BYTES_MAX, memory_bytes
from tests.engine.process_harness import Build, begin, building, exists, inspected, mode
from tests.engine.suite import evidence
from tests.waiting import until

MIB = 1024 * 1024


@pytest.fixture
async def build(tmp_path: Path) -> AsyncIterator[Build]:
    async with building(tmp_path) as make:
        yield make


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
    await until(lambda: not harness.processes())


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
    ends = await asyncio.wait_for(asyncio.gather(patient, other), timeout=60)
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


async def test_the_supervisor_is_small_and_idle(build: Build) -> None:
    harness = build()
    await begin(harness)
    status = Path(f"/proc/{harness.pids('w-1')['shim_pid']}/status").read_text()
    resident_kib = int(status.split("VmRSS:")[1].split()[0])
    assert resident_kib < 20 * 1024
    assert status.split("Threads:")[1].split()[0] == "1"


async def test_an_orchestrator_killed_while_starting_leaves_no_model(build: Build) -> None:
    """reliability.md O1: the supervisor is there, the plan never came."""
    harness = build()
    spec = harness.spec(1)
    directory = Directory(harness.directory)
    path = directory.create(spec_record(spec, 1_024, harness.now()))
    shim = Path(process_engine.__file__).with_name("shim.py")
    with subprocess.Popen(
        [sys.executable, "-I", "-S", str(shim), str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline)
        assert harness.processes()
    supervisor = directory.shim("w-1")
    assert supervisor is not None
    # Not by `processes`: what ends has given up its command line before it is gone.
    await until(lambda: not is_alive(supervisor.shim_pid, supervisor.shim_ticks))
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


async def test_the_log_is_capped_and_read_across_its_parts(build: Build) -> None:
    harness = build("chatty")
    await begin(harness, env={"CHATTY_MB": "21"})
    async with asyncio.timeout(60):  # it serves once all is in the pipe; the supervisor may have some of it to read
        while await harness.engine.logs("w-1", tail=1) != ["last line"]:
            await asyncio.sleep(0.02)
    path = harness.directory / "w-1"
    sizes = [(path / name).stat().st_size for name in ("log", "log.1")]
    assert max(sizes) < LOG_BYTES_MAX + 256 * 1024
    lines = await harness.engine.logs("w-1", tail=3_000)
    assert len(lines) == 3_000
    assert lines[-1] == "last line"
    numbers = [int(line.split()[0]) for line in lines[:-1]]
    assert numbers == list(range(21_000 - 2_999, 21_000))
    assert sizes[0] < 3_000 * 1_000, "the lines asked for reach into the older part"
