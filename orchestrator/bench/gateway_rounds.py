"""What is measured and in which order: every figure of every proxy in turn, round after round, so that whatever else
the machine does meets them all. The median of the rounds is the figure."""

from __future__ import annotations

import socket
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from orchestrator.bench import gateway_configs as configs
from orchestrator.bench.gateway_programs import BenchError, Stage, Target, find_program
from orchestrator.bench.gateway_stream import EVENTS
from orchestrator.clock import Now

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of request. `body_bytes` are sent with it."""

    name: str
    title: str
    slug: str
    path: str
    method: str = "GET"
    body_bytes: int = 0
    fresh: tuple[str, ...] = ()
    """What every request has of its own (`configs.FRESH`), so that no head comes twice."""

    def url(self, target: Target) -> str:
        return f"http://127.0.0.1:{target.port}{self.path_at(target)}"

    def path_at(self, target: Target) -> str:
        return f"/v1/{self.slug}{self.path}" if target.behind else self.path


SCENARIOS: Final = (
    Scenario("get", f"GET, {configs.SMALL_BYTES} bytes", configs.SLUG, "/small"),
    Scenario("varied", "GET, each with an id", configs.SLUG, "/small", fresh=("id",)),
    Scenario("traced", "GET, id, trace, query", configs.SLUG, "/small", fresh=("id", "trace", "query")),
    Scenario("post", "POST, 1 MB", configs.SLUG, "/sink", "POST", configs.LARGE_BYTES),
    Scenario("reply", "reply of 1 MB", configs.SLUG, "/large"),
    Scenario("sse", f"SSE, {EVENTS} events", configs.STREAM_SLUG, "/stream"),
)
PACED: Final = Scenario("paced", f"GET, {configs.SMALL_BYTES} bytes", configs.PACED_SLUG, "/paced")
OURS: Final = "gpudeck"
LATENCY: Final = "latency"
MEMORY: Final = "memory"
NAMES: Final = (*(scenario.name for scenario in SCENARIOS), LATENCY, MEMORY)
PACE_LOAD: Final = 0.6
"""Share of the gateway's own capacity at which latencies are measured."""
PACE_CONNECTIONS: Final = 64
SECONDS_MAX: Final = 60
MICROSECONDS: Final = 1_000_000
"""In a second."""
MEMORY_CONNECTIONS: Final = 1_000
MEMORY_ACTIVE: Final = 32


@dataclass(frozen=True, slots=True)
class Load:
    """Closed-loop load on one target. CPU times are per request, `busy` is the share of its core."""

    rate: float
    p50_us: float
    p99_us: float
    user_us: float = 0.0
    kernel_us: float = 0.0
    busy: float = 0.0

    @property
    def cpu_us(self) -> float:
        return self.user_us + self.kernel_us


