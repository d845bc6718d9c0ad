"""What a worker has cost is shown from its start, not from the orchestrator's."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.core.observe import Surroundings, observe
from tests.core.test_recovery import booted, saved, seen
from tests.core.world import START_NS

MINUTE_U = 2_670_000 // 60


def test_an_adopted_worker_shows_its_closed_intervals_and_the_open_one() -> None:
    before = saved()
    before = replace(before, workers=(replace(before.workers[0], spent_u=5_000_000),))
    state, _ = booted(before, (seen(),))
    around = Surroundings(1, 1, "1", "/", "http://127.0.0.1:1", {}, {}, {})
    [worker] = observe(state, around, START_NS).endpoints[0].workers
    assert worker.cost_u == 5_000_000 + MINUTE_U
