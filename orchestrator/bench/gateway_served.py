"""The gateway under test, as a program of its own: the real gateway, routing table, lane and meter, without an owner
loop beside them. It writes one JSON line with its port to stdout and serves until SIGTERM or the end of stdin.

It imports the gateway of whatever tree is on the path, so that two trees can be measured in turn (`--beside`).
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import hashlib
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final

from orchestrator.clock import system_now
from orchestrator.contract.endpoint import Visibility
from orchestrator.controller.feed import LaneFeed
from orchestrator.core.lane import Lane, Slot
from orchestrator.core.routing import KeyGrant, Route, RoutingTable
from orchestrator.core.traffic import Meter
from orchestrator.gateway.server import Gateway

TICK_S: Final = 0.25
"""The owner loop reads every lane this often, in the same event loop: that cost belongs to the figures,"""
VIEWED: Final = 4
"""and every so many ticks what somebody at the screen looks at."""
CONCURRENCY: Final = 4_096
"""Requests a worker takes at once: the queue is not what is measured, nginx and HAProxy have none."""


def route_to(slug: str, workers: Sequence[int], now_ns: int) -> Route:
    """An endpoint whose workers listen on the ports `workers` of 127.0.0.1."""
    lane = Lane(slug, queue_limit=10_000, queue_bytes_limit=1 << 30)
    lane.set_ring([Slot(f"{slug}-{port}", slug, "127.0.0.1", port, CONCURRENCY, now_ns) for port in workers])
    return Route(slug, "local", Visibility.PRIVATE, lane, Meter(), "/predict", 600, 600, cancels=False)


async def serve(endpoints: Mapping[str, Sequence[int]], key: str) -> None:
    """Serve `endpoints` (slug to workers' ports) on a free port for holders of `key`, until told to stop."""
    now = system_now()
    routes = {slug: route_to(slug, workers, now()) for slug, workers in endpoints.items()}
    table = RoutingTable(routes=routes, balances_u={"local": 25_500_000}, ready=True)
    table.keys[hashlib.sha256(key.encode()).digest()] = KeyGrant("bench", "local")
    gateway = Gateway(table, now)
    await gateway.start("127.0.0.1", 0)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_reader(sys.stdin.fileno(), stop.set)  # nothing is ever sent: readable means that our parent is gone
    _settle_heap()
    sys.stdout.write(json.dumps({"port": gateway.port}) + "\n")
    sys.stdout.flush()
    feeds = [(route, LaneFeed(route.meter)) for route in routes.values()]
    for tick in count():
        if stop.is_set():
            break
        for route, feed in feeds:
            feed.read(now(), route.lane, table.in_flight)
            if tick % VIEWED == 0:
                route.meter.view(now())
        try:
            async with asyncio.timeout(TICK_S):
                await stop.wait()
        except TimeoutError:
            continue
    await gateway.close()


def functions_of(profile: cProfile.Profile) -> list[dict[str, Any]]:
    """Every function that ran: its name with its file, how often it was called, and the seconds spent in itself."""
    found = []
    for entry in profile.getstats():
        code = entry.code
        name = code if isinstance(code, str) else f"{code.co_name} ({Path(code.co_filename).name})"
        found.append({"function": name, "calls": entry.callcount, "self_s": entry.inlinetime})
    return found


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--route", action="append", required=True, metavar="SLUG=PORT,PORT", help="repeatable")
    parser.add_argument("--key", required=True)
    parser.add_argument("--profile", help="file for what cProfile saw, as JSON, written at the end")
    options = parser.parse_args(arguments)
    profile = cProfile.Profile() if options.profile else None
    pairs = [text.partition("=")[::2] for text in options.route]
    endpoints = {slug: [int(port) for port in ports.split(",")] for slug, ports in pairs}
    with _runner() as runner:
        if profile is not None:
            profile.enable()
        runner.run(serve(endpoints, options.key))
    if profile is not None:
        profile.disable()
        Path(options.profile).write_text(json.dumps(functions_of(profile)), encoding="utf-8")
    return 0


def _runner() -> asyncio.Runner:
    """The loop that `orchestrator serve` uses."""
    try:
        from orchestrator.serving import new_runner
    except ImportError:  # another tree, older than that module
        import uvloop

        return asyncio.Runner(loop_factory=uvloop.new_event_loop)
    return new_runner()


def _settle_heap() -> None:
    try:
        from orchestrator.serving import settle_heap
    except ImportError:
        return
    settle_heap()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
