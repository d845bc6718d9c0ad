"""The simulator against real processes in a few seconds; the long profile is `python -m tests.bench.agreement`."""

from __future__ import annotations

import pytest

from orchestrator.contract.endpoint import RequestCount
from orchestrator.simulator.traces import trace_of
from tests.bench.agreement import agree


def test_the_simulator_tells_what_the_live_system_did(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two bursts that need two and three workers, with a scale-down between them. The bounds are wider than those of
    the bench: here one late process counts for more."""
    trace = trace_of("two bursts", [(0.0, 2.0), (0.1, 2.0), (9.0, 1.5), (9.1, 1.5), (9.2, 1.5)])
    found = agree(trace, RequestCount(value=1), tmp_path_factory.mktemp("a"), idle_timeout_s=2)
    assert found.live_autoscaled_u > 0
    assert found.equal >= 0.9
    assert found.bill <= 0.05
