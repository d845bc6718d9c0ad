"""The real worker as a child process on a free port, its output in a file."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.waiting import until_sync

ROOT = Path(__file__).resolve().parents[2]
LISTENING = re.compile(r"listening on (http://\S+)")


class Worker:
    """One running server. `url` is known once it listens."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self._output = output
        self.url = ""
        self.client = httpx.Client(timeout=30, trust_env=False)

    def log(self) -> str:
        return self._output.read_text()

    def health(self) -> int:
        return self.client.get(f"{self.url}/health").status_code

    def predict(self, **options: object) -> httpx.Response:
        return self.client.post(f"{self.url}/predict", json=options)

    def about(self) -> dict[str, object]:
        document: dict[str, object] = self.client.get(f"{self.url}/").json()
        return document

    def memory_bytes(self, field: str) -> int:
        """`VmRSS` (now) or `VmHWM` (peak) of the process."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{field}:\s+(\d+) kB", status).group(1)) * 1024  # type: ignore[union-attr]

    def end(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def start(output: Path, *arguments: str, argv: tuple[str, ...] | None = None, **environ: str) -> Worker:
    """Start `python -m orchestrator.worker arguments --port 0`, or `argv`, and wait until it listens."""
    command = argv or (sys.executable, "-m", "orchestrator.worker", *arguments, "--port", "0")
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **environ}
        )
    worker = Worker(process, output)
    until_sync(lambda: LISTENING.search(worker.log()) or process.poll() is not None, 30, "the worker to listen")
    found = LISTENING.search(worker.log())
    assert found, worker.log()
    worker.url = found.group(1)
    return worker


@contextmanager
def running(
    output: Path, *arguments: str, ready: bool = True, argv: tuple[str, ...] | None = None, **environ: str
) -> Iterator[Worker]:
    """`start`, then (unless `ready` is False) wait for health; killed at the end if it still runs."""
    worker = start(output, *arguments, argv=argv, **environ)
    try:
        if ready:
            until_sync(lambda: worker.health() == 200, 30, "the worker to be healthy")
        yield worker
        assert "Traceback" not in worker.log(), worker.log()
    finally:
        worker.client.close()
        worker.process.kill()
        worker.process.wait(10)
