"""An open-loop client: requests are due at even distances, whatever the replies do, and a latency counts from when its
request was due. A closed loop waits for a slow reply before it sends the next request, and so never sees the queue that
a stall makes; this one does.

One thread, plain sockets, no event loop: those wait in milliseconds, and requests are due every 50 µs or so. What it
cannot hide is its own lateness, so it reports that too: a latency below `late_p99_us` says nothing about the proxy.
"""

from __future__ import annotations

import argparse
import gc
import json
import select
import socket
import sys
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from orchestrator.clock import system_now
from orchestrator.contract.base import SECOND_NS

SPIN_NS: Final = 20_000
"""A wait shorter than this is spent looking at the clock: falling asleep and waking up takes about as long."""
DRAIN_NS: Final = 2 * SECOND_NS
"""Replies that are later than this after the last request count as failures."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What came of one run. Latencies are from when a request was due to its last byte."""

    sent: int
    failed: int
    rate: float
    """Requests per second that were really sent."""
    p50_us: float
    p99_us: float
    late_p99_us: float
    """How late requests left this program because it was busy or had no free connection."""


@dataclass(slots=True)
class _Flight:
    sock: socket.socket
    due_ns: int = 0
    got: bytes = b""


def run_pace(port: int, request: bytes, body_bytes: int, rate: float, seconds: float, connections: int) -> Pace:
    """Send `request` to 127.0.0.1:`port` `rate` times a second for `seconds`, on `connections` kept connections.
    Every reply must be 200 with a body of `body_bytes`. Raises OSError when it cannot connect, or is hung up on."""
    client = _Client(port, request, body_bytes, connections, system_now())
    try:
        return client.run(int(SECOND_NS / rate), int(rate * seconds))
    finally:
        client.close()


class _Client:
    def __init__(self, port: int, request: bytes, body_bytes: int, connections: int, now: Callable[[], int]) -> None:
        self._request = request
        self._body_bytes = body_bytes
        self._now = now
        self._epoll = select.epoll()
        self._flights: dict[int, _Flight] = {}
        for _ in range(connections):
            sock = socket.create_connection(("127.0.0.1", port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
            self._flights[sock.fileno()] = _Flight(sock)
            self._epoll.register(sock.fileno(), select.EPOLLIN)
        self._idle = deque(self._flights.values())
        self._latencies = array("q")
        self._lateness = array("q")
        self._failed = 0

    def close(self) -> None:
        self._epoll.close()
        for flight in self._flights.values():
            flight.sock.close()

    def run(self, gap_ns: int, count: int) -> Pace:
        now, idle, lateness = self._now, self._idle, self._lateness
        begin_ns = due_ns = now() + gap_ns
        sent = 0
        while sent < count:
            now_ns = now()
            while due_ns <= now_ns and sent < count and idle:
                flight = idle.popleft()
                flight.due_ns = due_ns
                flight.sock.send(self._request)
                lateness.append(now_ns - due_ns)
                due_ns += gap_ns
                sent += 1
            self._receive(due_ns if idle else now_ns + SECOND_NS)
        took_ns = now() - begin_ns
        until_ns = now() + DRAIN_NS
        while len(idle) < len(self._flights) and now() < until_ns:
            self._receive(until_ns)
        self._failed += len(self._flights) - len(idle)
        return self._result(sent, took_ns)

    def _receive(self, until_ns: int) -> None:
        """Take in what is there; wait for it until `until_ns` at most."""
        wait_ns = until_ns - self._now()
        if wait_ns > SPIN_NS:
            select.select([self._epoll], [], [], wait_ns / SECOND_NS)  # epoll itself can only wait in milliseconds
        for fileno, _ in self._epoll.poll(0):
            flight = self._flights[fileno]
            piece = flight.sock.recv(65_536)
            if not piece:
                raise ConnectionError("a connection was closed between two requests")
            data = flight.got + piece
            end = data.find(b"\r\n\r\n")
            if end < 0 or len(data) < end + 4 + self._body_bytes:
                flight.got = data
                continue
            flight.got = b""
            if data.startswith(b"HTTP/1.1 200 ") and len(data) == end + 4 + self._body_bytes:
                self._latencies.append(self._now() - flight.due_ns)
            else:
                self._failed += 1
            self._idle.append(flight)

    def _result(self, sent: int, took_ns: int) -> Pace:
        return Pace(
            sent=sent,
            failed=self._failed,
            rate=sent * SECOND_NS / took_ns,
            p50_us=_percentile_us(self._latencies, 50),
            p99_us=_percentile_us(self._latencies, 99),
            late_p99_us=_percentile_us(self._lateness, 99),
        )


def _percentile_us(values_ns: array[int], percent: int) -> float:
    """Nearest rank; 0 of nothing."""
    if not values_ns:
        return 0.0
    return sorted(values_ns)[max(-(-len(values_ns) * percent // 100), 1) - 1] / 1_000


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, kind in (("port", int), ("body-bytes", int), ("rate", float), ("seconds", float), ("connections", int)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--key", required=True)
    options = parser.parse_args(arguments)
    request = f"GET {options.path} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {options.key}\r\n\r\n".encode()
    with suppress(OSError):  # else the kernel may wake us 50 µs late to save power
        Path("/proc/self/timerslack_ns").write_text("1", encoding="ascii")
    gc.disable()
    pace = run_pace(
        options.port, request, options.body_bytes, options.rate, options.seconds, options.connections
    )  # fmt: skip
    sys.stdout.write(json.dumps(asdict(pace)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
