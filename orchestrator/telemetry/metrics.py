"""What is exposed to Prometheus: base units, no secret, and no unbounded label (endpoints, accounts and GPUs are
bounded by the operator, states and codes by this program).

Durations are histograms of the meters' own buckets, merged to one a power of two: their bounds are exact, from a
millisecond to nine minutes.
"""

from __future__ import annotations

import os
import resource
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from orchestrator.contract.base import HOUR_NS, SECOND_NS
from orchestrator.contract.snapshot import EndpointView, GpuView, Snapshot, WorkerState
from orchestrator.core.decisions import Decided
from orchestrator.core.history import bounds_us
from orchestrator.core.routing import RoutingTable
from orchestrator.telemetry.exposition import Buckets, Family

_POWERS: Final = range(10, 30)
"""Bounds of the latency histograms: 2^10 to 2^29 microseconds."""
BOUNDS_S: Final = tuple((1 << power) / 1_000_000 for power in _POWERS)
_EDGES: Final = tuple(1 << power for power in _POWERS)
COLD_BOUNDS_S: Final = (0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0)
_REMEMBERED: Final = 4_096
"""Workers whose cold start has been counted; the oldest are forgotten (ids never come back)."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """Asynchronous calls, by endpoint, and webhooks that are owed."""

    requests: Mapping[str, int]
    bytes: Mapping[str, int]
    webhooks: int


@dataclass(frozen=True, slots=True)
class Doors:
    """The gateway's connections, and what it refused before any endpoint was reached, by (status, reason)."""

    clients: int
    workers: int
    refused: Mapping[tuple[int, str], int]