@dataclass(frozen=True, slots=True)
class Paced:
    """Latency under a fixed rate, in microseconds. `asked` and `rate` are requests per second, as they should have come
    and as they came."""

    asked: float
    rate: float
    p50_us: float
    p99_us: float
    burst_p99_us: float
    """The p99 of a burst by itself, the median of them."""
    late_p99_us: float
    """The client's own lateness, which is part of every latency."""
    cpu_us: float
    """CPU time of the proxy per request: alone, a request costs more than in a crowd."""
    waited: float
    """Share of the time for which the proxy could have run, and another program had its core."""

    @property
    def busy(self) -> float:
        """Share of its core that the proxy used."""
        return self.rate * self.cpu_us / MICROSECONDS

    @property
    def late_per_pause(self) -> float:
        """For how long requests are late after a pause of 1, itself included: it is made up for in what is left."""
        return 1 / max(1 - self.busy, 0.01)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to measure, and how long."""

    names: tuple[str, ...]
    connections: tuple[int, ...]
    rounds: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Results:
    """Medians. Keys: scenario, connections, target for `loads`; target for the others."""

    loads: dict[tuple[str, int, str], Load]
    paced: dict[str, Paced]
    memory_bytes: dict[str, int]
    paced_rounds: dict[str, tuple[Paced, ...]] = field(default_factory=dict)
    """What `paced` are the medians of, in the order in which they were measured."""


class Rounds:
    """Measures `targets` (the first is direct) with the programs of `stage`."""

    def __init__(self, stage: Stage, targets: Sequence[Target], wanted: Wanted, directory: Path, now: Now) -> None:
        self._stage = stage
        self._targets = targets
        self._wanted = wanted
        self._directory = directory
        self._now = now

    def run(self, say: Say) -> Results:
        """Everything wanted. Raises BenchError when a request fails or a program ends."""
        memory: dict[str, int] = {}
        if MEMORY in self._wanted.names:  # first: what uploads have left behind in a process is another question
            say(f"memory with {MEMORY_CONNECTIONS} connections")
            memory = {target.name: self._memory(target) for target in self._targets if target.process is not None}
        loads: dict[tuple[str, int, str], Load] = {}
        for scenario in SCENARIOS:
            if scenario.name not in self._wanted.names:
                continue
            for connections in self._wanted.connections:
                say(f"{scenario.title}, {connections} connections")
                for name, load in self._loads(scenario, connections).items():
                    loads[scenario.name, connections, name] = load
        paced: dict[str, tuple[Paced, ...]] = {}
        if LATENCY in self._wanted.names:
            rate = PACE_LOAD * self._capacity(loads)
            say(f"latency at {rate:,.0f} requests/s")
            paced = self._paced(rate)
        middle = {name: middle_paced(rounds) for name, rounds in paced.items()}
        return Results(loads, middle, memory, paced)

    def _loads(self, scenario: Scenario, connections: int) -> dict[str, Load]:
        script = self._directory / f"{scenario.name}.lua"
        lines = configs.load_script(scenario.method, scenario.body_bytes, configs.KEY, fresh=scenario.fresh)
        script.write_text(lines, encoding="ascii")
        targets = [t for t in self._targets if t.process is not None or scenario.slug == configs.SLUG]
        seen: dict[str, list[Load]] = defaultdict(list)
        for number in range(self._wanted.rounds):
            for target in rotated(targets, number):
                seen[target.name].append(self._load(scenario, connections, target, script))
        return {target.name: middle_load(seen[target.name]) for target in targets}

    def _load(self, scenario: Scenario, connections: int, target: Target, script: Path) -> Load:
        """One run of wrk; a longer one when nothing came to its end: 256 uploads at once may take more than a second.
        Raises BenchError when a request fails, or none ends in a minute."""
        seconds = self._wanted.seconds
        while seconds <= SECONDS_MAX:
            load = self._run_wrk(scenario, connections, target, script, seconds)
            if load is not None:
                return load
            seconds *= 2
        raise BenchError(f"{target.name}: no request came to its end ({scenario.title}, {connections} connections)")

    def _run_wrk(self, scenario: Scenario, connections: int, target: Target, script: Path, seconds: int) -> Load | None:
        wrk = find_program("wrk")
        if wrk is None:
            raise BenchError("wrk is not installed: apt-get install wrk")
        command = [wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", f"{SECONDS_MAX}s", "-s", str(script)]
        before_ns, user_ns, kernel_ns = self._now(), *target.cpu_ns()
        figures = self._stage.run_load([*command, scenario.url(target)], seconds + SECONDS_MAX)
        took_ns, (user_end_ns, kernel_end_ns) = self._now() - before_ns, target.cpu_ns()
        requests = int(figures["requests"])
        if figures["errors"]:
            raise BenchError(f"{target.name}: {figures['errors']} of {requests} requests failed ({scenario.title})")
        if not requests:
            return None
        user_us = max(user_end_ns - user_ns, 0) / requests / 1_000
        kernel_us = max(kernel_end_ns - kernel_ns, 0) / requests / 1_000
        busy = (user_end_ns - user_ns + kernel_end_ns - kernel_ns) / took_ns
        rate = requests * 1_000_000 / int(figures["duration_us"])
        return Load(rate, float(figures["p50_us"]), float(figures["p99_us"]), user_us, kernel_us, busy)

    def _capacity(self, loads: dict[tuple[str, int, str], Load]) -> float:
        """Requests per second of our gateway at its best, from what was measured or from one measurement now."""
        known = [load.rate for (name, _, target), load in loads.items() if name == "get" and target == OURS]
        return max(known) if known else self._loads(SCENARIOS[0], 32)[OURS].rate

    def _paced(self, rate: float) -> dict[str, tuple[Paced, ...]]:
        seen: dict[str, list[Paced]] = defaultdict(list)
        for number in range(self._wanted.rounds):
            for target in rotated(self._targets, number):
                seen[target.name].append(self._pace(target, rate))
        return {target.name: tuple(seen[target.name]) for target in self._targets}

    def _pace(self, target: Target, rate: float) -> Paced:
        seconds = self._wanted.seconds
        port = target.port if target.behind else self._stage.paced[0]
        command = [sys.executable, "-m", "orchestrator.bench.gateway_pace", "--port", str(port)]
        command += ["--path", PACED.path_at(target), "--key", configs.KEY, "--rate", f"{rate:.1f}"]
        command += ["--seconds", str(seconds), "--connections", str(PACE_CONNECTIONS)]
        command += ["--body-bytes", str(configs.SMALL_BYTES)]
        for port in self._stage.paced:
            command += ["--worker", str(port)]
        before_ns = sum(target.cpu_ns())
        figures, waited = self._stage.run_undisturbed(command, target, seconds * 2 + 30)
        cpu_us = (sum(target.cpu_ns()) - before_ns) / 1_000 / figures["sent"]
        if figures["failed"]:
            raise BenchError(f"{target.name}: {figures['failed']} of {figures['sent']} paced requests failed")
        return Paced(
            asked=rate,
            rate=figures["rate"],
            p50_us=figures["p50_us"],
            p99_us=figures["p99_us"],
            burst_p99_us=median(figures["bursts_p99_us"]),
            late_p99_us=figures["late_p99_us"],
            cpu_us=cpu_us,
            waited=waited,
        )

    def _memory(self, target: Target) -> int:
        """Resident memory while MEMORY_CONNECTIONS are open: each has had a request, MEMORY_ACTIVE have one now."""
        script = self._directory / "memory.lua"
        script.write_text(configs.load_script("GET", 0, configs.KEY), encoding="ascii")
        with held_connections(target, MEMORY_CONNECTIONS - MEMORY_ACTIVE):
            self._load(SCENARIOS[0], MEMORY_ACTIVE, target, script)
            return target.memory_bytes()


@contextmanager
def held_connections(target: Target, count: int) -> Iterator[None]:
    """`count` kept connections to `target`, each of which has been used once. Raises BenchError for a bad reply."""
    path = SCENARIOS[0].path_at(target)
    request = f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {configs.KEY}\r\n\r\n".encode()
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_connection(("127.0.0.1", target.port), timeout=10)) for _ in range(count)
        ]
        for sock in sockets:
            sock.sendall(request)
            if not sock.recv(65_536).startswith(b"HTTP/1.1 200"):
                raise BenchError(f"{target.name}: a kept connection was not served")
        yield


def rotated(targets: Sequence[Target], number: int) -> list[Target]:
    """The targets, beginning with another one every round: none always follows the same neighbour's heat."""
    start = number % len(targets)
    return [*targets[start:], *targets[:start]]


def middle_load(loads: Sequence[Load]) -> Load:
    """The median of each figure by itself."""
    return Load(*(median(getattr(load, field) for load in loads) for field in Load.__slots__))


def middle_paced(paced: Sequence[Paced]) -> Paced:
    return Paced(*(median(getattr(one, field) for one in paced) for field in Paced.__slots__))


def seconds_expected(wanted: Wanted, targets: int) -> float:
    """About how long all of it takes."""
    kinds = sum(scenario.name in wanted.names for scenario in SCENARIOS) * len(wanted.connections)
    kinds += LATENCY in wanted.names
    return kinds * wanted.rounds * targets * (wanted.seconds + 0.2)
