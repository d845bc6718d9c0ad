"""Clients that leave at any moment, ten thousand of them: no slot is lost, every worker sees its connection end.

    python -m tests.bench.cancellations --count 10000

Real sockets, one process. Each client leaves in a stage chosen at random (queued, connecting, uploading, waiting,
streaming), in good order or by a reset, after a random moment. Prints per stage how many left in it, and how long it
took until the worker saw the end of its connection; ends with 1 if anything is left behind or took a second.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import uvloop

from orchestrator.core.lane import Lane, Slot
from orchestrator.gateway.limits import Limits
from orchestrator.gateway.sockets import reset_on_close
from tests.gateway.rig import Caller, Rig
from tests.waiting import until

STAGES = ("queued", "connecting", "uploading", "waiting", "streaming")
AT_ONCE = 64
LIMIT_S = 1.0
UPLOAD_BYTES = 4 * 1024**2


class Ear(asyncio.Protocol):
    """A worker's connection: never finishes a reply, and notes when its request came and when its connection ended."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.serial: int | None = None
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.worker.open += 1

    def data_received(self, data: bytes) -> None:
        if self.serial is not None:
            return
        self._head += data
        if b"\r\n\r\n" not in self._head:
            return
        path, _, serial = self._head.split(b" ", 2)[1].partition(b"?")
        self._head = b""
        if path == b"/done":
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            return
        self.serial = int(serial)
        self.worker.came[self.serial] = asyncio.get_running_loop().time()
        if path == b"/stream":
            self.transport.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            self._stream()

    def _stream(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(b"5\r\nevent\r\n")
            asyncio.get_running_loop().call_later(0.002, self._stream)

    def connection_lost(self, exc: Exception | None) -> None:
        self.worker.open -= 1
        if self.serial is not None:
            self.worker.ended[self.serial] = asyncio.get_running_loop().time()


@dataclass
class Worker:
    """`came` and `ended`: loop time by the client's number."""

    came: dict[int, float] = field(default_factory=dict)
    ended: dict[int, float] = field(default_factory=dict)
    open: int = 0


@contextmanager
def deaf_port() -> Iterator[int]:
    """A port where connections are neither accepted nor refused: the queue of the listening socket is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        try:
            yield int(listener.getsockname()[1])
        finally:
            for filler in fillers:
                filler.close()


@dataclass
class Outcome:
    """What the round found. `late_s` is how long a worker took to see the end, by stage."""

    left: Counter[str] = field(default_factory=Counter)
    late_s: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})
    remains: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not self.remains and all(max(late, default=0) < LIMIT_S for late in self.late_s.values())


class Round:
    """One run over a rig with a lane per stage that needs one."""

    def __init__(self, rig: Rig, worker: Worker, seed: int) -> None:
        self.rig = rig
        self.worker = worker
        self.chance = random.Random(seed)
        self.limit = asyncio.Semaphore(AT_ONCE)
        self.outcome = Outcome()
        self.left_s: dict[int, tuple[str, float]] = {}

    async def one(self, serial: int) -> None:
        stage = self.chance.choice(STAGES)
        async with self.limit:
            caller = Caller(*await asyncio.open_connection("127.0.0.1", self.rig.gateway.port))
            try:
                await getattr(self, stage)(caller, serial)
            finally:
                if self.chance.random() < 0.5:
                    reset_on_close(caller.writer.transport)
                self.left_s[serial] = stage, asyncio.get_running_loop().time()
                self.outcome.left[stage] += 1
                caller.close()

    async def moment(self) -> None:
        """Nothing, some turns of the loop, or some milliseconds."""
        for _ in range(self.chance.randrange(4)):
            await asyncio.sleep(0)
        if self.chance.random() < 0.5:
            await asyncio.sleep(self.chance.random() * 0.01)

    async def arrival(self, serial: int) -> None:
        """Mostly until the worker has the request."""
        if self.chance.random() < 0.8:
            await until(lambda: serial in self.worker.came)

    async def queued(self, caller: Caller, serial: int) -> None:
        caller.request("POST", f"/v1/full/t?{serial}", body=b"x" * self.chance.choice([0, 1, 3_000_000]))
        await self.moment()

    async def connecting(self, caller: Caller, serial: int) -> None:
        caller.request("GET", f"/v1/deaf/t?{serial}")
        await self.moment()

    async def uploading(self, caller: Caller, serial: int) -> None:
        caller.request("POST", f"/v1/sketch/upload?{serial}", f"Content-Length: {UPLOAD_BYTES}")
        for _ in range(self.chance.randrange(12)):
            caller.send(b"x" * self.chance.randrange(1, 65_536))
            await self.moment()
        await self.arrival(serial)

    async def waiting(self, caller: Caller, serial: int) -> None:
        caller.request("GET", f"/v1/sketch/wait?{serial}")
        await self.arrival(serial)
        await self.moment()

    async def streaming(self, caller: Caller, serial: int) -> None:
        caller.request("GET", f"/v1/sketch/stream?{serial}")
        await caller.head()
        for _ in range(self.chance.randrange(6)):
            await caller.chunk()
        await self.moment()

    async def settle(self) -> None:
        """Wait until all is over, and write down what is left and what was late."""
        rig, outcome = self.rig, self.outcome
        checks = {
            "client connections": lambda: rig.gateway.connections,
            "requests in flight": lambda: sum(route.lane.running for route in rig.table.routes.values()),
            "queued requests": lambda: sum(route.lane.queued for route in rig.table.routes.values()),
            "queued bytes": lambda: sum(route.lane.queued_bytes for route in rig.table.routes.values()),
            "attempts to connect": lambda: len(rig.gateway.hub.tasks),
            "spooled bytes": lambda: Limits().spool_bytes - rig.gateway.hub.disk.left,
            "connections of workers": lambda: len(self.worker.came) - len(self.worker.ended),
        }
        with suppress(AssertionError):
            await until(lambda: not any(count() for count in checks.values()), timeout_s=30)
        outcome.remains += [f"{count()} {name}" for name, count in checks.items() if count()]
        for serial, ended_s in self.worker.ended.items():
            stage, left_s = self.left_s[serial]
            outcome.late_s[stage].append(max(0.0, ended_s - left_s))


async def run(count: int, seed: int) -> Outcome:
    """`count` clients leave; afterwards the gateway serves as if there had been none."""
    rig, worker = Rig(), Worker()
    await rig.listen(Limits(connections=1_000, connections_per_peer=1_000, connect_s=60))
    server = await asyncio.get_running_loop().create_server(lambda: Ear(worker), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    rig.lane.set_ring([Slot(f"id-{n}", f"w{n}", "127.0.0.1", port, AT_ONCE, rig.now()) for n in range(2)])
    rig.add_route("full")
    stuck: Lane = rig.add_route("deaf").lane
    with deaf_port() as nowhere:
        stuck.set_ring([Slot("id-deaf", "deaf", "127.0.0.1", nowhere, AT_ONCE, rig.now())])
        this = Round(rig, worker, seed)
        await asyncio.gather(*(this.one(serial) for serial in range(count)))
        await this.settle()
    for _ in range(2 * AT_ONCE):
        reply = await rig.call("GET", "/v1/sketch/done")
        if reply.status != 200:
            this.outcome.remains.append(f"status {reply.status} afterwards")
    await rig.finish()
    server.close()
    return this.outcome


def report(outcome: Outcome) -> str:
    lines = [f"{'stage':<12}{'left':>8}{'at a worker':>13}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}"]
    for stage in STAGES:
        late = sorted(outcome.late_s[stage])
        figures = [late[int(q * (len(late) - 1))] * 1_000 for q in (0.5, 0.99, 1)] if late else []
        cells = "".join(f"{figure:>9.1f}" for figure in figures) or "".join(f"{'–':>9}" for _ in range(3))
        lines.append(f"{stage:<12}{outcome.left[stage]:>8}{len(late):>13}{cells}")
    lines.append("left behind: " + (", ".join(outcome.remains) or "nothing"))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cancellations", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    outcome = uvloop.run(run(options.count, options.seed))
    sys.stdout.write(report(outcome) + "\n")
    return 0 if outcome.good else 1


if __name__ == "__main__":
    sys.exit(main())
