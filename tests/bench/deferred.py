"""How fast asynchronous calls are taken in, run and told about, and what a backlog of them does to live requests.

    python -m tests.bench.deferred [--count 5000] [--connections 32]

In one process, with one worker and a real file: what is measured is this program and the disk.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from tests.deferred.rig import DeferredRig, deferring
from tests.gateway.rig import Caller

BODY = b"x" * 200


def percentile(values: list[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def row(name: str, spans_s: list[float], elapsed_s: float) -> None:
    rate = len(spans_s) / elapsed_s
    p50, p99 = (percentile(spans_s, percent) * 1_000 for percent in (50, 99))
    sys.stdout.write(f"{name:<44} {rate:>8,.0f}/s   p50 {p50:>7.2f} ms   p99 {p99:>7.2f} ms\n")


async def timed(caller: Caller, method: str, target: str, body: bytes = b"") -> float:
    begun = time.perf_counter()
    caller.request(method, target, body=body)
    reply = await caller.reply()
    assert reply.status in (200, 202), reply
    return time.perf_counter() - begun


async def accepted(rig: DeferredRig, count: int, connections: int) -> None:
    async def submit(share: int) -> list[float]:
        caller = await rig.caller()
        return [await timed(caller, "POST", "/v2/sketch/x", BODY) for _ in range(share)]

    begun = time.perf_counter()
    spans = await asyncio.gather(*(submit(count // connections) for _ in range(connections)))
    elapsed_s = time.perf_counter() - begun
    row(f"accept, {connections} connections, 200 bytes", list(itertools.chain(*spans)), elapsed_s)


async def live(rig: DeferredRig, name: str, count: int) -> None:
    caller = await rig.caller()
    begun = time.perf_counter()
    spans = [await timed(caller, "GET", "/v1/sketch/x") for _ in range(count)]
    row(name, spans, time.perf_counter() - begun)


async def measure(count: int, connections: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with deferring(Path(directory)) as rig:
            await rig.workers("a")
            await live(rig, "live, alone, 1 connection", 500)
            rig.lane.set_ring([])
            await accepted(rig, count, connections)
            request_id = await rig.submit()
            caller = await rig.caller()
            begun = time.perf_counter()
            polls = [await timed(caller, "GET", f"/v2/requests/{request_id}") for _ in range(500)]
            row(f"poll, behind a backlog of {count:,}", polls, time.perf_counter() - begun)
            begun = time.perf_counter()
            rig.lane.set_ring([rig.slot(rig.upstreams[0])])
            await live(rig, "live, beside the backlog, 1 connection", 500)
            while rig.desk.stock.requests["sketch"]:
                await asyncio.sleep(0.01)
            elapsed_s = time.perf_counter() - begun
            sys.stdout.write(f"{'run and written, one worker':<44} {count / elapsed_s:>8,.0f}/s\n")
            assert rig.route.meter.failed_total == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5_000)
    parser.add_argument("--connections", type=int, default=32)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(measure(options.count, options.connections))


if __name__ == "__main__":
    main()
