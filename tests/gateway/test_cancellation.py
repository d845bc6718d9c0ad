"""Clients that leave at any moment: 2,000 of them, and nothing may be left behind (reliability.md, W1 to W3)."""

from __future__ import annotations

import asyncio
import random

from tests.gateway.rig import KEY, Rig
from tests.waiting import until

CLIENTS = 2_000
AT_ONCE = 50
HEAD = f"POST /v1/sketch/{{}} HTTP/1.1\r\nHost: localhost\r\nx-api-key: {KEY}\r\n"


async def test_two_thousand_cancellations_leave_nothing(rig: Rig) -> None:
    workers = await rig.workers("a", "b", concurrency=4)
    chance = random.Random(7)
    gates = asyncio.ensure_future(open_and_shut(workers))
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(n: int) -> None:
        async with limit:
            _, writer = await asyncio.open_connection("127.0.0.1", rig.gateway.port)
            data = request(chance, n)
            writer.write(data[: chance.randrange(len(data) + 1)])
            if chance.random() < 0.3:
                writer.write(data)
            for _ in range(chance.randrange(12)):
                await asyncio.sleep(0)
            if chance.random() < 0.3:
                await asyncio.sleep(chance.random() * 0.01)
            if chance.random() < 0.5:
                writer.transport.abort()
            else:
                writer.close()

    await asyncio.gather(*(one(n) for n in range(CLIENTS)))
    await until(lambda: rig.gateway.connections == 0)
    await until(rig.idle)
    gates.cancel()
    assert (rig.lane.queued, rig.lane.running, rig.lane.queued_bytes) == (0, 0, 0)
    for worker in workers:
        worker.gate.set()
    slots = list(rig.lane.slots.values())
    assert sum(slot.served for slot in slots) > CLIENTS / 10, "most of them should have reached a worker"
    assert rig.gateway.worker_connections <= 8, "never more connections than requests at a time"
    rig.lane.set_ring(slots)
    for slot in slots:
        slot.suspect = False
    for _ in range(8):
        assert (await rig.call("GET", "/v1/sketch/ok")).status == 200


def request(chance: random.Random, n: int) -> bytes:
    """One of the ways a request can look."""
    path = chance.choice(["ok", "echo", "slow", "sse", "body", "big?20", "die", "half"])
    head = HEAD.format(path).encode()
    kind = n % 4
    if kind == 0:
        return head + b"\r\n"
    if kind == 1:
        return head + b"Content-Length: 3000\r\n\r\n" + b"x" * 3_000
    if kind == 2:
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + (b"64\r\n" + b"x" * 100 + b"\r\n") * 20 + b"0\r\n\r\n"
    return head + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc" + head + b"\r\n"


async def open_and_shut(workers: list) -> None:
    """Let slow replies and events go, now and then."""
    while True:
        for worker in workers:
            worker.gate.set()
            worker.step.release()
        await asyncio.sleep(0.003)
        for worker in workers:
            worker.gate.clear()
        await asyncio.sleep(0.003)
