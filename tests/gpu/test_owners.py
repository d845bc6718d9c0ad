"""From a process id to its worker, on real processes and on a /proc written by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.gpu.owners import DEPTH_MAX, worker_of
from tests.waiting import until_sync

CHILD = "import os, sys; print(os.getpid(), flush=True); sys.stdin.read()"
GRANDCHILD = (
    "import subprocess, sys, os; os.environ.pop('GPUDECK_WORKER', None);"
    f"subprocess.run([sys.executable, '-c', {CHILD!r}])"
)


@pytest.fixture
def spawn() -> Iterator[object]:
    running: list[subprocess.Popen[str]] = []

    def start(program: str, **environ: str) -> int:
        """Start a program that prints the pid of interest; returns that pid."""
        base = {key: value for key, value in os.environ.items() if key != "GPUDECK_WORKER"}
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**base, **environ},
        )
        running.append(process)
        assert process.stdout is not None
        return int(process.stdout.readline())

    yield start
    for process in running:
        process.communicate(timeout=20)


def write(proc: Path, pid: int, parent: int, environ: bytes | None = b"", command: str = "python") -> None:
    (proc / str(pid)).mkdir()
    (proc / str(pid) / "stat").write_text(f"{pid} ({command}) S {parent} 1 1 0 -1\n")
    if environ is not None:
        (proc / str(pid) / "environ").write_bytes(environ)


def test_a_worker_process_is_known_by_its_environment(spawn) -> None:  # type: ignore[no-untyped-def]
    assert worker_of(spawn(CHILD, GPUDECK_WORKER="w-17")) == "w-17"


def test_a_child_that_dropped_the_variable_is_known_by_its_parent(spawn) -> None:  # type: ignore[no-untyped-def]
    assert worker_of(spawn(GRANDCHILD, GPUDECK_WORKER="w-18")) == "w-18"


@pytest.mark.skipif("GPUDECK_WORKER" in os.environ, reason="these tests themselves run inside a worker")
def test_a_foreign_process_has_no_worker(spawn) -> None:  # type: ignore[no-untyped-def]
    assert worker_of(spawn(CHILD)) is None


def test_a_process_that_ended_has_no_worker() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], env={"GPUDECK_WORKER": "w-19"})
    process.wait(20)
    until_sync(lambda: not Path(f"/proc/{process.pid}").exists(), what="the process to be gone")
    assert worker_of(process.pid) is None


def test_the_nearest_ancestor_decides(tmp_path: Path) -> None:
    write(tmp_path, 1, 0)
    write(tmp_path, 20, 1, b"GPUDECK_WORKER=outer\0")
    write(tmp_path, 30, 20, b"A=1\0GPUDECK_WORKER=inner\0B=2\0")
    write(tmp_path, 40, 30, b"XGPUDECK_WORKER=not-this\0GPUDECK_WORKERS=nor-this\0")
    assert worker_of(40, tmp_path) == "inner"
    assert worker_of(20, tmp_path) == "outer"
    assert worker_of(1, tmp_path) is None


def test_a_command_name_with_parentheses_does_not_hide_the_parent(tmp_path: Path) -> None:
    write(tmp_path, 20, 1, b"GPUDECK_WORKER=w\0")
    write(tmp_path, 30, 20, command="a) S 99 (b")
    assert worker_of(30, tmp_path) == "w"


def test_an_environment_that_may_not_be_read_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, 20, 1, b"GPUDECK_WORKER=w\0")
    write(tmp_path, 30, 20, environ=None)
    (tmp_path / "30" / "environ").mkdir()  # opening it fails for every user, root included
    assert worker_of(30, tmp_path) == "w"
    write(tmp_path, 50, 1, environ=None)
    (tmp_path / "50" / "environ").mkdir()
    assert worker_of(50, tmp_path) is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every environment")
def test_another_user_s_process_is_not_known() -> None:
    assert worker_of(1) is None


@pytest.mark.parametrize("claim", [b"", b"a b", b"\x1b[31m", b"../x", "é".encode(), b"x" * 129])
def test_a_claim_that_is_no_worker_id_is_none(tmp_path: Path, claim: bytes) -> None:
    write(tmp_path, 20, 1, b"GPUDECK_WORKER=" + claim + b"\0")
    assert worker_of(20, tmp_path) is None


def test_a_circle_of_parents_ends(tmp_path: Path) -> None:
    write(tmp_path, 20, 30)
    write(tmp_path, 30, 20)
    assert worker_of(20, tmp_path) is None


def test_a_chain_longer_than_the_limit_is_foreign(tmp_path: Path) -> None:
    write(tmp_path, 100, 1, b"GPUDECK_WORKER=w\0")
    for pid in range(101, 100 + DEPTH_MAX + 1):
        write(tmp_path, pid, pid - 1)
    assert worker_of(100 + DEPTH_MAX - 1, tmp_path) == "w"
    assert worker_of(100 + DEPTH_MAX, tmp_path) is None


@pytest.mark.parametrize("stat", ["", "20", "20 (x", "20 (x) S", "20 (x) S -1 2"])
def test_a_stat_of_another_shape_has_no_parent(tmp_path: Path, stat: str) -> None:
    write(tmp_path, 20, 1)
    (tmp_path / "20" / "stat").write_text(stat)
    assert worker_of(20, tmp_path) is None


@pytest.mark.parametrize("pid", [0, -1])
def test_no_process_has_no_worker(pid: int) -> None:
    assert worker_of(pid) is None