class Metrics:
    """Collects at each scrape. `decided` and `watch` are called in between, for what a scrape would miss."""

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        table: RoutingTable,
        backlog: Callable[[], Backlog],
        doors: Callable[[], Doors],
    ) -> None:
        self._snapshot = snapshot
        self._table = table
        self._backlog = backlog
        self._doors = doors
        self._scaled: Counter[tuple[str, str, str]] = Counter()
        self._cold: dict[str, list[int]] = {}
        self._cold_s: Counter[str] = Counter()
        self._counted: dict[str, None] = {}

    def decided(self, entry: Decided) -> None:
        """The number of workers that is wanted changes."""
        before = entry.before or 0
        if entry.obstacle is None and entry.desired != before:
            self._scaled[entry.slug, "up" if entry.desired > before else "down", entry.why.rule] += 1

    def watch(self, workers: Iterable[tuple[str, str, int, int | None]]) -> None:
        """(id, endpoint, intent_ns, ready_ns) of the workers there are: counts each cold start once."""
        for worker_id, slug, intent_ns, ready_ns in workers:
            if ready_ns is None or worker_id in self._counted:
                continue
            self._counted[worker_id] = None
            if len(self._counted) > _REMEMBERED:
                del self._counted[next(iter(self._counted))]
            span_s = (ready_ns - intent_ns) / SECOND_NS
            counts = self._cold.setdefault(slug, [0] * (len(COLD_BOUNDS_S) + 1))
            counts[sum(span_s > bound for bound in COLD_BOUNDS_S)] += 1
            self._cold_s[slug] += ready_ns - intent_ns

    def collect(self) -> list[Family]:
        """Everything, as of now."""
        state = self._snapshot()
        return [
            *self._own(state),
            *self._traffic(),
            *_endpoints(state.endpoints),
            *self._scaling(),
            *_gpus(state.gpus),
            *_money(state),
            *self._asynchronous(),
            *_process(),
        ]

    def _own(self, state: Snapshot) -> Iterable[Family]:
        info = Family("gpudeck_build_info", "gauge", "Version and engine of this orchestrator; always 1.")
        info.add(1, version=state.version, engine=state.engine.kind.value)
        engine = Family("gpudeck_engine_up", "gauge", "Whether the container or process engine answers.")
        engine.add(int(state.engine.ok))
        ledger = Family("gpudeck_ledger_ok", "gauge", "Whether the ledger can be written and is whole as far as known.")
        ledger.add(int(state.ledger_ok))
        doors = self._doors()
        clients = Family("gpudeck_client_connections", "gauge", "Connections of clients to the gateway.")
        clients.add(doors.clients)
        workers = Family("gpudeck_worker_connections", "gauge", "Connections of the gateway to workers, idle ones too.")
        workers.add(doors.workers)
        refused = Family(
            "gpudeck_refused_requests_total", "counter", "Requests answered by the gateway itself with an error."
        )
        for (status, reason), count in sorted(doors.refused.items()):
            refused.add(count, code=str(status), reason=reason)
        return info, engine, ledger, clients, workers, refused

    def _traffic(self) -> Iterable[Family]:
        requests = Family("gpudeck_requests_total", "counter", "Requests of an endpoint that are over, by HTTP status.")
        took = Family(
            "gpudeck_request_duration_seconds", "histogram", "Arrival to last byte, of requests that succeeded."
        )
        waited = Family("gpudeck_queue_wait_seconds", "histogram", "Arrival to dispatch, of requests that succeeded.")
        for slug, route in sorted(self._table.routes.items()):
            totals = route.meter.totals()
            for status, count in sorted(totals.statuses.items()):
                requests.add(count, endpoint=slug, code=str(status))
            took.add(_merged(totals.total_buckets, totals.total_ns), endpoint=slug)
            waited.add(_merged(totals.queue_buckets, totals.queue_ns), endpoint=slug)
        return requests, took, waited

    def _scaling(self) -> Iterable[Family]:
        for key in [key for key in self._scaled if key[0] not in self._table.routes]:
            del self._scaled[key]  # deleted, as its other series are: names that come and go must not add up
        for slug in self._cold.keys() - self._table.routes.keys():
            del self._cold[slug], self._cold_s[slug]
        scaled = Family("gpudeck_scale_events_total", "counter", "Changes of the wanted number of workers, by rule.")
        for (slug, direction, rule), count in sorted(self._scaled.items()):
            scaled.add(count, endpoint=slug, direction=direction, reason=rule)
        cold = Family(
            "gpudeck_cold_start_seconds", "histogram", "From the decision to start a worker until it is ready."
        )
        for slug, counts in sorted(self._cold.items()):
            cold.add(Buckets(COLD_BOUNDS_S, counts, self._cold_s[slug] / SECOND_NS), endpoint=slug)
        return scaled, cold

    def _asynchronous(self) -> Iterable[Family]:
        backlog = self._backlog()
        calls = Family("gpudeck_deferred_requests", "gauge", "Asynchronous calls that are not over.")
        held = Family("gpudeck_deferred_bytes", "gauge", "Bodies and results of asynchronous calls on the disk.")
        hooks = Family("gpudeck_webhooks_owed", "gauge", "Webhooks neither delivered nor given up.")
        for slug in sorted(self._table.routes):
            calls.add(backlog.requests.get(slug, 0), endpoint=slug)
            held.add(backlog.bytes.get(slug, 0), endpoint=slug)
        hooks.add(backlog.webhooks)
        return calls, held, hooks


def _merged(buckets: Sequence[int], total_ns: int) -> Buckets:
    """The meter's buckets, eight an octave, as one an octave."""
    counts = [0] * (len(_EDGES) + 1)
    place = 0
    for number, count in enumerate(buckets):
        while place < len(_EDGES) and bounds_us(number)[1] > _EDGES[place]:
            place += 1
        counts[place] += count
    return Buckets(BOUNDS_S, counts, total_ns / SECOND_NS)


