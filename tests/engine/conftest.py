"""Fixtures for tests on a real Docker engine: skipped by name where none answers."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from orchestrator.engine.docker_client import connect
from orchestrator.engine.ports import EngineError
from tests.engine import docker_harness
from tests.engine.docker_harness import DockerHarness
from tests.waiting import until_sync


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[DockerHarness]:
    """An open DockerEngine with an instance id of its own, and what a test needs beside it."""
    reason = docker_harness.missing()
    if reason is not None:
        pytest.skip(reason)
    opened = await docker_harness.open_harness(tmp_path)
    try:
        yield opened
    finally:
        await opened.close()


class PrivateEngine:
    """A dockerd of the test's own, that may be killed. Its network and mounts are its own too: it disturbs no other
    engine's addresses and firewall and leaves nothing mounted; nothing in it can be reached from here."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.address = f"unix://{directory}/docker.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it answers. Raises AssertionError with the end of its log when it does not."""
        where = self.directory
        for stale in ("docker.sock", "dockerd.pid"):
            (where / stale).unlink(missing_ok=True)
        argv = ["unshare", "--net", "--mount", "dockerd", "--host", self.address, "--data-root", str(where / "data")]
        argv += ["--exec-root", str(where / "exec"), "--pidfile", str(where / "dockerd.pid")]
        argv += ["--iptables=false", "--ip-masq=false", "--bridge=none"]
        with (where / "dockerd.log").open("ab") as log:
            # A group of its own: an interrupt meant for pytest must not take it down first.
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
        until_sync(lambda: self._answers() or self._ended(), 30, "the private dockerd")
        assert not self._ended(), (where / "dockerd.log").read_text()[-2_000:]

    def kill(self) -> None:
        """SIGKILL. The kernel then kills its containerd; a daemon started before that has happened would take the dying
        one for its own."""
        assert self._process is not None
        containerd = self._containerd()
        self._process.kill()
        self._process.wait(10)
        until_sync(lambda: containerd is None or not containerd.exists(), 10, "the end of containerd")

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)

    def _containerd(self) -> Path | None:
        """The /proc directory of this daemon's containerd."""
        pidfile = self.directory / "exec" / "containerd" / "containerd.pid"
        return Path("/proc") / pidfile.read_text().strip() if pidfile.exists() else None

    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _answers(self) -> bool:
        # Not a bare APIClient: it leaves the socket of a refused connection to the garbage collector, as a warning.
        try:
            connect(self.address, 5.0).close()
        except EngineError:
            return False
        return True


@pytest.fixture
def private_engine() -> Iterator[PrivateEngine]:
    if os.geteuid() != 0 or shutil.which("dockerd") is None or shutil.which("unshare") is None:
        pytest.skip("a private dockerd needs root, dockerd and unshare")
    # Not tmp_path: containerd's socket lies deep below, and a socket's path has at most 107 bytes.
    directory = Path(tempfile.mkdtemp(prefix="gpudeck-dockerd-"))
    engine = PrivateEngine(directory)
    try:
        engine.start()
        yield engine
    finally:
        engine.stop()
        shutil.rmtree(directory, ignore_errors=True)
