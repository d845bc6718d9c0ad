"""Two creates at once with credit for one: exactly one passes. tests/bench/creates.py does it a thousand times."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.bench.creates import race
from tests.ledger.memory import MEMORY

ROUNDS = 25


async def test_exactly_one_of_two_concurrent_creates_passes() -> None:
    with tempfile.TemporaryDirectory(prefix="gpudeck-", dir=MEMORY) as directory:
        assert await race(ROUNDS, Path(directory)) == ROUNDS
