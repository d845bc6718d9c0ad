"""The process engine under the engine suite: the real demonstration worker, real processes, a lease held for real."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from orchestrator.clock import system_now
from orchestrator.core.catalogue import Model
from orchestrator.core.workload import Exit, GpuGrant, Observed, WorkerSpec
from orchestrator.engine.process_engine import ProcessEngine
from tests.engine.suite import How, clean_up
from tests.waiting import until

ECHO = ("{python}", "-m", "orchestrator.worker", "echo", "--host", "{host}", "--port", "{port}")
STAND_IN = str(Path(__file__).with_name("stand_in.py"))
HEALTHY_S = 60.0


def missing() -> str | None:
    return None if Path("/proc/self/stat").exists() else "needs /proc"


async def open_harness(tmp_path: Path) -> ProcessHarness:
    harness = ProcessHarness(tmp_path)
    await harness.open()
    return harness


class ProcessHarness:
    def __init__(self, tmp_path: Path, *, lease_grace_s: float = 60.0, process: tuple[str, ...] = ECHO) -> None:
        self.directory = tmp_path / "workers"
        self.instance = f"test-{tmp_path.name}"
        self.lease = tmp_path / "lease"
        self.lease_grace_s = lease_grace_s
        self.process = process
        self.now = system_now()
        self.changes: list[tuple[str, Exit | None]] = []
        self._held = os.open(self.lease, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._held, fcntl.LOCK_EX)
        self.engine = self.fresh()

    def fresh(self, instance: str | None = None) -> ProcessEngine:
        """Another engine object over the same directory, not opened."""
        return ProcessEngine(
            instance or self.instance, self.now, self.directory, self.lease, lease_grace_s=self.lease_grace_s
        )

    async def open(self) -> None:
        self.changes.clear()
        await self.engine.open(lambda worker_id, exit_: self.changes.append((worker_id, exit_)))

    def release_lease(self) -> None:
        """As when the orchestrator dies."""
        fcntl.flock(self._held, fcntl.LOCK_UN)

    def spec(
        self,
        n: int,
        *,
        startup_s: float = 0.0,
        memory_bytes: int = 512 * 1024**2,
        runnable: bool = True,
        env: dict[str, str] | None = None,
        simulated: bool = True,
    ) -> WorkerSpec:
        model = Model(
            name="echo",
            title="Echo",
            summary="",
            kind="echo",
            image="gpudeck-worker",
            process=self.process if runnable else None,
            memory_bytes=memory_bytes,
            stop_grace_s=2,
            env={"ECHO_STARTUP_S": str(startup_s)},
        )
        return WorkerSpec(
            worker_id=f"w-{n}",
            name=f"gpudeck-demo-{n}",
            instance=self.instance,
            endpoint="demo",
            interval_id=f"i-{n}",
            generation=1,
            model=model,
            gpu=GpuGrant(uuid=f"GPU-{n}", index=n, type="L40", simulated=simulated),
            env=env or {},
        )

    async def settle_healthy(self, worker: Observed) -> None:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + HEALTHY_S
        while not await self.engine.healthy(worker, "/health", timeout_s=2.0):
            seen = await self.engine.inspect(worker.worker_id)
            assert seen is not None
            assert seen.exit is None, seen.exit
            assert loop.time() < deadline_s, f"{worker.worker_id} is not healthy after {HEALTHY_S} s"
            await asyncio.sleep(0.02)

    async def crash(self, worker_id: str, how: How) -> None:
        if how == "sigkill":
            os.kill(self.pids(worker_id)["model_pid"], signal.SIGKILL)
        else:
            body = {"fail": "exit", "code": 3} if how == "exit3" else {"fail": "oom", "memory_mb": 1_024}
            await asyncio.to_thread(self.post, self.record(worker_id, "spec.json")["port"], body)

    @staticmethod
    def post(port: int, body: dict[str, object]) -> None:
        """Send and expect no answer: the worker dies of it."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/predict",
            data=json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            opener.open(request, timeout=30).close()
        except urllib.error.HTTPError as error:
            error.close()
            raise AssertionError(f"the worker answered {error.code}") from None
        except OSError:
            return  # the connection ended with the worker

    def record(self, worker_id: str, name: str) -> dict[str, int]:
        return dict(json.loads((self.directory / worker_id / name).read_bytes()))

    def pids(self, worker_id: str) -> dict[str, int]:
        return self.record(worker_id, "shim.json")

    async def reopen(self, away: Callable[[], Awaitable[object]] | None = None) -> None:
        await self.engine.close()
        if away is not None:
            await away()
        self.engine = self.fresh()
        await self.open()

    def processes(self) -> list[int]:
        """Every process of this world: supervisors by their argument, models and their children by environment."""
        found = []
        marks = {f"GPUDECK_INSTANCE={self.instance}".encode(), os.fsencode(self.directory)}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "environ").read_bytes().split(b"\0") + (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(word in marks or word.rpartition(b"/")[0] in marks for word in words):
                found.append(int(entry.name))
        return [pid for pid in found if pid != os.getpid()]

    async def leftovers(self) -> list[str]:
        try:
            await until(lambda: not self.processes(), timeout_s=30)
        except AssertionError:
            return [f"process {pid}" for pid in self.processes()]
        return sorted(str(entry.name) for entry in self.directory.iterdir())

    async def close(self) -> None:
        await self.engine.close()
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        os.close(self._held)


Build = Callable[..., ProcessHarness]
"""(mode of the stand-in, options of ProcessHarness) -> the test's harness, not opened."""


@asynccontextmanager
async def building(tmp_path: Path) -> AsyncIterator[Build]:
    """Makes harnesses whose model is the stand-in; afterwards nothing of them may be left."""
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


def mode(name: str) -> tuple[str, ...]:
    """argv of the stand-in in one of its modes."""
    return ("{python}", "-I", "-S", STAND_IN, "{port}", name)


async def begin(harness: ProcessHarness, **overrides: object) -> Observed:
    """Open the engine, start worker 1 and wait until it is healthy."""
    await harness.open()
    worker = await harness.engine.start(harness.spec(1, **overrides))  # type: ignore[arg-type]
    await harness.settle_healthy(worker)
    return worker


async def inspected(harness: ProcessHarness, worker_id: str = "w-1") -> Observed:
    worker = await harness.engine.inspect(worker_id)
    assert worker is not None
    return worker


def exists(pid: int) -> bool:
    """Does a process run under this pid? A zombie does not."""
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
