"""The first memory on the GPU is a phase of a cold start, where the driver tells whose memory it is."""

from __future__ import annotations

from orchestrator.contract.snapshot import GpuProcessView, WorkerState
from orchestrator.core import events as ev
from tests.core.world import World


def sampled(world: World, worker_id: str | None, size_bytes: int | None = 1 << 30, card: int = 0) -> None:
    """A reading in which one card has a process, of that worker or a stranger."""
    process = GpuProcessView(pid=77, name="python3", memory_bytes=size_bytes, worker_id=worker_id)
    cards = list(world.state.gpus)
    cards[card] = cards[card].model_copy(update={"processes": (process,)})
    world.handle(ev.GpusSampled(tuple(cards)))


def test_it_is_the_first_reading_with_memory_of_a_worker_that_starts() -> None:
    world = World(cold_start_s=10.0)
    world.create(setup="1-1")
    world.until(lambda: world.workers("echo", WorkerState.STARTING))
    [worker] = world.workers()
    card = worker.gpu.index
    sampled(world, worker.id, None, card)
    sampled(world, "somebody-else", card=card)
    sampled(world, worker.id, card=(card + 1) % 4)
    assert world.workers()[0].memory_ns is None
    world.advance(3.0)
    sampled(world, worker.id, card=card)
    first_ns = world.workers()[0].memory_ns
    assert first_ns == world.now_ns
    world.advance(1.0)
    sampled(world, worker.id, card=card)
    assert world.workers()[0].memory_ns == first_ns


def test_a_worker_that_is_ready_already_has_no_such_phase() -> None:
    world = World(cold_start_s=0.5)
    world.create(setup="1-1")
    world.until(lambda: world.ready() == 1)
    sampled(world, world.workers()[0].id, card=world.workers()[0].gpu.index)
    assert world.workers()[0].memory_ns is None
