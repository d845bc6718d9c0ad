"""Restarts: the ledger says what should exist, the engine what does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.contract.snapshot import Tier, WorkerState
from orchestrator.core import events as ev
from orchestrator.core.effects import RemoveWorker, StopWorker, WatchHealth
from orchestrator.core.state import State
from orchestrator.core.step import step
from orchestrator.core.workload import Exit, ExitCause, Observed
from orchestrator.core.writes import (
    EndpointSaved,
    IntervalClosed,
    IntervalOpened,
    Posted,
    Saved,
    SavedInterval,
    SavedWorker,
    WorkerEnded,
    WorkerIntended,
)
from tests.core.world import BOOT, ENGINE, START_NS, World, gpus

MINUTE = 60 * SECOND_NS
SPEC = EndpointSpec(slug="echo", model="echo", gpu_type="L40", baseline=1, maximum=2)


def saved(*, started: bool = True, ready: bool = True, boot: str = BOOT, last_seen: int = START_NS - 10) -> Saved:
    """A ledger that remembers one endpoint with one worker, started a minute before the restart."""
    intent = WorkerIntended("echo-7", 7, 1, "echo", "local", 1, "echo", "SIM-L40-0", "L40", False, START_NS - MINUTE)
    worker = SavedWorker(
        intent, "ref-7" if started else None, START_NS - MINUTE if started else None, START_NS - 50 if ready else None
    )
    opened = IntervalOpened(
        "echo-7.1", "echo-7", "echo", "local", "L40", Tier.BASELINE, 2_670_000, "2025-seed", START_NS - MINUTE, boot
    )
    return Saved(
        "f" * 32, {"local": 500_000_000}, (EndpointSaved(SPEC, 1, "enabled", None, START_NS - MINUTE),), (worker,),
        (SavedInterval(opened, 1_000, last_seen),) if started else (), (), (), (), 7, {}, {}, {}, {}, {}, START_NS,
    )  # fmt: skip


def seen(exit_: Exit | None = None, started_ns: int | None = START_NS - MINUTE) -> Observed:
    return Observed("echo-7", "ref-7", "echo", "echo-7.1", "127.0.0.1", 9_007, START_NS - MINUTE, started_ns, exit_)


def booted(memory: Saved, observed: tuple[Observed, ...] | None) -> tuple[State, list[object]]:
    rules = World().state.rules
    state, effects = step(State(rules=rules), ev.Booted(memory, observed, ENGINE, gpus("L40:2")), START_NS)
    writes = [w for e in effects if hasattr(e, "writes") for w in e.writes]
    return state, [*effects, *writes]


def test_a_running_worker_is_adopted_ready_and_in_the_ring() -> None:
    state, done = booted(saved(), (seen(),))
    worker = state.workers["echo-7"]
    assert worker.state is WorkerState.READY
    assert [m.worker_id for m in state.routes["echo"].ring] == ["echo-7"]
    assert WatchHealth("echo-7", "/health", ready=True) in done
    assert state.intervals["echo-7.1"].posted_u == 1_000
    assert state.intervals["echo-7.1"].opened.start_ns == START_NS - MINUTE
    assert not any(isinstance(d, IntervalClosed | StopWorker) for d in done)
    after, _ = step(state, ev.Ticked({}), START_NS + SECOND_NS)
    assert list(after.workers) == ["echo-7"], "no twin is started beside an adopted worker"


def test_an_intent_without_a_worker_is_void_and_costs_nothing() -> None:
    state, done = booted(saved(started=False, ready=False), ())
    assert dict(state.workers) == {}
    assert any(isinstance(d, WorkerEnded) and d.source == "void" for d in done)
    assert not any(isinstance(d, Posted) for d in done)


def test_a_worker_started_just_before_the_crash_is_adopted_with_its_own_start() -> None:
    state, _ = booted(saved(started=False, ready=False), (seen(),))
    worker = state.workers["echo-7"]
    assert worker.started_ns == START_NS - MINUTE
    assert worker.interval_id is not None
    assert state.intervals[worker.interval_id].opened.start_ns == START_NS - MINUTE


@pytest.mark.parametrize(
    ("boot", "code", "at_ns", "end_ns", "source"),
    [
        (BOOT, 0, START_NS - 5, START_NS - 5, "exit"),  # B2: same boot, plausible: trusted
        (BOOT, 0, START_NS - 20, START_NS - 20, "exit"),  # a heartbeat crossed the end: within the posting lag
        ("other", 0, START_NS - 5, START_NS - 10, "last_seen"),  # B3: another boot
        (BOOT, 255, START_NS - 5, START_NS - 10, "last_seen"),  # B3: host crash
        (BOOT, 0, START_NS - 20 * SECOND_NS, START_NS - 10, "last_seen"),  # long before it was last seen alive
        (BOOT, 0, START_NS + MINUTE, START_NS - 10, "last_seen"),  # in the future
        (BOOT, 0, None, START_NS - 10, "last_seen"),  # B5
    ],
)
def test_an_exit_meanwhile_is_trusted_only_when_it_can_be(
    boot: str, code: int, at_ns: int | None, end_ns: int, source: str
) -> None:
    exit_ = Exit(ExitCause.CLEAN, code, at_ns, f"exit code {code}")
    state, done = booted(saved(boot=boot), (seen(exit_),))
    assert dict(state.workers) == {}
    closed = [d for d in done if isinstance(d, IntervalClosed)]
    assert [(c.end_ns, c.source) for c in closed] == [(end_ns, source)]
    assert RemoveWorker("echo-7") in done


def test_a_vanished_worker_is_closed_at_its_last_heartbeat() -> None:
    _, done = booted(saved(), ())
    closed = next(d for d in done if isinstance(d, IntervalClosed))
    assert closed.end_ns == START_NS - 10


def test_an_engine_that_is_silent_at_boot_concludes_nothing() -> None:
    state, done = booted(saved(), None)
    assert list(state.workers) == ["echo-7"]
    assert not any(isinstance(d, IntervalClosed | WorkerEnded) for d in done)
    assert state.routes["echo"].ring == ()
    state, _ = step(state, ev.Relisted((seen(),), START_NS + 1), START_NS + SECOND_NS)
    assert [m.port for m in state.routes["echo"].ring] == [9_007]


def test_a_worker_nobody_recorded_is_stopped() -> None:
    stranger = replace(seen(), worker_id="echo-99")
    _, done = booted(saved(), (seen(), stranger))
    assert StopWorker("echo-99", 5.0) in done
    assert RemoveWorker("echo-99") in done
    assert not any(isinstance(d, StopWorker) and d.worker_id == "echo-7" for d in done)


def test_the_first_boot_opens_an_account_with_credit() -> None:
    state, _ = booted(World().nothing_saved(), ())
    assert state.accounts["local"].balance_u == 100_000_000


def test_an_endpoint_whose_model_is_gone_is_kept_and_says_so() -> None:
    memory = saved()
    lost = EndpointSaved(SPEC.model_copy(update={"model": "gone"}), 1, "enabled", None, START_NS)
    state, _ = booted(replace(memory, endpoints=(lost,), workers=(), intervals=()), ())
    problem = state.endpoints["echo"].problem
    assert state.endpoints["echo"].wanted == "failed"
    assert problem is not None
    assert "gone" in problem.message


def test_the_serial_goes_on_where_it_was() -> None:
    state, _ = booted(saved(), ())
    state, _ = step(state, ev.Ticked({}), START_NS + 3 * SECOND_NS)
    assert list(state.workers) == ["echo-8"]
