"""Ten minutes at three times what the workers can do: no wrong answer, and memory that stays where it is.

    python -m tests.bench.soak --minutes 10

The gateway runs in a process of its own, whose memory is measured; four workers and the clients in another. Clients
come at a fixed rate whether they are served or not: small and large bodies by length and by chunks, streams, pipelined
requests, WebSockets, slow readers, wrong keys, nonsense, and some that leave. Every reply is checked against its own
request; 503 and 504 are what an overloaded endpoint may say. Prints the counts and the slope of the memory; ends with 1
on a wrong answer or when memory grows by more than 64 KiB a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import random
import re
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import uvloop

from orchestrator.core.lane import Slot
from orchestrator.gateway.limits import Limits
from tests.gateway.rig import Caller, Rig
from tests.gateway.upstreams import Seen, Upstream, accept_of, read_body, switching

WORKERS = 4
SERVICE_S = 0.1
CAPACITY = WORKERS / SERVICE_S
"""Requests a second that four workers, each with one request at a time, can do."""
OVERLOAD = 3
PATIENCE_S = 30.0
WARM_UP = 0.25
"""Part of the time during which memory may still grow: caches fill, arenas are reserved."""
SLOPE_MAX = 64 * 1024
SAMPLE_S = 2.0
WEBSOCKET_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
KINDS = {
    "get": 30, "post": 20, "chunked": 10, "upload": 4, "stream": 8, "pipelined": 6, "websocket": 3, "slow reader": 2,
    "leaves": 10, "wrong key": 4, "nonsense": 3,
}  # fmt: skip


def proof(text: bytes) -> bytes:
    """What a worker answers to a body: nobody else's reply looks the same."""
    return hashlib.sha256(text).hexdigest().encode()


class Prover(Upstream):
    """Answers after its service time with the proof of target and body."""

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        method, target, _ = head[0].split(" ")
        pairs = [line.partition(":") for line in head[1:]]
        seen = Seen(method, target, [(name.lower(), value.strip()) for name, _, value in pairs])
        if seen.get("upgrade"):
            return bool(await self.reply_ws(seen, reader, writer))
        await read_body(seen, reader)
        await asyncio.sleep(SERVICE_S)
        await self.respond(seen, proof(target.encode() + seen.body), writer)
        await writer.drain()
        return True

    async def respond(self, seen: Seen, answer: bytes, writer: asyncio.StreamWriter) -> None:
        """`answer`, in the form that the target asks for."""
        if seen.target.startswith("/stream"):
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            for at in range(0, 64, 8):
                writer.write(b"8\r\n%b\r\n" % answer[at : at + 8])
                await writer.drain()
            writer.write(b"0\r\n\r\n")
        elif seen.target.startswith("/large"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (64 * 8_192))
            for _ in range(64):
                writer.write(answer * 128)
                await writer.drain()
        else:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 64\r\n\r\n" + answer)

    async def reply_ws(self, seen: Seen, r: asyncio.StreamReader, w: asyncio.StreamWriter) -> bool:
        w.write(switching(seen))
        for _ in range(5):
            w.write(await r.readexactly(20))
        w.close()
        await w.wait_closed()
        return False


