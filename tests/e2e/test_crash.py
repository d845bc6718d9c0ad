"""Every crash point once and a few random SIGKILLs, with the process engine; tests/bench/crash.py is the long form."""

from __future__ import annotations

import tempfile
from pathlib import Path

from orchestrator.crash import POINTS
from tests.bench.crash import run

RANDOM = 5


async def test_nothing_is_lost_at_any_crash_point() -> None:
    with tempfile.TemporaryDirectory(prefix="gpudeck-") as root:
        tally = await run("process", POINTS, RANDOM, Path(root), lanes=2, live_every=8)
    assert tally.problems == []
    assert set(tally.kills) == {*POINTS, "random"}, "a point was not reached"
    assert sum(tally.kills.values()) == len(POINTS) + RANDOM
    assert (tally.drift_u, tally.twins, tally.orphans, tally.unanswered) == (0, 0, 0, 0)
    assert tally.adopted > 0
    assert tally.requests["200"] > 0
