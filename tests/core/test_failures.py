"""Crash loops, refusals of the engine, deadlines, lost GPUs and unknown outcomes."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.contract.command import EnableEndpoint
from orchestrator.contract.snapshot import EndpointState, EngineKind, EngineView, WorkerState
from orchestrator.core import events as ev
from orchestrator.core.effects import StartWorker
from orchestrator.core.writes import IntervalClosed, Posted, WorkerEnded
from tests.core.world import ENGINE, World


def test_a_crash_loop_backs_off_then_fails_with_the_log() -> None:
    world = World(cold_start_s=5)
    world.dies_after_start = True
    world.create(setup="1-1")
    took = world.until(lambda: world.snapshot().endpoints[0].state is EndpointState.FAILED)
    starts = [e for e in world.effects if isinstance(e, StartWorker)]
    assert len(starts) == 5
    assert took > 1 + 2 + 4 + 8
    problem = world.snapshot().endpoints[0].problem
    assert problem is not None
    assert problem.log == ("loading", "boom")
    assert "exit code 1" in problem.message
    caller = world.request()
    assert caller.outcome == "endpoint_failed"
    world.advance(300)
    assert len([e for e in world.effects if isinstance(e, StartWorker)]) == 5


def test_failed_starts_are_absorbed_not_billed() -> None:
    world = World(cold_start_s=5)
    before = world.snapshot().accounts[0].balance_u
    world.dies_after_start = True
    world.create(setup="1-1")
    world.until(lambda: world.snapshot().endpoints[0].state is EndpointState.FAILED)
    assert world.snapshot().accounts[0].balance_u == before
    posted = [w for w in world.writes if isinstance(w, Posted)]
    assert posted
    assert all(p.absorbed for p in posted)
    assert all(w.absorbed for w in world.writes if isinstance(w, IntervalClosed))
    assert world.snapshot().endpoints[0].cost.absorbed_u == sum(p.amount_u for p in posted)


def test_enable_tries_a_failed_endpoint_again() -> None:
    world = World()
    world.refuse = ("image_missing", "image gpudeck/x:1 is not on this host", True)
    world.create(setup="1-1")
    world.until(lambda: world.snapshot().endpoints[0].state is EndpointState.FAILED)
    assert len([e for e in world.effects if isinstance(e, StartWorker)]) == 1
    world.refuse = None
    world.command(EnableEndpoint(id=world.id(), slug="echo"))
    world.until(lambda: world.ready() == 1)
    assert world.snapshot().endpoints[0].problem is None


def test_an_engine_that_is_down_is_waited_for_without_counting_crashes() -> None:
    world = World()
    world.refuse = ("engine_missing", "no Docker engine answers", False)
    world.create(setup="1-1")
    world.advance(2)
    world.handle(ev.EngineProbed(EngineView(kind=EngineKind.VIRTUAL, ok=False, detail="gone")))
    world.advance(120)
    assert world.state.endpoints["echo"].crashes == 0
    world.refuse = None
    world.handle(ev.EngineProbed(ENGINE))
    world.until(lambda: world.ready() == 1, limit_s=10)


def test_a_worker_that_never_gets_healthy_is_stopped_at_its_deadline() -> None:
    world = World()
    world.healthy = False
    world.create(setup="1-1", startup_deadline_s=20)
    world.advance(19)
    assert len(world.workers("echo", WorkerState.STARTING)) == 1
    world.advance(2)
    assert any("startup deadline of 20 s" in note for note in world.notes())
    assert [w for w in world.writes if isinstance(w, Posted) and not w.absorbed] == []
    assert [w for w in world.writes if isinstance(w, IntervalClosed) and w.absorbed]


def test_a_held_request_survives_a_failed_start() -> None:
    world = World(cold_start_s=5)
    world.dies_after_start = True
    world.create(setup="0-1")
    caller = world.request()
    world.advance(3)
    assert caller.outcome is None
    world.dies_after_start = False
    world.until(lambda: caller.done_ns)
    assert caller.outcome == "w1"


def test_an_unhealthy_worker_is_replaced() -> None:
    world = World()
    world.create(setup="1-1")
    world.until(lambda: world.ready() == 1)
    world.advance(60)
    first = world.workers()[0].id
    world.handle(ev.WorkerUnhealthy(first, 3))
    world.until(lambda: world.ready() == 1 and world.workers()[0].id != first)


def test_a_lost_gpu_fails_its_worker_and_another_gpu_takes_over() -> None:
    world = World("L40:2")
    world.create(setup="1-1")
    world.until(lambda: world.ready() == 1)
    lost = world.workers()[0].gpu.uuid
    views = tuple(g.model_copy(update={"state": "lost"}) if g.uuid == lost else g for g in world.state.gpus)
    world.handle(ev.GpusSampled(views))
    world.until(lambda: world.ready() == 1 and world.workers()[0].gpu.uuid != lost)


def test_a_foreign_process_keeps_a_gpu_from_being_used() -> None:
    from orchestrator.contract.snapshot import GpuProcessView

    world = World("L40:1")
    stranger = GpuProcessView(pid=99, name="python", memory_bytes=18 * 1024**3)
    world.handle(ev.GpusSampled((world.state.gpus[0].model_copy(update={"processes": (stranger,)}),)))
    world.create(setup="1-1")
    world.advance(10)
    assert world.workers() == []
    problem = world.snapshot().endpoints[0].problem
    assert problem is not None
    assert problem.code == "no_gpu"


def test_an_unknown_start_is_settled_by_the_next_list() -> None:
    world = World()
    world.start_delay_s = 10_000  # the engine never answers by itself
    world.create(setup="1-1")
    world.advance(1)
    worker = world.workers()[0]
    world.handle(ev.LaunchUnknown(worker.id, "timed out"))
    world.handle(ev.Relisted((), world.now_ns))
    assert [w for w in world.writes if isinstance(w, WorkerEnded) and w.source == "void"]
    assert worker.id not in world.state.workers


def test_a_worker_missing_from_the_list_is_closed_at_the_last_heartbeat() -> None:
    world = World()
    world.create(setup="1-1")
    world.until(lambda: world.ready() == 1)
    world.advance(33)
    worker = world.workers()[0]
    seen_ns = world.state.seen_ns
    world.running.pop(worker.id)
    world.handle(ev.Relisted((), world.now_ns))
    closed = [w for w in world.writes if isinstance(w, IntervalClosed)]
    assert closed[-1].end_ns == seen_ns
    assert closed[-1].source == "last_seen"


def test_nothing_is_posted_while_the_engine_is_silent() -> None:
    world = World()
    world.create(setup="1-1")
    world.until(lambda: world.ready() == 1)
    world.advance(200)
    world.handle(ev.EngineProbed(EngineView(kind=EngineKind.VIRTUAL, ok=False, detail="gone")))
    seen_ns, posted = world.state.seen_ns, len([w for w in world.writes if isinstance(w, Posted)])
    assert posted >= 3
    world.advance(600)
    assert len([w for w in world.writes if isinstance(w, Posted)]) == posted
    world.handle(ev.EngineProbed(ENGINE))
    world.running.clear()
    world.tick()
    world.relist()
    closed = [w for w in world.writes if isinstance(w, IntervalClosed)]
    assert closed[-1].end_ns == seen_ns


def test_workers_without_a_record_are_stopped() -> None:
    world = World()
    world.create(setup="1-1")
    world.until(lambda: world.ready() == 1)
    worker = world.workers()[0]
    stranger = replace(world.running[worker.id], worker_id="echo-999")
    world.running["echo-999"] = stranger
    world.handle(ev.Relisted((world.running[worker.id], stranger), world.now_ns))
    world.advance(1)
    assert list(world.running) == [worker.id]


def test_a_changed_port_is_followed() -> None:
    world = World()
    world.create(setup="1-1")
    world.until(lambda: world.ready() == 1)
    worker = world.workers()[0]
    world.handle(ev.Relisted((replace(world.running[worker.id], port=9_111),), world.now_ns))
    assert world.table.routes["echo"].lane.slots[worker.id].port == 9_111


def test_the_ledger_failing_stops_starts_and_nothing_else() -> None:
    world = World()
    world.create(setup="1-2")
    world.until(lambda: world.ready() == 1)
    world.handle(ev.LedgerChecked("disk full"))
    worker = world.workers()[0]
    caller = world.request(service_s=0.1)
    world.until(lambda: caller.done_ns)
    world.kill(worker.id)
    world.advance(30)
    assert world.workers() == []
    world.handle(ev.LedgerChecked(None))
    world.until(lambda: world.ready() == 1)