class Crowd:
    """Clients that come at `rate` a second, and what became of them."""

    kinds: Mapping[str, int] = KINDS
    patience_s = PATIENCE_S

    def __init__(self, port: int, rate: float, seed: int) -> None:
        self.port = port
        self.rate = rate
        self.chance = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._serial = 0

    async def come(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        begin_s = loop.time()
        while (elapsed_s := loop.time() - begin_s) < seconds:
            while self._serial < elapsed_s * self.rate:
                self.one_more()
            await asyncio.sleep(0.01)
        await self.gone()

    def one_more(self) -> None:
        """A client comes."""
        self._serial += 1
        (kind,) = self.chance.choices(list(self.kinds), list(self.kinds.values()))
        task = asyncio.get_running_loop().create_task(self._one(kind, self._serial))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def gone(self) -> None:
        """Returns when nobody is left."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _one(self, kind: str, serial: int) -> None:
        try:
            async with asyncio.timeout(self.patience_s):
                caller = Caller(*await asyncio.open_connection("127.0.0.1", self.port))
                caller.patience_s = self.patience_s
                try:
                    told = await getattr(self, "_" + kind.replace(" ", "_"))(caller, serial)
                finally:
                    caller.close()
        except (OSError, asyncio.IncompleteReadError) as error:
            told = f"broken off ({type(error).__name__})"
            if kind != "leaves" and not self.excused(kind):
                self.wrong.append(f"{kind} {serial}: {told}")
        self.counts[f"{kind}: {told}"] += 1

    def excused(self, kind: str) -> bool:
        """There is a reason why a client of this kind may be cut off now."""
        return False

    def turned_away(self, status: int) -> bool:
        """What an overloaded endpoint may say instead of an answer."""
        return status in (503, 504)

    async def _answer(self, caller: Caller, expected: bytes, repeat: int = 1) -> str:
        reply = await caller.reply()
        if self.turned_away(reply.status):
            return str(reply.status)
        if reply.status != 200 or reply.body != proof(expected) * repeat:
            self.wrong.append(f"{reply.status} {reply.body[:80]!r} for {expected[:40]!r}")
            return "WRONG"
        return "200"

    def _body(self, most: int) -> bytes:
        return self.chance.randbytes(self.chance.randrange(1, most))

    async def _get(self, caller: Caller, serial: int) -> str:
        caller.request("GET", f"/v1/sketch/t?{serial}")
        return await self._answer(caller, b"/t?%d" % serial)

    async def _post(self, caller: Caller, serial: int) -> str:
        body = self._body(20_000)
        caller.request("POST", f"/v1/sketch/t?{serial}", body=body)
        return await self._answer(caller, b"/t?%d" % serial + body)

    async def _chunked(self, caller: Caller, serial: int) -> str:
        pieces = [self._body(3_000) for _ in range(self.chance.randrange(1, 8))]
        caller.request("POST", f"/v1/sketch/t?{serial}", "Transfer-Encoding: chunked")
        reading = asyncio.ensure_future(self._answer(caller, b"/t?%d" % serial + b"".join(pieces)))
        for coded in [*(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces), b"0\r\n\r\n"]:
            if not reading.done():  # else it has been refused
                caller.send(coded)
                await asyncio.sleep(0)
        return await reading

    async def _upload(self, caller: Caller, serial: int) -> str:
        """Larger than what may wait in memory."""
        body = self.chance.randbytes(self.chance.randrange(1_000_000, 3_000_000))
        caller.request("PUT", f"/v1/sketch/t?{serial}", body=body)
        return await self._answer(caller, b"/t?%d" % serial + body)

    async def _stream(self, caller: Caller, serial: int) -> str:
        caller.request("GET", f"/v1/sketch/stream?{serial}")
        return await self._answer(caller, b"/stream?%d" % serial)

    async def _pipelined(self, caller: Caller, serial: int) -> str:
        for n in range(3):
            caller.request("POST", f"/v1/sketch/t?{serial}-{n}", body=b"%d" % n)
        told = [await self._answer(caller, b"/t?%d-%d%d" % (serial, n, n)) for n in range(3)]
        return "200" if told == ["200"] * 3 else "503" if "WRONG" not in told else "WRONG"

    async def _websocket(self, caller: Caller, serial: int) -> str:
        lines = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
        caller.request("GET", f"/v1/sketch/ws?{serial}", *lines, f"Sec-WebSocket-Key: {WEBSOCKET_KEY}")
        head = await caller.head()
        if self.turned_away(head.status):
            return str(head.status)
        said = b"\x82\x8e\x00\x00\x00\x00" + b"%014d" % serial
        good = head.get("sec-websocket-accept") == accept_of(WEBSOCKET_KEY)
        for _ in range(5):
            caller.send(said)
            good = good and await caller.reader.readexactly(20) == said
        good = good and await caller.reader.read() == b""
        if not good:
            self.wrong.append(f"websocket {serial}")
        return "101" if good else "WRONG"

    async def _slow_reader(self, caller: Caller, serial: int) -> str:
        caller.writer.transport.pause_reading()
        caller.request("GET", f"/v1/sketch/large?{serial}")
        await asyncio.sleep(self.chance.random() * 0.2)
        caller.writer.transport.resume_reading()
        return await self._answer(caller, b"/large?%d" % serial, repeat=8_192)

    async def _leaves(self, caller: Caller, serial: int) -> str:
        body = self._body(200_000)
        caller.request("POST", f"/v1/sketch/t?{serial}", f"Content-Length: {len(body)}")
        caller.send(body[: self.chance.randrange(len(body) + 1)])
        await asyncio.sleep(self.chance.random() * 0.5)
        return "left"

    async def _wrong_key(self, caller: Caller, serial: int) -> str:
        caller.request("GET", f"/v1/sketch/t?{serial}", key=f"wrong {serial % 7}")
        return self._expect(await caller.reply(), (401, 429))

    async def _nonsense(self, caller: Caller, serial: int) -> str:
        caller.send(f"GET /v1/sketch/t?{serial} HTTP/1.1\r\nHost: localhost\r\nx-a : 1\r\n\r\n")
        return self._expect(await caller.reply(), (400,))

    def _expect(self, reply: object, statuses: tuple[int, ...]) -> str:
        status = reply.status  # type: ignore[attr-defined]
        if status not in statuses:
            self.wrong.append(f"{status} instead of {statuses}")
        return str(status)


def rss_bytes(pid: int) -> int:
    match = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024


def slope(samples: list[tuple[float, int]]) -> float:
    """Bytes a second: the line through the samples, by least squares."""
    count = len(samples)
    mean_s = sum(at for at, _ in samples) / count
    mean = sum(value for _, value in samples) / count
    spread = sum((at - mean_s) ** 2 for at, _ in samples)
    return sum((at - mean_s) * (value - mean) for at, value in samples) / spread if spread else 0.0


async def measure(pid: int, samples: list[tuple[float, int]]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        samples.append((loop.time(), rss_bytes(pid)))
        await asyncio.sleep(SAMPLE_S)


async def soak(minutes: float, seed: int) -> int:
    workers = [await Prover(f"w{n}").start() for n in range(WORKERS)]
    ports = ",".join(str(worker.port) for worker in workers)
    command = [sys.executable, "-m", "tests.bench.soak", "--serve", ports]
    samples: list[tuple[float, int]] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdin is not None
        assert host.stdout is not None
        crowd = Crowd(int(host.stdout.readline()), CAPACITY * OVERLOAD, seed)
        measuring = asyncio.ensure_future(measure(host.pid, samples))
        await crowd.come(minutes * 60)
        measuring.cancel()
        host.stdin.close()
        left = await asyncio.to_thread(host.stdout.read)
        status = host.wait(20)
    for worker in workers:
        await worker.stop()
    return report(crowd, samples, left.strip(), status)


def report(crowd: Crowd, samples: list[tuple[float, int]], left: str, status: int) -> int:
    warm = samples[int(len(samples) * WARM_UP) :]
    growth = slope(warm) * 60
    requests = sum(crowd.counts.values())
    served = sum(count for told, count in crowd.counts.items() if told.endswith((": 200", ": 101")))
    lines = [f"{told:<40}{count:>9}" for told, count in sorted(crowd.counts.items())]
    lines += [
        f"{requests} clients, {served} served, {len(crowd.wrong)} wrong",
        f"memory {warm[0][1] / 2**20:.1f} MiB after warm-up, {warm[-1][1] / 2**20:.1f} MiB at the end, "
        f"at most {max(value for _, value in samples) / 2**20:.1f} MiB; slope {growth / 1024:+.1f} KiB a minute",
        f"left behind: {left or '?'}",
        *crowd.wrong[:20],
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if not crowd.wrong and growth <= SLOPE_MAX and left == "nothing" and status == 0 else 1


async def serve(ports: list[int]) -> None:
    """The gateway, in front of workers at `ports`, until standard input ends."""
    rig = Rig()
    rig.route = rig.add_route("sketch", queue_limit=200)
    rig.route.queue_timeout_s = 10
    await rig.listen(replace(Limits(), connections=4_000, connections_per_peer=4_000))
    lane = rig.route.lane
    lane.set_ring([Slot(f"id-{n}", f"w{n}", "127.0.0.1", port, 1, rig.now()) for n, port in enumerate(ports)])
    sys.stdout.write(f"{rig.gateway.port}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    left = {
        "running": lane.running,
        "queued": lane.queued,
        "bytes": lane.queued_bytes,
        "clients": rig.gateway.connections,
    }
    await rig.gateway.close()
    sys.stdout.write(", ".join(f"{count} {name}" for name, count in left.items() if count) or "nothing")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve([int(port) for port in options.serve.split(",")]))
        return 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8_192)), hard))
    return uvloop.run(soak(options.minutes, options.seed))


if __name__ == "__main__":
    sys.exit(main())
