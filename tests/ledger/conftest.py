"""Fixtures of the ledger's tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ledger.memory import MEMORY


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """An empty directory, in memory where there is one."""
    with tempfile.TemporaryDirectory(prefix="gpudeck-ledger-", dir=MEMORY) as name:
        yield Path(name)
