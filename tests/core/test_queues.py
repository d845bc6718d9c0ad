"""Queue depths for the dashboard: once a second, per endpoint, for two minutes."""

from __future__ import annotations

from orchestrator.contract.base import SECOND_NS
from orchestrator.core.queues import SERIES_KEPT, QueueDepths
from tests.core.world import World


def test_depths_are_taken_once_a_second_and_forgotten_with_the_endpoint() -> None:
    world, depths = World(), QueueDepths()
    world.create(setup="0-1")
    for _ in range(3):
        world.request()
    start_ns = world.now_ns // SECOND_NS * SECOND_NS
    depths.sample(start_ns, world.table.routes)
    depths.sample(start_ns + SECOND_NS // 2, world.table.routes)
    assert depths.series() == {"echo": (3,)}
    for second in range(1, SERIES_KEPT + 5):
        depths.sample(start_ns + second * SECOND_NS, world.table.routes)
    assert depths.series() == {"echo": (3,) * SERIES_KEPT}
    depths.sample(start_ns + 1_000 * SECOND_NS, {})
    assert depths.series() == {}
