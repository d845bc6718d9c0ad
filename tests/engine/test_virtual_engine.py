"""The knobs of the virtual engine, by which faults are told in tests and in the simulator."""

from __future__ import annotations

import pytest

from orchestrator.core.workload import Exit, ExitCause
from orchestrator.engine.ports import EngineError, EngineUnavailable, Fault
from orchestrator.engine.virtual import VirtualEngine, VirtualWorld
from tests.engine.virtual_harness import INSTANCE, VirtualHarness

SECOND_NS = 1_000_000_000


@pytest.fixture
async def harness() -> VirtualHarness:
    made = VirtualHarness()
    await made.engine.open(lambda worker_id, exit_: made.changes.append((worker_id, exit_)))
    return made


async def test_health_follows_the_clock_to_the_nanosecond(harness: VirtualHarness) -> None:
    worker = await harness.engine.start(harness.spec(1, startup_s=2.5))
    harness.now_ns += 2_500_000_000 - 1
    assert not await harness.engine.healthy(worker, "/health", 1.0)
    harness.now_ns += 1
    assert await harness.engine.healthy(worker, "/health", 1.0)


async def test_a_refusal_happens_once_and_leaves_nothing(harness: VirtualHarness) -> None:
    harness.engine.fail_next(Fault.GPU_UNAVAILABLE)
    with pytest.raises(EngineError) as refusal:
        await harness.engine.start(harness.spec(1))
    assert refusal.value.fault is Fault.GPU_UNAVAILABLE
    assert not isinstance(refusal.value, EngineUnavailable)
    assert await harness.engine.list_workers() == []
    await harness.engine.start(harness.spec(1))


async def test_a_refusal_waits_for_a_start_that_is_new(harness: VirtualHarness) -> None:
    await harness.engine.start(harness.spec(1))
    harness.engine.fail_next(Fault.ENGINE_MISSING)
    await harness.engine.start(harness.spec(1))
    with pytest.raises(EngineUnavailable):
        await harness.engine.start(harness.spec(2))


async def test_a_lost_answer_still_has_its_effect(harness: VirtualHarness) -> None:
    harness.engine.lose_next_answer()
    with pytest.raises(EngineUnavailable):
        await harness.engine.start(harness.spec(1))
    assert harness.engine.running == ("w-1",)
    harness.engine.lose_next_answer()
    with pytest.raises(EngineUnavailable):
        await harness.engine.stop("w-1", grace_s=1)
    assert harness.engine.running == ()
    assert [worker_id for worker_id, _ in harness.changes] == ["w-1"]
    harness.engine.lose_next_answer()
    with pytest.raises(EngineUnavailable):
        await harness.engine.remove("w-1")
    assert await harness.engine.list_workers() == []


async def test_while_down_nothing_has_an_effect(harness: VirtualHarness) -> None:
    worker = await harness.engine.start(harness.spec(1))
    harness.engine.down(True)
    for call in (
        lambda: harness.engine.start(harness.spec(2)),
        lambda: harness.engine.stop("w-1", 0),
        lambda: harness.engine.remove("w-1"),
        lambda: harness.engine.inspect("w-1"),
        lambda: harness.engine.list_workers(),
        lambda: harness.engine.logs("w-1", 1),
    ):
        with pytest.raises(EngineUnavailable):
            await call()
    assert not await harness.engine.healthy(worker, "/health", 1.0)
    assert not (await harness.engine.probe()).ok
    harness.engine.down(False)
    assert harness.engine.running == ("w-1",)
    assert (await harness.engine.probe()).ok


async def test_an_end_is_told_at_once_and_kept(harness: VirtualHarness) -> None:
    await harness.engine.start(harness.spec(1))
    harness.engine.say("w-1", "Traceback")
    harness.engine.exit("w-1", Exit(ExitCause.ERROR, 1, harness.now_ns, "exited with code 1"))
    [(worker_id, end)] = harness.changes
    assert worker_id == "w-1"
    assert end is not None
    assert end.log[-2:] == ("Traceback", "exited with code 1")
    seen = await harness.engine.inspect("w-1")
    assert seen is not None
    assert seen.exit == end
    with pytest.raises(ValueError, match="ended already"):
        harness.engine.exit("w-1", Exit(ExitCause.CLEAN, 0, None, "again"))


async def test_a_worker_can_vanish_with_its_evidence(harness: VirtualHarness) -> None:
    await harness.engine.start(harness.spec(1))
    harness.engine.vanish("w-1")
    assert await harness.engine.inspect("w-1") is None
    [(_, end)] = harness.changes
    assert end is not None
    assert (end.cause, end.at_ns) == (ExitCause.VANISHED, None)


async def test_a_paused_or_hung_worker_is_not_healthy(harness: VirtualHarness) -> None:
    worker = await harness.engine.start(harness.spec(1))
    for knob in (harness.engine.pause, harness.engine.hang_health):
        knob("w-1", True)
        assert not await harness.engine.healthy(worker, "/health", 1.0)
        knob("w-1", False)
        assert await harness.engine.healthy(worker, "/health", 1.0)
    harness.engine.pause("w-1")
    seen = await harness.engine.inspect("w-1")
    assert seen is not None
    assert seen.paused


async def test_a_worker_can_be_served_by_a_real_address() -> None:
    engine = VirtualEngine(INSTANCE, lambda: 7, serve=lambda spec: ("127.0.0.1", 4_000 + spec.gpu.index))
    worker = await engine.start(VirtualHarness().spec(2))
    assert (worker.host, worker.port) == ("127.0.0.1", 4_002)


async def test_instances_share_a_world_and_not_their_workers(harness: VirtualHarness) -> None:
    other = VirtualEngine("other", lambda: harness.now_ns, world=harness.world)
    await harness.engine.start(harness.spec(1))
    assert await other.list_workers() == []
    assert await other.inspect("w-1") is None
    assert await other.stop("w-1", 0) is None
    assert harness.engine.running == ("w-1",)


async def test_a_running_worker_cannot_be_removed(harness: VirtualHarness) -> None:
    await harness.engine.start(harness.spec(1))
    with pytest.raises(EngineError) as refusal:
        await harness.engine.remove("w-1")
    assert refusal.value.fault is Fault.REFUSED


async def test_every_call_is_on_record() -> None:
    now_ns = 0
    engine = VirtualEngine(INSTANCE, lambda: now_ns, world=VirtualWorld())
    spec = VirtualHarness().spec(1)
    await engine.open(lambda worker_id, exit_: None)
    await engine.start(spec)
    now_ns = 5 * SECOND_NS
    engine.down(True)
    with pytest.raises(EngineUnavailable):
        await engine.stop("w-1", 1.0)
    assert engine.calls == [("open", "", 0), ("start", "w-1", 0), ("stop", "w-1", 5 * SECOND_NS)]
