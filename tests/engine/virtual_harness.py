"""The virtual engine under the engine suite: a clock that moves when it is waited on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from orchestrator.core.catalogue import Model
from orchestrator.core.workload import Exit, ExitCause, GpuGrant, Observed, WorkerSpec
from orchestrator.engine.virtual import VirtualEngine, VirtualWorld
from tests.engine.suite import How

INSTANCE = "test-virtual"


def missing() -> str | None:
    return None


async def open_harness(tmp_path: Path) -> VirtualHarness:
    harness = VirtualHarness()
    await harness.engine.open(lambda worker_id, exit_: harness.changes.append((worker_id, exit_)))
    return harness


class VirtualHarness:
    def __init__(self) -> None:
        self.now_ns = 1_700_000_000_000_000_000
        self.world = VirtualWorld()
        self.changes: list[tuple[str, Exit | None]] = []
        self.engine = self._fresh()

    def _fresh(self) -> VirtualEngine:
        return VirtualEngine(
            INSTANCE,
            lambda: self.now_ns,
            cold_start_s=lambda spec: float(spec.env["ECHO_STARTUP_S"]),
            world=self.world,
        )

    def spec(
        self, n: int, *, startup_s: float = 0.0, memory_bytes: int = 512 * 1024**2, runnable: bool = True
    ) -> WorkerSpec:
        model = Model(
            name="echo",
            title="Echo",
            summary="",
            kind="echo",
            image="gpudeck-worker" if runnable else None,
            memory_bytes=memory_bytes,
        )
        return WorkerSpec(
            worker_id=f"w-{n}",
            name=f"gpudeck-demo-{n}",
            instance=INSTANCE,
            endpoint="demo",
            interval_id=f"i-{n}",
            generation=1,
            model=model,
            gpu=GpuGrant(uuid=f"SIM-{n}", index=n, type="L40", simulated=True),
            env={"ECHO_STARTUP_S": str(startup_s)},
        )

    async def settle_healthy(self, worker: Observed) -> None:
        for _ in range(100):
            if await self.engine.healthy(worker, "/health", timeout_s=1.0):
                return
            self.now_ns += 100_000_000
        raise AssertionError(f"{worker.worker_id} is not healthy after 10 virtual seconds")

    async def crash(self, worker_id: str, how: How) -> None:
        self.now_ns += 1_000_000
        cause, code = {
            "exit3": (ExitCause.ERROR, 3),
            "sigkill": (ExitCause.SIGNAL, 137),
            "oom": (ExitCause.OOM, 137),
        }[how]
        self.engine.exit(worker_id, Exit(cause, code, self.now_ns, f"crashed by the test: {how}"))

    async def reopen(self, away: Callable[[], Awaitable[object]] | None = None) -> None:
        await self.engine.close()
        if away is not None:
            await away()
        self.changes.clear()
        self.engine = self._fresh()
        await self.engine.open(lambda worker_id, exit_: self.changes.append((worker_id, exit_)))

    async def leftovers(self) -> list[str]:
        return list(self.world.workers)

    async def close(self) -> None:
        await self.engine.close()
        self.world.workers.clear()
