"""What every worker engine must do, run alike against virtual, process and docker (design.md section 2).

An engine joins by a module `tests/engine/<name>_harness.py` with two functions:

    def missing() -> str | None                         # why it cannot run here (the reason of the skip), else None
    async def open_harness(tmp_path: Path) -> Harness   # a harness whose engine is open and whose world is empty

The models a harness starts speak the demonstration worker's language (orchestrator/worker, `echo`): GET /health answers
503 for ECHO_STARTUP_S seconds and then 200, at least one line is written to the log, SIGTERM ends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

import pytest

from orchestrator.core.workload import Exit, ExitCause, Observed, WorkerSpec
from orchestrator.engine.ports import EngineError, Fault, WorkerEngine
from tests.waiting import until

How = Literal["exit3", "sigkill", "oom"]


class Harness(Protocol):
    """One engine and the world it works in."""

    engine: WorkerEngine
    """Open: its on_change appends to `changes`. Replaced by `reopen`."""
    changes: list[tuple[str, Exit | None]]
    """What on_change was called with since the last (re)open, oldest first."""

    def spec(
        self, n: int, *, startup_s: float = 0.0, memory_bytes: int = 512 * 1024**2, runnable: bool = True
    ) -> WorkerSpec:
        """The n-th worker, the same value each time. `runnable` False names a model this engine has no way to run."""
        ...

    async def settle_healthy(self, worker: Observed) -> None:
        """Return once `worker` is healthy; fail when it takes unreasonably long."""
        ...

    async def crash(self, worker_id: str, how: How) -> None:
        """Make a healthy worker end: exit code 3, SIGKILL from outside, or by growing above its memory limit."""
        ...

    async def reopen(self, away: Callable[[], Awaitable[object]] | None = None) -> None:
        """Close the engine, await `away()` while nobody watches, open a fresh engine object over the same world."""
        ...

    async def leftovers(self) -> list[str]:
        """Processes, containers and records of this world that still exist, by name; running or not."""
        ...

    async def close(self) -> None:
        """Close the engine and remove by force whatever a failed test left."""
        ...


async def clean_up(harness: Harness) -> list[str]:
    """End and remove everything through the engine itself; what then remains is a leak."""
    for worker in await harness.engine.list_workers():
        await harness.engine.stop(worker.worker_id, grace_s=2.0)
        await harness.engine.remove(worker.worker_id)
    return await harness.leftovers()


def exits(harness: Harness, worker_id: str) -> list[Exit]:
    return [exit_ for changed, exit_ in harness.changes if changed == worker_id and exit_ is not None]


async def evidence(harness: Harness, worker_id: str) -> Exit:
    """The exit that on_change reports for a worker."""
    await until(lambda: exits(harness, worker_id), what=f"on_change with the exit of {worker_id}")
    return exits(harness, worker_id)[0]


async def started(harness: Harness, n: int = 1, **overrides: float) -> Observed:
    """Worker n, started and healthy."""
    worker = await harness.engine.start(harness.spec(n, **overrides))  # type: ignore[arg-type]
    await harness.settle_healthy(worker)
    return worker


def facts(worker: Observed) -> tuple[object, ...]:
    """What must stay the same as long as the worker lives."""
    return (
        worker.worker_id,
        worker.engine_ref,
        worker.endpoint,
        worker.interval_id,
        worker.host,
        worker.port,
        worker.created_ns,
        worker.started_ns,
    )


class EngineSuite:
    """Subclass as `Test...` beside a fixture `harness`."""

    async def test_a_usable_engine_says_so(self, harness: Harness) -> None:
        view = await harness.engine.probe()
        assert view.ok
        assert view.kind is harness.engine.kind
        assert view.detail

    async def test_a_started_worker_carries_its_identity(self, harness: Harness) -> None:
        spec = harness.spec(1)
        worker = await harness.engine.start(spec)
        assert (worker.worker_id, worker.endpoint, worker.interval_id) == ("w-1", spec.endpoint, spec.interval_id)
        assert worker.engine_ref
        assert worker.host == "127.0.0.1"
        assert worker.port is not None
        assert worker.started_ns is not None
        assert worker.started_ns >= worker.created_ns > 0
        assert worker.exit is None
        assert not worker.paused

    async def test_start_again_returns_the_running_worker(self, harness: Harness) -> None:
        spec = harness.spec(1)
        first = await harness.engine.start(spec)
        second = await harness.engine.start(spec)
        assert facts(first) == facts(second)
        assert len(await harness.engine.list_workers()) == 1

    async def test_two_starts_at_once_make_one_worker(self, harness: Harness) -> None:
        spec = harness.spec(1)
        first, second = await asyncio.gather(harness.engine.start(spec), harness.engine.start(spec))
        assert facts(first) == facts(second)
        assert len(await harness.engine.list_workers()) == 1

    async def test_health_is_false_while_loading_then_true(self, harness: Harness) -> None:
        worker = await harness.engine.start(harness.spec(1, startup_s=3.0))
        assert not await harness.engine.healthy(worker, "/health", timeout_s=2.0)
        await harness.settle_healthy(worker)
        assert await harness.engine.healthy(worker, "/health", timeout_s=30.0)

    async def test_list_and_inspect_agree(self, harness: Harness) -> None:
        for n in (1, 2):
            await harness.engine.start(harness.spec(n))
        listed = {worker.worker_id: worker for worker in await harness.engine.list_workers()}
        assert set(listed) == {"w-1", "w-2"}
        for worker_id, worker in listed.items():
            seen = await harness.engine.inspect(worker_id)
            assert seen is not None
            assert facts(seen) == facts(worker)

    async def test_stop_returns_the_evidence_and_may_be_repeated(self, harness: Harness) -> None:
        worker = await started(harness)
        first = await harness.engine.stop(worker.worker_id, grace_s=5.0)
        assert first is not None
        assert first.cause in {ExitCause.CLEAN, ExitCause.ERROR, ExitCause.SIGNAL}
        assert first.at_ns is not None
        assert worker.started_ns is not None
        assert first.at_ns >= worker.started_ns
        assert first.detail
        second = await harness.engine.stop(worker.worker_id, grace_s=5.0)
        assert second is not None
        assert second.at_ns == first.at_ns
        seen = await harness.engine.inspect(worker.worker_id)
        assert seen is not None
        assert seen.exit is not None
        assert seen.exit.at_ns == first.at_ns

    async def test_what_ended_stays_listed_until_it_is_removed(self, harness: Harness) -> None:
        worker = await started(harness)
        await harness.engine.stop(worker.worker_id, grace_s=5.0)
        assert [w.worker_id for w in await harness.engine.list_workers()] == [worker.worker_id]
        await harness.engine.remove(worker.worker_id)
        assert await harness.engine.list_workers() == []
        assert await harness.engine.inspect(worker.worker_id) is None
        await harness.engine.remove(worker.worker_id)

    async def test_nothing_is_known_of_an_unknown_worker(self, harness: Harness) -> None:
        assert await harness.engine.inspect("w-404") is None
        assert await harness.engine.stop("w-404", grace_s=0.0) is None
        await harness.engine.remove("w-404")
        with pytest.raises(KeyError):
            await harness.engine.logs("w-404", tail=5)

    async def test_an_exit_code_is_reported_with_the_log(self, harness: Harness) -> None:
        worker = await started(harness)
        await harness.crash(worker.worker_id, "exit3")
        end = await evidence(harness, worker.worker_id)
        assert (end.cause, end.code) == (ExitCause.ERROR, 3)
        assert end.at_ns is not None
        assert end.log, "the last lines the worker wrote"

    async def test_a_kill_is_reported_as_a_signal(self, harness: Harness) -> None:
        worker = await started(harness)
        await harness.crash(worker.worker_id, "sigkill")
        end = await evidence(harness, worker.worker_id)
        assert (end.cause, end.code) == (ExitCause.SIGNAL, 137)

    async def test_growth_above_the_limit_is_reported_as_oom(self, harness: Harness) -> None:
        worker = await started(harness, memory_bytes=256 * 1024**2)
        await harness.crash(worker.worker_id, "oom")
        assert (await evidence(harness, worker.worker_id)).cause is ExitCause.OOM
        seen = await harness.engine.inspect(worker.worker_id)
        assert seen is not None
        assert seen.exit is not None
        assert seen.exit.cause is ExitCause.OOM

    async def test_a_fresh_engine_finds_the_same_workers(self, harness: Harness) -> None:
        before = [await started(harness, n) for n in (1, 2)]
        await harness.reopen()
        after = sorted(await harness.engine.list_workers(), key=lambda w: w.worker_id)
        assert [facts(w) for w in after] == [facts(w) for w in before]
        assert all(w.exit is None for w in after)
        assert await harness.engine.healthy(after[0], "/health", timeout_s=30.0)
        again = await harness.engine.start(harness.spec(1))
        assert facts(again) == facts(before[0]), "a start repeated after a restart makes no twin"

    async def test_the_end_of_an_adopted_worker_is_noticed(self, harness: Harness) -> None:
        worker = await started(harness)
        await harness.reopen()
        await harness.crash(worker.worker_id, "exit3")
        assert (await evidence(harness, worker.worker_id)).code == 3

    async def test_an_end_that_nobody_watched_keeps_its_evidence(self, harness: Harness) -> None:
        worker = await started(harness)
        await harness.reopen(away=lambda: harness.crash(worker.worker_id, "exit3"))
        seen: Observed | None = None
        async with asyncio.timeout(60):
            while seen is None or seen.exit is None:
                seen = await harness.engine.inspect(worker.worker_id)
                await asyncio.sleep(0.05)
        assert (seen.exit.cause, seen.exit.code) == (ExitCause.ERROR, 3)
        assert seen.exit.at_ns is not None

    async def test_an_adopted_worker_can_be_stopped(self, harness: Harness) -> None:
        worker = await started(harness)
        await harness.reopen()
        end = await harness.engine.stop(worker.worker_id, grace_s=5.0)
        assert end is not None
        assert end.at_ns is not None

    async def test_a_model_the_engine_cannot_run_is_refused(self, harness: Harness) -> None:
        with pytest.raises(EngineError) as refusal:
            await harness.engine.start(harness.spec(1, runnable=False))
        assert refusal.value.fault is Fault.MODEL_UNSUPPORTED
        assert harness.spec(1).model.name in refusal.value.message
        assert await harness.engine.list_workers() == []

    async def test_logs_give_the_newest_lines(self, harness: Harness) -> None:
        worker = await started(harness)
        async with asyncio.timeout(60):  # the worker writes at least one line
            while not await harness.engine.logs(worker.worker_id, tail=1_000):
                await asyncio.sleep(0.05)
        await harness.engine.stop(worker.worker_id, grace_s=5.0)
        lines = await harness.engine.logs(worker.worker_id, tail=1_000)
        assert await harness.engine.logs(worker.worker_id, tail=1) == lines[-1:]
        assert await harness.engine.logs(worker.worker_id, tail=0) == []

    async def test_a_worker_killed_on_purpose_ends_as_by_anybody(self, harness: Harness) -> None:
        worker = await started(harness)
        await harness.engine.kill(worker.worker_id)
        end = await evidence(harness, worker.worker_id)
        assert (end.cause, end.code) == (ExitCause.SIGNAL, 137)
        with pytest.raises(KeyError):
            await harness.engine.kill(worker.worker_id)

    async def test_a_frozen_worker_answers_nothing_and_goes_on_when_it_is_let(self, harness: Harness) -> None:
        worker = await started(harness)
        for _ in range(2):
            await harness.engine.freeze(worker.worker_id, on=True)
        assert not await harness.engine.healthy(worker, "/health", timeout_s=0.3)
        seen = await harness.engine.inspect(worker.worker_id)
        assert seen is not None
        assert seen.paused
        assert seen.exit is None
        await harness.engine.freeze(worker.worker_id, on=False)
        await harness.settle_healthy(worker)

    async def test_a_frozen_worker_can_be_stopped(self, harness: Harness) -> None:
        worker = await started(harness)
        await harness.engine.freeze(worker.worker_id, on=True)
        end = await harness.engine.stop(worker.worker_id, grace_s=1.0)
        assert end is not None

    async def test_a_squeezed_worker_dies_of_its_memory_limit(self, harness: Harness) -> None:
        worker = await started(harness)
        await harness.engine.squeeze(worker.worker_id)
        assert (await evidence(harness, worker.worker_id)).cause is ExitCause.OOM

    async def test_nothing_can_be_done_to_an_unknown_worker(self, harness: Harness) -> None:
        with pytest.raises(KeyError):
            await harness.engine.kill("w-404")
        with pytest.raises(KeyError):
            await harness.engine.freeze("w-404", on=True)
        with pytest.raises(KeyError):
            await harness.engine.squeeze("w-404")

    async def test_a_closed_engine_leaves_its_workers_alone(self, harness: Harness) -> None:
        worker = await started(harness)
        await harness.engine.close()
        await harness.engine.close()
        await harness.reopen()
        seen = await harness.engine.inspect(worker.worker_id)
        assert seen is not None
        assert facts(seen) == facts(worker)
        assert seen.exit is None
