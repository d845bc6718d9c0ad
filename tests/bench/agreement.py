"""The same arrivals against real processes and in virtual time: do workers and bill agree?

    python -m tests.bench.agreement --seconds 180

Live: a real orchestrator with the process engine, the echo model told how long to work, callers over HTTP. Simulated:
the full core with the same requests. A cold start is what the live run's was, start by start (`--cold median`: all like
their median), and a stop takes as long as they did on average: how fast this machine loads Python is not what is
compared. Prints for each policy the share of sampled instants with equal worker counts and how far the bills are apart.
Exit code 1 below 95% or above 2%.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.endpoint import Auto, EndpointSpec, QueueDelay, RequestCount, ScalingPolicy
from orchestrator.contract.query import AskBill, Bill
from orchestrator.contract.snapshot import EndpointView, Tier, WorkerState
from orchestrator.core.billing import due_u
from orchestrator.core.workload import WorkerSpec
from orchestrator.simulator.fate import FairWeather, Start
from orchestrator.simulator.play import Played, play
from orchestrator.simulator.traces import Shape, Trace
from tests.bench.faults import rules
from tests.e2e.host import Host

SLUG = "echo"
SAMPLE_S = 0.1
EQUAL_MIN, BILL_MAX = 0.95, 0.02
LIVE_STATES = (WorkerState.STARTING, WorkerState.READY)
POLICIES: dict[str, ScalingPolicy] = {
    "request_count:1": RequestCount(value=1),
    "queue_delay:2": QueueDelay(seconds=2.0),
    "auto:2": Auto(wait_p95_s=2.0),
}


@dataclass
class Seen:
    """What the live run was. Instants are nanoseconds since its beginning."""

    samples: list[tuple[int, int]] = field(default_factory=list)
    """When the endpoint was looked at, and its live workers."""
    starts: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Per worker, in order of serial: seconds from intent to start, and from start to ready."""
    told_ns: dict[str, int] = field(default_factory=dict)
    """When each worker was first seen to be stopping, by the wall clock."""
    stops_s: list[float] = field(default_factory=list)
    """From being told to stop to the end of the worker."""
    answered_ns: int = 0
    autoscaled_u: int = 0
    failed: int = 0

    def look(self, view: EndpointView, at_ns: int, wall_ns: int) -> None:
        self.samples.append((at_ns, sum(1 for w in view.workers if w.state in LIVE_STATES)))
        for worker in view.workers:
            if worker.state not in LIVE_STATES:
                self.told_ns.setdefault(worker.id, wall_ns)
            took = worker.cold_start
            if took.started_ms is not None and took.healthy_ms is not None:
                self.starts[worker.id] = (took.started_ms / 1_000, (took.healthy_ms - took.started_ms) / 1_000)

    def in_order(self) -> list[tuple[float, float]]:
        return [self.starts[key] for key in sorted(self.starts, key=lambda key: int(key.rpartition("-")[2]))]


class Replayed(FairWeather):
    """The n-th start takes as long as the n-th one took, a stop as long as they did on average."""

    def __init__(self, starts: list[tuple[float, float]], stop_s: float) -> None:
        super().__init__(lambda _: median(ready_s for _, ready_s in starts), stop_delay_s=stop_s)
        self._starts: Iterator[tuple[float, float]] = iter(starts)
        self._usual = Start(median(delay_s for delay_s, _ in starts), median(ready_s for _, ready_s in starts))

    def start(self, spec: WorkerSpec, at_ns: int) -> Start:
        found = next(self._starts, None)
        return self._usual if found is None else Start(*found)


async def live(trace: Trace, spec: EndpointSpec, home: Path) -> Seen:
    """Run the trace against real processes."""
    host = Host(home, "process", gpus=f"{spec.gpu_type}:{spec.maximum}")
    async with host.running():
        fields = spec.model_dump(exclude={"slug", "model", "gpu_type", "baseline", "maximum", "account", "env"})
        await host.create(spec.setup, SLUG, **fields)
        await host.until_ready(spec.baseline)
        return await _watch(host, trace, spec)


