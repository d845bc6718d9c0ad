"""A fake machine per test, on a library built once per session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gpu.fake_driver import Boot, Gpu, Machine, build


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def boot(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Boot]:
    """Start a machine with these GPUs, on the usual library unless another directory is given."""
    machines: list[Machine] = []

    def start(*gpus: Gpu, lines: tuple[str, ...] = (), libraries: Path | None = None, **options: object) -> Machine:
        where = libraries or request.getfixturevalue("library")
        machine = Machine(tmp_path, where, **options)
        machines.append(machine)
        machine.set(*gpus, lines=lines)
        return machine.run()

    yield start
    for machine in machines:
        assert machine.end() == 0
