"""The light simulator beside the full core in virtual time: the same traffic gives the same workers, waits and bill."""

from __future__ import annotations

import pytest

from orchestrator.assets import load_models, load_price_book
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.endpoint import Auto, Concurrency, EndpointSpec, QueueDelay, RequestCount, ScalingPolicy
from orchestrator.core.pricing import always
from orchestrator.core.state import Rules
from orchestrator.simulator.light import ColdStarts, Setup, following, simulate
from orchestrator.simulator.play import play
from orchestrator.simulator.traces import Shape, trace_of

COLD = ColdStarts(20.0, sigma=0.0)
SAMPLES = 2_000
IDLE_S = 20
TRAFFIC = {
    "on-off": Shape("on-off", 12, 4_000, 10),
    "diurnal": Shape("diurnal", 20, 3_000, 9),
    "spike": Shape("spike", 40, 2_500, 8),
}
CASES: list[tuple[str, ScalingPolicy, Setup]] = [
    ("on-off", QueueDelay(), Setup(0, 5)),
    ("diurnal", QueueDelay(), Setup(1, 5)),
    ("spike", RequestCount(value=2), Setup(0, 5)),
    ("on-off", RequestCount(value=3), Setup(1, 3, 4)),
    ("diurnal", RequestCount(value=1), Setup(1, 5)),
    ("spike", Concurrency(), Setup(1, 5)),
    ("diurnal", Concurrency(), Setup(1, 3, 4)),
    ("on-off", Auto(), Setup(0, 5)),
    ("diurnal", Auto(), Setup(1, 5)),
    ("spike", Auto(wait_price=5.0), Setup(1, 3, 4)),
]


@pytest.fixture(scope="module")
def rules() -> Rules:
    prices = always(load_price_book("2025-seed"))
    return Rules(instance="f" * 32, boot_id="simulated", models=load_models(), prices=prices, workers_max=10)


@pytest.mark.parametrize(
    ("traffic", "policy", "setup"), CASES, ids=[f"{shape}-{policy.kind}-{setup}" for shape, policy, setup in CASES]
)
def test_the_light_simulator_agrees_with_the_core(
    traffic: str, policy: ScalingPolicy, setup: Setup, rules: Rules
) -> None:
    trace = TRAFFIC[traffic].draw(5)
    spec = EndpointSpec(
        slug="twin", model="echo", gpu_type="L40", baseline=setup.baseline, maximum=setup.maximum, policy=policy,
        concurrency=setup.slots, idle_timeout_s=IDLE_S, queue_timeout_s=86_400, queue_limit=100_000,
    )  # fmt: skip
    core = play(trace, spec, rules, cold=COLD)
    own = Setup(setup.baseline, setup.maximum, setup.slots, float(IDLE_S))
    light = simulate(trace, own, following(policy), COLD)
    end_ns = max(core.ended_ns, light.ended_ns)
    same = sum(
        core.workers_at(end_ns * i // SAMPLES) == light.workers_at(end_ns * i // SAMPLES) for i in range(SAMPLES)
    )
    assert same / SAMPLES >= 0.98
    assert light.autoscaled_s == pytest.approx(core.autoscaled_s, rel=0.01)
    assert light.autoscaled_u == pytest.approx(core.autoscaled_u, rel=0.01)
    assert light.baseline_u == pytest.approx(core.baseline_u, rel=0.01)
    assert light.cold_starts == pytest.approx(core.cold_starts + core.failed_starts, abs=1 + 0.02 * light.cold_starts)
    assert light.waited_s == pytest.approx(sum(core.waits_s), rel=0.02, abs=5)
    assert len(core.waits_s) == len(trace)


def test_both_begin_with_the_same_wait(rules: Rules) -> None:
    """An endpoint at rest: the cold start, to the nanosecond."""
    trace = trace_of("t", [(0.0, 5.0), (3.0, 5.0), (90.0, 5.0)])
    spec = EndpointSpec(slug="twin", model="echo", gpu_type="L40", baseline=0, maximum=2, policy=QueueDelay(seconds=60))
    waits = simulate(trace, Setup(0, 2), following(spec.policy), COLD).waits_ns
    assert waits[0] == 20 * SECOND_NS
    assert play(trace, spec, rules, cold=COLD).waits_s == sorted(wait_ns / SECOND_NS for wait_ns in waits)
