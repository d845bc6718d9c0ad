"""Sizing by the mean and by the wait: the contract's example, known values of queueing theory, and a simulation."""

from __future__ import annotations

import random

import pytest

from orchestrator.contract.endpoint import RequestCount
from orchestrator.core.pricing import Price
from orchestrator.simulator.light import Setup, following, simulate
from orchestrator.simulator.plan import Demand, PlanError, cost_of, erlang_c, measured, wait_of
from orchestrator.simulator.traces import trace_of

L40 = Price(baseline_uh=2_670_000, autoscale_uh=15_264_000)


def test_the_example_of_the_contract() -> None:
    demand = Demand(rpm=20, peak_rpm=100, latency_s=6)
    assert demand.worker_rpm == 10
    assert (demand.workers_by_mean(20), demand.workers_by_mean(100)) == (2, 10)
    cost = cost_of(2, 10, L40)
    assert (cost.baseline_uh, cost.worst_uh) == (5_340_000, 127_452_000)


@pytest.mark.parametrize(
    ("rpm", "latency_s", "slots", "workers"),
    [(20, 6, 1, 2), (20.001, 6, 1, 3), (1, 0.01, 1, 1), (600, 0.1, 1, 1), (601, 0.1, 1, 2), (100, 6, 4, 3)],
)
def test_workers_by_the_mean(rpm: float, latency_s: float, slots: int, workers: int) -> None:
    assert Demand(rpm, rpm, latency_s, slots=slots).workers_by_mean(rpm) == workers


@pytest.mark.parametrize(
    ("load", "servers", "share"),
    [(0.5, 1, 0.5), (1.0, 2, 1 / 3), (2.0, 3, 4 / 9), (8.0, 10, 0.409), (0.9, 1, 0.9)],
)
def test_the_share_that_waits_is_erlangs(load: float, servers: int, share: float) -> None:
    assert erlang_c(load, servers) == pytest.approx(share, abs=0.001)


def test_waits_of_one_server_are_those_of_the_textbook() -> None:
    """M/M/1 at 80%: mean wait 4 services; M/D/1: half of it (Pollaczek and Khinchine)."""
    exponential, constant = wait_of(0.8, 1, 1.0, 1.0), wait_of(0.8, 1, 1.0, 0.0)
    assert exponential is not None
    assert constant is not None
    assert exponential.mean_s == pytest.approx(4.0)
    assert constant.mean_s == pytest.approx(2.0)
    assert exponential.p95_s == pytest.approx(13.86, abs=0.01)
    assert wait_of(1.0, 1, 1.0, 1.0) is None, "busy all the time: the queue grows for ever"


@pytest.mark.parametrize("cv", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("servers", "load"), [(1, 0.7), (3, 2.4), (8, 6.8)])
def test_the_simulation_agrees(servers: int, load: float, cv: float) -> None:
    dice = random.Random(f"{servers}/{load}/{cv}")
    at_s, requests = 0.0, []
    for _ in range(30_000):
        at_s += dice.expovariate(load)
        requests.append((at_s, dice.gammavariate(1 / cv**2, cv**2) if cv else 1.0))
    outcome = simulate(trace_of("poisson", requests), Setup(servers, servers, 1, 10.0, L40), following(RequestCount()))
    wait = wait_of(load, servers, 1.0, cv)
    assert wait is not None
    assert outcome.waited_s / 30_000 == pytest.approx(wait.mean_s, rel=0.15)
    assert outcome.wait_s(95) == pytest.approx(wait.p95_s, rel=0.15)
    assert outcome.wait_s(99) == pytest.approx(wait.p99_s, rel=0.25)


def test_workers_by_the_wait_are_the_fewest_that_keep_it() -> None:
    demand = Demand(rpm=20, peak_rpm=100, latency_s=6)
    for rpm, target_s in ((20, 6.0), (100, 6.0), (100, 0.5)):
        workers = demand.workers_by_wait(rpm, target_s)
        kept, less = demand.wait_at(rpm, workers), demand.wait_at(rpm, workers - 1)
        assert kept is not None
        assert kept.p95_s <= target_s
        assert less is None or less.p95_s > target_s
    assert demand.workers_by_wait(20, 0.0) > demand.workers_by_wait(20, 6.0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rpm": 0}, "rpm: 0 is not above 0"),
        ({"rpm": float("nan")}, "rpm: nan"),
        ({"latency_s": -1}, "latency: -1 is not above 0"),
        ({"peak_rpm": 10}, "peak: 10 is below rpm, 20"),
        ({"cv": 21}, "cv: 21 is not from 0 to 20"),
        ({"slots": 0}, "slots: 0 is not from 1"),
        ({"peak_rpm": 1e6, "latency_s": 3_600}, "need more than 1000 workers"),
    ],
)
def test_numbers_that_make_no_plan_are_named(fields: dict[str, float], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Demand(**{"rpm": 20, "peak_rpm": 100, "latency_s": 6, **fields})  # type: ignore[arg-type]


def test_measured_service_times() -> None:
    assert measured([2.0, 2.0]) == (2.0, 0.0)
    mean, cv = measured([1.0, 3.0])
    assert (mean, cv) == (2.0, 0.5)
    with pytest.raises(PlanError, match="no request of it has been measured"):
        measured([])
