"""The deck: the whole core in virtual time, ticking only when something happens."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.command import Accepted, CreateEndpoint, Refused, TopUp
from orchestrator.contract.endpoint import Concurrency, EndpointSpec, QueueDelay, RequestCount, ScalingPolicy
from orchestrator.contract.snapshot import WorkerState
from orchestrator.simulator.callers import Caller
from orchestrator.simulator.deck import Deck
from orchestrator.simulator.episode import live_through
from orchestrator.simulator.fate import FairWeather
from orchestrator.simulator.faults import parse_faults
from orchestrator.simulator.host import gpu_views
from orchestrator.simulator.light import following, simulate
from orchestrator.simulator.memory_ledger import MemoryLedger
from orchestrator.simulator.play import PlayError, Witness, play
from orchestrator.simulator.setup import ColdStarts, Setup
from orchestrator.simulator.traces import Shape, Trace, trace_of
from tests.bench.faults import rules

POLICIES = (QueueDelay(), RequestCount(value=1), Concurrency())
"""`concurrency` decides every two seconds by averages, so it matters by a worker here and there when the grid of those
begins; the others answer the same whenever they are asked."""
RULES = rules()


def spec(setup: str = "0-3", **fields: Any) -> EndpointSpec:
    baseline, maximum = (int(part) for part in setup.split("-"))
    return EndpointSpec.model_validate(
        {"slug": "echo", "model": "echo", "gpu_type": "L40", "baseline": baseline, "maximum": maximum, "concurrency": 1,
         **fields}
    )  # fmt: skip


def quick_deck(cold_s: float = 2.0, **fields: Any) -> Deck:
    """A deck with one endpoint whose baseline is ready."""
    ledger = MemoryLedger(balances_u={"local": 10**12})
    deck = Deck(gpu_views("L40:4"), RULES, FairWeather(lambda _: cold_s), ledger=ledger)
    outcome = deck.command(CreateEndpoint(id="create-1", spec=spec(**fields)))
    assert isinstance(outcome, Accepted), outcome
    deck.advance(cold_s + 1.0)
    return deck


def call(deck: Deck, service_s: float) -> Caller:
    return deck.call("echo", int(service_s * SECOND_NS))


def bursts(seed: int, service_s: float = 4.0, span_s: float = 1_200.0) -> Trace:
    return Shape("on-off", peak_rpm=40.0, span_s=span_s, service_s=service_s).draw(seed)


@pytest.mark.parametrize("policy", POLICIES[:2], ids=lambda policy: policy.kind)
def test_ticking_only_when_something_happens_comes_to_the_same_as_ticking_always(
    policy: ScalingPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> tuple[float, int, list[float]]:
        played = play(bursts(3, span_s=500.0), spec("1-4", policy=policy), RULES, cold=ColdStarts(10.0))
        return played.autoscaled_s, played.cold_starts, played.waits_s

    sparse = run()
    ticking = Witness.__init__

    def always(self: Witness, *args: Any, **kwargs: Any) -> None:
        ticking(self, *args, **{**kwargs, "watchful": True})
        self.tick_s = 0.25

    monkeypatch.setattr(Witness, "__init__", always)
    dense = run()
    assert sparse[0] == pytest.approx(dense[0], rel=0.01)
    assert abs(sparse[1] - dense[1]) <= 1
    assert sum(sparse[2]) == pytest.approx(sum(dense[2]), rel=0.01, abs=1.0)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.kind)
@pytest.mark.parametrize(("setup", "slots", "seed"), [("0-3", 1, 1), ("1-5", 1, 2), ("2-4", 4, 3)])
def test_the_light_simulator_agrees(policy: ScalingPolicy, setup: str, slots: int, seed: int) -> None:
    """Two programs, one story: where the core has no faults, GPUs enough and credit enough, the light one is right."""
    trace, cold = bursts(seed, service_s=4.0 * slots), ColdStarts(12.0, seed=seed)
    asked = spec(setup, policy=policy, concurrency=slots, queue_timeout_s=86_400, execution_timeout_s=86_400)
    played = play(trace, asked, RULES, cold=cold)
    baseline, maximum = asked.baseline, asked.maximum
    light = simulate(trace, Setup(baseline, maximum, slots), following(policy), cold)
    assert played.outcomes == {"served": len(trace)}
    close = 0.15 if isinstance(policy, Concurrency) else 1e-9
    assert played.autoscaled_s == pytest.approx(light.autoscaled_s, rel=close)
    assert sum(played.waits_s) == pytest.approx(light.waited_s, rel=close)
    assert played.cold_starts == pytest.approx(light.cold_starts, rel=close)


def test_a_bill_by_hand() -> None:
    """One request of 20 s at 0-1: cold start 10 s, work 20 s, idle timeout 10 s."""
    played = play(trace_of("one", [(0.0, 20.0)]), spec("0-1"), RULES, cold=ColdStarts(10.0, sigma=0.0))
    assert played.autoscaled_s == 40.0
    assert played.autoscaled_u == 40 * 4_240
    assert played.waits_s == [10.0]
    assert played.steps == [(0, 1), (40 * SECOND_NS, 0)]


def test_a_baseline_that_cannot_come_up_is_said() -> None:
    with pytest.raises(PlayError, match="startup deadline of 5 s"):
        play(trace_of("one", [(0.0, 1.0)]), spec("1-1", startup_deadline_s=5), RULES, cold=ColdStarts(20.0, sigma=0.0))


def test_a_day_without_traffic_costs_its_baseline_and_few_steps() -> None:
    deck = quick_deck(setup="1-1")
    began_ns, steps = deck.now_ns, 0
    balance_u = deck.snapshot().accounts[0].balance_u
    end_ns = began_ns + 86_400 * SECOND_NS
    while deck.next_ns is not None and deck.next_ns <= end_ns:
        deck.act()
        steps += 1
    deck.run_to(end_ns)
    spent_u = balance_u - deck.snapshot().accounts[0].balance_u
    assert spent_u == pytest.approx(24 * 2_670_000, abs=1)
    assert steps < 24 * 60 * 2, "about one a minute, for postings"
    assert not any("slept" in event.text for event in deck.state.events)


def test_nobody_waits_longer_than_the_queue_timeout() -> None:
    deck = quick_deck(setup="1-1", queue_timeout_s=5)
    first, second = call(deck, 30.0), call(deck, 1.0)
    deck.advance(4.9)
    assert second.outcome is None
    deck.advance(0.2)
    assert (second.outcome, second.waited_s) == ("queue_timeout", None)
    deck.advance(30)
    assert first.done_ns is not None


def test_a_request_that_takes_too_long_costs_its_worker() -> None:
    deck = quick_deck(setup="1-1", execution_timeout_s=5, model="sketch")  # it cannot cancel
    [before] = deck.host.running
    late = call(deck, 60.0)
    deck.advance(20)
    [after] = deck.host.running
    assert late.outcome == "execution_timeout"
    assert after != before


def test_requests_end_with_their_worker_and_those_that_wait_do_not() -> None:
    deck = quick_deck(setup="1-1")
    [worker_id] = deck.host.running
    cut, waits = call(deck, 30.0), call(deck, 1.0)
    deck.advance(1)
    deck.host.kill(worker_id)
    assert cut.outcome == "worker_died"
    assert waits.outcome is None
    deck.advance(10)
    assert waits.done_ns is not None


def test_a_worker_that_died_in_silence_is_passed_over_and_replaced() -> None:
    deck = quick_deck(setup="2-2")
    [dead, alive] = deck.host.running
    deck.host.silent = True
    deck.host.kill(dead)
    callers = [call(deck, 0.1) for _ in range(4)]
    deck.advance(2)
    assert all(caller.done_ns is not None for caller in callers)
    deck.advance(5)
    ready = {w.id for w in deck.state.workers.values() if w.state is WorkerState.READY}
    assert dead not in ready
    assert alive in ready
    assert len(ready) == 2


def test_a_worker_that_hangs_is_replaced() -> None:
    deck = quick_deck(setup="1-1", execution_timeout_s=5)
    [worker_id] = deck.host.running
    deck.host.hang(worker_id)
    stuck = call(deck, 0.1)
    deck.advance(30)
    assert stuck.outcome == "execution_timeout"
    assert deck.host.running.keys() != {worker_id}
    assert call(deck, 0.1).dispatched_ns is not None


def test_while_the_disk_is_full_nothing_starts_and_no_command_passes() -> None:
    deck = quick_deck(setup="1-3", policy=RequestCount(value=1))
    deck.disk_problem = "disk full"
    refused = deck.command(TopUp(id="top-up-1", account="local", amount_u=1_000_000))
    assert isinstance(refused, Refused)
    assert refused.code.value == "ledger"
    callers = [call(deck, 5.0) for _ in range(3)]
    deck.advance(20)
    assert len(deck.host.running) == 1, "an intent that is not on disk starts nothing"
    assert [c.done_ns is not None for c in callers] == [True] * 3
    balance_u = deck.ledger.balances_u["local"]
    deck.free_disk()
    assert deck.caught_up
    assert deck.ledger.balances_u["local"] <= balance_u
    assert isinstance(deck.command(TopUp(id="top-up-2", account="local", amount_u=1_000_000)), Accepted)


def test_a_crash_loses_the_connections_and_keeps_the_workers() -> None:
    deck = quick_deck(setup="1-1")
    [worker_id] = deck.host.running
    working, waiting = call(deck, 30.0), call(deck, 1.0)
    deck.crash(away_s=3.0)
    assert (working.outcome, waiting.outcome) == ("connection_lost", "connection_lost")
    assert list(deck.host.running) == [worker_id]
    again = call(deck, 1.0)
    deck.advance(2)
    assert again.done_ns is not None


def digest_of(seed: int, hash_seed: str) -> str:
    """The digest of a story under all faults, in a process of its own."""
    program = (
        "from tests.bench.faults import rules\n"
        "from orchestrator.simulator.episode import live_through\n"
        "from orchestrator.simulator.faults import parse_faults\n"
        "import sys\n"
        f"sys.stdout.write(live_through({seed}, rules(), parse_faults('all')).digest)\n"
    )
    environ = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environ, timeout=60
    )
    return done.stdout


def test_the_same_seed_gives_the_same_run_to_the_bit_in_any_process() -> None:
    first = live_through(11, RULES, parse_faults("all"))
    assert digest_of(11, "1") == digest_of(11, "2") == first.digest
    assert live_through(12, RULES, parse_faults("all")).digest != first.digest
