"""A gateway and its worker in a process of their own, with few descriptors: what it has for memory can be measured, and
what it runs out of is not the test's.

    python -m tests.gateway.small_host DESCRIPTORS

Prints the gateway's port, ends with its standard input.
"""

from __future__ import annotations

import asyncio
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from orchestrator.gateway.limits import Limits
from tests.gateway.rig import Rig


async def serve() -> None:
    rig = Rig()
    # On a slow machine a test needs longer than the usual ten seconds until it has looked at thousands of connections.
    await rig.listen(Limits(head_deadline_s=120))
    await rig.workers("a", concurrency=64)
    sys.stdout.write(f"{rig.gateway.port}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await rig.gateway.close()
    for upstream in rig.upstreams:
        await upstream.stop()


@dataclass(frozen=True)
class Host:
    """A running one."""

    pid: int
    port: int

    @property
    def rss_bytes(self) -> int:
        return self._status("VmRSS")

    @property
    def peak_bytes(self) -> int:
        """The most it has had since `forget_peak`."""
        return self._status("VmHWM")

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    @property
    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def _status(self, name: str) -> int:
        match = re.search(rf"^{name}:\s+(\d+) kB$", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
        assert match is not None
        return int(match[1]) * 1024


@contextmanager
def small_host(descriptors: int) -> Iterator[Host]:
    """Run one. It must end in good order."""
    command = [sys.executable, "-m", "tests.gateway.small_host", str(descriptors)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield Host(process.pid, int(process.stdout.readline()))
        process.stdin.close()
        assert process.wait(20) == 0


if __name__ == "__main__":
    limit = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    uvloop.run(serve())
