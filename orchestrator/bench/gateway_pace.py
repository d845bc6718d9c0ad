"""An open-loop client, and the workers behind the proxy that it measures: requests are due at even distances, whatever
the replies do, and a latency counts from when its request was due. A closed loop waits for a slow reply before it sends
the next request, and so never sees the queue that a stall makes; this one does.

Both ends are one thread with plain sockets. An event loop would wait in milliseconds, and requests are due every 50 µs
or so; workers of their own would compete with the client for its core, and their turns would be measured as the
proxy's. What it cannot hide is its own lateness, so it reports that too: it is part of every latency.

Bursts with a pause between them: it runs with real-time priority, and the kernel stops a program that never pauses then
for 50 ms in every second, so that the rest of the machine gets something done.
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
from itertools import chain
from pathlib import Path
from typing import Final

from orchestrator.clock import system_now
from orchestrator.contract.base import SECOND_NS

SPIN_NS: Final = 20_000
"""A wait shorter than this is spent looking at the clock: falling asleep and waking up takes about as long."""
DRAIN_NS: Final = 2 * SECOND_NS
"""Replies that are later than this after the last request of a burst count as failures."""
BURST_NS: Final = 4 * SECOND_NS // 10
PAUSE_S: Final = 0.4
WARM_NS: Final = SECOND_NS // 20
"""The beginning of each burst, which is not counted: after a pause everybody's caches are cold."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What came of one run. Latencies are from when a request was due to its last byte."""

    sent: int
    """Requests, those that opened the connections included."""
    failed: int
    rate: float
    """Requests per second that were really sent, while any were due."""
    p50_us: float
    p99_us: float
    bursts_p99_us: tuple[float, ...]
    """The same of every burst by itself: a pause shows in one of them, and in `p99_us` of them all."""
    late_p99_us: float
    """How late requests left this program because it was busy. A request that had to wait for a free connection waited
    for the proxy: that is no lateness."""


@dataclass(slots=True)
class _Flight:
    """A connection to the proxy."""

    sock: socket.socket
    due_ns: int = 0
    free_ns: int = 0
    """When its last reply was complete."""
    counted: bool = False
    got: bytes = b""


def run_pace(
    port: int, request: bytes, reply: bytes, rate: float, seconds: float, connections: int, workers: Sequence[int] = ()
) -> Pace:
    """Send `request` to 127.0.0.1:`port` `rate` times a second for `seconds`, on `connections` kept connections, and
    answer every request that comes to one of the ports `workers` with `reply`. What the proxy says must be 200 with the
    body of `reply`. Raises OSError when a port is taken, it cannot connect, or is hung up on."""
    ends = _Ends(port, request, reply, connections, workers, system_now())
    try:
        return ends.run(int(SECOND_NS / rate), int(rate * seconds))
    finally:
        ends.close()


