"""What happened to the workers of one endpoint, gathered from snapshots. Pure: no clock but the snapshots' own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from app.format import latency, rate_per_hour
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.snapshot import EndpointView, Snapshot, Tier, WorkerState, WorkerView

ON_THE_WAY_OUT = (WorkerState.DRAINING, WorkerState.STOPPING)


class Count(NamedTuple):
    """Workers by state from `at_s` seconds after the first snapshot on."""

    at_s: float
    starting: int
    ready: int
    draining: int
    """Draining or stopping."""

    @property
    def workers(self) -> tuple[int, int, int]:
        return self.starting, self.ready, self.draining


def endpoint_in(snapshot: Snapshot, slug: str) -> EndpointView | None:
    """The endpoint, None while or after it is listed."""
    return next((view for view in snapshot.endpoints if view.spec.slug == slug), None)


def count_workers(workers: Sequence[WorkerView], at_s: float) -> Count:
    """Workers by state."""
    states = [worker.state for worker in workers]
    return Count(
        at_s,
        states.count(WorkerState.STARTING),
        states.count(WorkerState.READY),
        sum(state in ON_THE_WAY_OUT for state in states),
    )


class Timeline:
    """Grows with every snapshot. `counts` holds one entry per change; `workers` the last view of every worker ever
    seen, also of those that are gone."""

    def __init__(self, slug: str) -> None:
        self.slug = slug
        self.counts: list[Count] = []
        self.workers: dict[str, WorkerView] = {}
        self._first_ns: int | None = None

    def observe(self, snapshot: Snapshot) -> list[str]:
        """Take in one snapshot; returns a sentence for everything that changed since the one before."""
        if self._first_ns is None:
            self._first_ns = snapshot.taken_at_ns
        view = endpoint_in(snapshot, self.slug)
        present = view.workers if view is not None else ()
        at_s = round((snapshot.taken_at_ns - self._first_ns) / SECOND_NS, 2)
        count = count_workers(present, at_s)
        if not self.counts or self.counts[-1].workers != count.workers:
            self.counts.append(count)
        news = []
        for worker in present:
            before = self.workers.get(worker.id)
            self.workers[worker.id] = worker
            if before is None or before.state is not worker.state:
                news.append(_sentence(snapshot, view, worker))
        return news

    @property
    def most_ready(self) -> int:
        """The highest number of workers that were ready at the same time."""
        return max((count.ready for count in self.counts), default=0)

    def came_back_to(self, baseline: int) -> bool:
        """Whether, after more workers than `baseline` were ready, exactly those remained and none was on the way."""
        more = [index for index, count in enumerate(self.counts) if count.ready > baseline]
        return bool(more) and any(count.workers == (0, baseline, 0) for count in self.counts[more[0] :])


def _sentence(snapshot: Snapshot, view: EndpointView | None, worker: WorkerView) -> str:
    name = f"worker {worker.label}"
    if worker.state is WorkerState.STARTING:
        return f"{name} is starting{_pressure(view)}"
    if worker.state is WorkerState.READY:
        ready = f"{name} is ready {latency(worker.cold_start.healthy_ms)} after it was decided on"
        return f"{ready}{_rate(snapshot, view, worker)}"
    reason = f": {worker.reason}" if worker.reason else ""
    return f"{name} is {worker.state.value} after {worker.served} request(s){reason}"


def _pressure(view: EndpointView | None) -> str:
    if view is None or not view.traffic.queued:
        return ""
    return f": {view.traffic.queued} request(s) wait, the oldest for {latency(view.traffic.oldest_wait_ms)}"


def _rate(snapshot: Snapshot, view: EndpointView | None, worker: WorkerView) -> str:
    if view is None or worker.tier is None:
        return ""
    for price in snapshot.prices:
        if price.gpu_type == view.spec.gpu_type:
            rate_uh = price.baseline_uh if worker.tier is Tier.BASELINE else price.autoscale_uh
            return f", billed at the {worker.tier.value} rate of {rate_per_hour(rate_uh)}"
    return ""