def _endpoints(endpoints: Sequence[EndpointView]) -> Iterable[Family]:
    queued = Family("gpudeck_queue_depth", "gauge", "Requests that wait for a worker.")
    oldest = Family("gpudeck_queue_oldest_seconds", "gauge", "How long the first of them has waited.")
    running = Family("gpudeck_inflight_requests", "gauge", "Requests that workers are working on.")
    workers = Family("gpudeck_workers", "gauge", "Workers by state and by what they bill at.")
    states = Family("gpudeck_endpoint_state", "gauge", "1 for the state the endpoint is in.")
    limits = Family("gpudeck_workers_limit", "gauge", "Baseline and maximum, as configured.")
    spend = Family("gpudeck_spend_microdollars_total", "counter", "Charged, and absorbed by the platform.")
    burn = Family("gpudeck_burn_microdollars_per_hour", "gauge", "Rates of the workers that are billed now.")
    for view in endpoints:
        slug = view.spec.slug
        queued.add(view.traffic.queued, endpoint=slug)
        oldest.add(view.traffic.oldest_wait_ms / 1_000, endpoint=slug)
        running.add(view.traffic.running, endpoint=slug)
        counted = Counter((w.state.value, _kind(w.surge, w.tier and w.tier.value)) for w in view.workers)
        counted.setdefault((WorkerState.READY.value, "baseline"), 0)  # an endpoint at zero has a series, not a gap
        for (state, kind), count in sorted(counted.items()):
            workers.add(count, endpoint=slug, state=state, kind=kind)
        states.add(1, endpoint=slug, state=view.state.value)
        limits.add(view.spec.baseline, endpoint=slug, bound="baseline")
        limits.add(view.spec.maximum, endpoint=slug, bound="maximum")
        spend.add(view.cost.total_u, endpoint=slug, kind="charged")
        spend.add(view.cost.absorbed_u, endpoint=slug, kind="absorbed")
        burn.add(view.cost.per_hour_u, endpoint=slug)
    return queued, oldest, running, workers, states, limits, spend, burn


def _kind(surge: bool, tier: str | None) -> str:
    return "surge" if surge else tier or "unbilled"


def _gpus(gpus: Sequence[GpuView]) -> Iterable[Family]:
    """A measurement that the hardware does not support has no series."""
    used = Family("gpudeck_gpu_utilization_ratio", "gauge", "Share of the last sample in which a kernel ran.")
    taken = Family("gpudeck_gpu_memory_used_bytes", "gauge", "Memory in use.")
    total = Family("gpudeck_gpu_memory_total_bytes", "gauge", "Memory there is.")
    power = Family("gpudeck_gpu_power_watts", "gauge", "Power draw.")
    heat = Family("gpudeck_gpu_temperature_celsius", "gauge", "Temperature of the GPU.")
    info = Family("gpudeck_gpu_info", "gauge", "Name, state and endpoint of a GPU; always 1.")
    for gpu in gpus:
        labels = {"gpu_uuid": gpu.uuid, "index": str(gpu.index)}
        used.add(None if gpu.utilisation_percent is None else gpu.utilisation_percent / 100, **labels)
        taken.add(gpu.memory_used_bytes, **labels)
        total.add(gpu.memory_total_bytes, **labels)
        power.add(None if gpu.power_mw is None else gpu.power_mw / 1_000, **labels)
        heat.add(gpu.temperature_c, **labels)
        simulated: Literal["true", "false"] = "true" if gpu.simulated else "false"
        info.add(
            1, **labels, type=gpu.type, name=gpu.name, state=gpu.state, simulated=simulated, endpoint=gpu.endpoint or ""
        )
    return info, used, taken, total, power, heat


def _money(state: Snapshot) -> Iterable[Family]:
    credit = Family("gpudeck_credit_microdollars", "gauge", "Balance of an account, what has accrued taken off.")
    runway = Family("gpudeck_runway_seconds", "gauge", "Until the $10 floor at the current burn; absent without any.")
    suspended = Family("gpudeck_account_suspended", "gauge", "Whether its endpoints were stopped for lack of credit.")
    for account in state.accounts:
        credit.add(account.balance_u, account=account.name)
        hours = account.runway.current_h
        runway.add(None if hours is None else hours * HOUR_NS / SECOND_NS, account=account.name)
        suspended.add(int(account.suspended), account=account.name)
    return credit, runway, suspended


def _process() -> Iterable[Family]:
    """The names that every Prometheus client library uses for the process itself."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu = Family("process_cpu_seconds_total", "counter", "User and system CPU time of the orchestrator.")
    cpu.add(usage.ru_utime + usage.ru_stime)
    memory = Family("process_resident_memory_bytes", "gauge", "Resident memory of the orchestrator.")
    files = Family("process_open_fds", "gauge", "Open file descriptors of the orchestrator.")
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123 - no file of anybody's
            memory.add(int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
        files.add(len(os.listdir("/proc/self/fd")))  # noqa: PTH208 - cheaper than a Path for each
    except OSError:
        memory.series.clear()  # no /proc on this system: what is not known is left out
    return cpu, memory, files