async def _watch(host: Host, trace: Trace, spec: EndpointSpec) -> Seen:
    seen = Seen()
    began_ns = (await host.snapshot()).taken_at_ns
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    async with host.http() as http:

        async def call(arrival_ns: int, service_ns: int) -> None:
            await asyncio.sleep(max(0.0, began_s + arrival_ns / SECOND_NS - loop.time()))
            reply = await http.post(f"/v1/{SLUG}", json={"latency_s": service_ns / SECOND_NS}, timeout=600)
            seen.failed += reply.status_code != 200
            seen.answered_ns = max(seen.answered_ns, int((loop.time() - began_s) * SECOND_NS))

        calls = [asyncio.create_task(call(*each)) for each in zip(trace.arrival_ns, trace.service_ns, strict=True)]
        due_s = began_s
        while True:
            state = await host.snapshot()
            [view] = state.endpoints
            seen.look(view, state.taken_at_ns - began_ns, state.taken_at_ns)
            if all(task.done() for task in calls) and len(view.workers) == spec.baseline:
                break
            due_s += SAMPLE_S
            await asyncio.sleep(max(0.0, due_s - loop.time()))
        await asyncio.gather(*calls)
    assert host.client is not None
    bill = await host.client.ask(AskBill(account="local"))
    assert isinstance(bill, Bill)
    for line in bill.lines:
        if line.tier is Tier.AUTOSCALE and not line.absorbed:
            seen.autoscaled_u += line.amount_u
            if line.end_ns is not None and line.worker_id in seen.told_ns:
                # It was told between two looks, half their distance before it was seen on average.
                seen.stops_s.append((line.end_ns - seen.told_ns[line.worker_id]) / SECOND_NS + SAMPLE_S / 2)
    return seen


@dataclass(frozen=True)
class Agreement:
    equal: float
    """Share of sampled instants with as many live workers."""
    live_u: int
    simulated_u: int
    live_autoscaled_u: int
    simulated_autoscaled_u: int

    @property
    def bill(self) -> float:
        """How far the bills are apart, as a share of the live one."""
        return abs(self.simulated_u - self.live_u) / self.live_u


def compare(seen: Seen, played: Played, spec: EndpointSpec) -> Agreement:
    """Bills from the first arrival to the last answer for the baseline, whole lives for autoscaled workers."""
    equal = sum(1 for at_ns, workers in seen.samples if played.workers_at(at_ns) == workers) / len(seen.samples)
    price = rules().prices.books[0].price(spec.gpu_type)
    assert price is not None
    baseline_u = due_u(price.baseline_uh * spec.baseline, seen.answered_ns)
    return Agreement(
        equal, baseline_u + seen.autoscaled_u, played.baseline_u + played.autoscaled_u, seen.autoscaled_u,
        played.autoscaled_u,
    )  # fmt: skip


def bursts(seconds: float, seed: int) -> Trace:
    """Eight of them, with more at work than the baseline can do."""
    return Shape("on-off", peak_rpm=90.0, span_s=seconds, service_s=1.5).draw(seed)


def agree(
    trace: Trace, policy: ScalingPolicy, home: Path, *, idle_timeout_s: int = 4, cold: str = "measured"
) -> Agreement:
    """Run `trace` live and simulated. Blocks for as long as it takes."""
    spec = EndpointSpec(
        slug=SLUG, model="echo", gpu_type="L40", baseline=1, maximum=3, concurrency=1, policy=policy,
        idle_timeout_s=idle_timeout_s,
    )  # fmt: skip
    seen = asyncio.run(live(trace, spec, home))
    assert seen.failed == 0, f"{seen.failed} requests failed"
    starts = seen.in_order()
    if cold == "median":
        starts = [(median(d for d, _ in starts), median(r for _, r in starts))] * len(starts)
    return compare(seen, play(trace, spec, rules(), weather=Replayed(starts, mean(seen.stops_s or [0.1]))), spec)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--policy", choices=POLICIES, action="append")
    parser.add_argument("--cold", choices=["measured", "median"], default="measured")
    options = parser.parse_args()
    good = True
    for name in options.policy or POLICIES:
        began_s = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="gd") as home:
            found = agree(bursts(options.seconds, options.seed), POLICIES[name], Path(home), cold=options.cold)
        good &= found.equal >= EQUAL_MIN and found.bill <= BILL_MAX
        sys.stdout.write(
            f"{name:<16} workers equal at {found.equal:.1%} of instants; bill ${found.live_u / 1e6:.4f} live, "
            f"${found.simulated_u / 1e6:.4f} simulated, {found.bill:.2%} apart "
            f"(autoscaled alone ${found.live_autoscaled_u / 1e6:.4f}, ${found.simulated_autoscaled_u / 1e6:.4f}); "
            f"{time.perf_counter() - began_s:.0f} s\n"
        )
        sys.stdout.flush()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