class _Ends:
    """The client and the workers."""

    def __init__(
        self, port: int, request: bytes, reply: bytes, connections: int, workers: Sequence[int], now: Callable[[], int]
    ) -> None:
        self._request = request
        self._reply = reply
        self._body_bytes = len(reply) - reply.index(b"\r\n\r\n") - 4
        self._now = now
        self._epoll = select.epoll()
        self._listening: dict[int, socket.socket] = {}
        self._workers: dict[int, socket.socket] = {}
        self._flights: dict[int, _Flight] = {}
        for worker in workers:
            self._watch(self._listening, socket.create_server(("127.0.0.1", worker), backlog=1_024))
        for _ in range(connections):
            sock = socket.create_connection(("127.0.0.1", port))
            self._prepare(sock)
            self._flights[sock.fileno()] = _Flight(sock)
        self._idle = deque(self._flights.values())
        self._bursts: list[array[int]] = []
        self._lateness = array("q")
        self._failed = 0

    def close(self) -> None:
        self._epoll.close()
        for sock in (*self._listening.values(), *self._workers.values(), *(f.sock for f in self._flights.values())):
            sock.close()

    def run(self, gap_ns: int, count: int) -> Pace:
        sent = took_ns = 0
        # Every proxy opens its connections to the workers, which are new: at this rate that takes long to make up for.
        opening = min(count, max(WARM_NS // gap_ns, 1))
        self._burst(2 * gap_ns, opening, uncounted_ns=DRAIN_NS)
        while sent < count:
            burst = min(count - sent, max(BURST_NS // gap_ns, 1))
            took_ns += self._burst(gap_ns, burst, uncounted_ns=WARM_NS if burst * gap_ns > 2 * WARM_NS else 0)
            sent += burst
            if sent < count:
                select.select([], [], [], PAUSE_S)
        latencies = array("q", chain.from_iterable(self._bursts))
        return Pace(
            sent=opening + sent,
            failed=self._failed,
            rate=sent * SECOND_NS / took_ns,
            p50_us=_percentile_us(latencies, 50),
            p99_us=_percentile_us(latencies, 99),
            bursts_p99_us=tuple(_percentile_us(burst, 99) for burst in self._bursts if burst),
            late_p99_us=_percentile_us(self._lateness, 99),
        )

    def _burst(self, gap_ns: int, count: int, *, uncounted_ns: int) -> int:
        """Send `count` requests and await their replies; those due in the first `uncounted_ns` are not counted. Returns
        the nanoseconds it took to send them."""
        now, idle, lateness = self._now, self._idle, self._lateness
        begin_ns = due_ns = now() + gap_ns
        counted_ns = begin_ns + uncounted_ns
        sent = 0
        self._bursts.append(array("q"))
        while sent < count:
            now_ns = now()
            while due_ns <= now_ns and sent < count and idle:
                flight = idle.popleft()
                flight.due_ns = due_ns
                flight.counted = due_ns >= counted_ns
                flight.sock.send(self._request)
                if flight.counted:
                    lateness.append(now_ns - max(due_ns, flight.free_ns))
                due_ns += gap_ns
                sent += 1
            self._receive(due_ns if idle else now_ns + SECOND_NS)
        took_ns = now() - begin_ns
        until_ns = now() + DRAIN_NS
        while len(idle) < len(self._flights) and now() < until_ns:
            self._receive(until_ns)
        self._failed += len(self._flights) - len(idle)
        return took_ns

    def _receive(self, until_ns: int) -> None:
        """Take in what is there; wait for it until `until_ns` at most."""
        events = self._epoll.poll(0)
        if not events:
            wait_ns = until_ns - self._now()
            if wait_ns <= SPIN_NS:
                return
            select.select([self._epoll], [], [], wait_ns / SECOND_NS)  # epoll itself can only wait in milliseconds
            events = self._epoll.poll(0)
        for fileno, _ in events:
            if fileno in self._workers:
                self._serve(fileno)
            elif fileno in self._flights:
                self._take(self._flights[fileno])
            else:
                sock, _ = self._listening[fileno].accept()
                self._prepare(sock)
                self._workers[sock.fileno()] = sock

    def _serve(self, fileno: int) -> None:
        """A worker's answer. Requests have no body, and no proxy sends the next one before the reply."""
        sock = self._workers[fileno]
        data = sock.recv(65_536)
        if not data:
            del self._workers[fileno]
            sock.close()
        elif data.endswith(b"\r\n\r\n"):
            sock.send(self._reply)

    def _take(self, flight: _Flight) -> None:
        piece = flight.sock.recv(65_536)
        if not piece:
            raise ConnectionError("a connection was closed between two requests")
        data = flight.got + piece
        end = data.find(b"\r\n\r\n")
        if end < 0 or len(data) < end + 4 + self._body_bytes:
            flight.got = data
            return
        flight.got = b""
        flight.free_ns = self._now()
        if not data.startswith(b"HTTP/1.1 200 ") or len(data) != end + 4 + self._body_bytes:
            self._failed += 1
        elif flight.counted:
            self._bursts[-1].append(flight.free_ns - flight.due_ns)
        self._idle.append(flight)

    def _prepare(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _watch(self, among: dict[int, socket.socket], sock: socket.socket) -> None:
        among[sock.fileno()] = sock
        self._epoll.register(sock.fileno(), select.EPOLLIN)


def _percentile_us(values_ns: array[int], percent: int) -> float:
    """Nearest rank; 0 of nothing."""
    if not values_ns:
        return 0.0
    return sorted(values_ns)[max(-(-len(values_ns) * percent // 100), 1) - 1] / 1_000


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, kind in (("port", int), ("body-bytes", int), ("rate", float), ("seconds", float), ("connections", int)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    parser.add_argument("--worker", type=int, action="append", default=[], metavar="PORT", help="repeatable")
    parser.add_argument("--path", required=True)
    parser.add_argument("--key", required=True)
    options = parser.parse_args(arguments)
    request = f"GET {options.path} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {options.key}\r\n\r\n".encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {options.body_bytes}\r\n\r\n".encode()
    with suppress(OSError):  # else the kernel may wake us 50 µs late to save power
        Path("/proc/self/timerslack_ns").write_text("1", encoding="ascii")
    gc.disable()
    pace = run_pace(
        options.port, request, head + b"a" * options.body_bytes, options.rate, options.seconds, options.connections,
        options.worker,
    )  # fmt: skip
    sys.stdout.write(json.dumps(asdict(pace)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
