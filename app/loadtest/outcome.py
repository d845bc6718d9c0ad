"""A load test as it goes and as it ended: series by the second, figures, what it cost, and the setup it suggests."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from app.loadtest.engine import LoadReport, Reply, percentile, summarise
from app.loadtest.shapes import Shape, due
from orchestrator.contract.snapshot import EndpointView, WorkerState

WINDOW_S: Final = 10
"""Percentiles of the series describe the replies of this many seconds up to each second."""
KEPT: Final = 50
"""Results of one endpoint that are kept, the newest."""
VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Second:
    """One second of a test. Rates in requests a minute, times in milliseconds; None without a sample."""

    at_s: int
    offered_rpm: int
    served_rpm: int
    failed: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    ready: int | None = None
    starting: int | None = None


@dataclass(slots=True)
class Course:
    """What has come in so far. `sample` is called with every snapshot, `take` with every reply."""

    shape: Shape
    replies: list[Reply] = field(default_factory=list)
    _workers: dict[int, tuple[int, int]] = field(default_factory=dict)
    _cost_u: tuple[int, int] | None = None
    _due: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._due = Counter(int(at) for at in due(self.shape))

    def take(self, reply: Reply) -> None:
        self.replies.append(reply)

    def sample(self, at_s: float, endpoint: EndpointView) -> None:
        """The endpoint as it is `at_s` seconds after the start."""
        ready = sum(1 for worker in endpoint.workers if worker.state is WorkerState.READY)
        starting = sum(1 for worker in endpoint.workers if worker.state is WorkerState.STARTING)
        self._workers[int(at_s)] = (ready, starting)
        total_u = endpoint.cost.total_u
        self._cost_u = (self._cost_u[0] if self._cost_u else total_u, total_u)

    @property
    def cost_u(self) -> int:
        """Micro-dollars that the endpoint was charged between the first and the newest sample."""
        return self._cost_u[1] - self._cost_u[0] if self._cost_u else 0

    @property
    def most_workers(self) -> int:
        """Ready and starting ones together, at their most."""
        return max((ready + starting for ready, starting in self._workers.values()), default=0)

    def seconds(self, until_s: float) -> list[Second]:
        """The whole seconds before `until_s`, oldest first."""
        ended: dict[int, list[Reply]] = {}
        for reply in self.replies:
            ended.setdefault(int(reply.at_s + reply.latency_ms / 1_000), []).append(reply)
        found, workers = [], None
        for second in range(int(until_s)):
            workers = self._workers.get(second, workers)
            recent = [r for s in range(second - WINDOW_S + 1, second + 1) for r in ended.get(s, ())]
            ordered = sorted(reply.latency_ms for reply in recent if reply.ok)
            now = ended.get(second, ())
            found.append(
                Second(
                    at_s=second,
                    offered_rpm=self._due[second] * 60,
                    served_rpm=sum(reply.ok for reply in now) * 60,
                    failed=sum(not reply.ok for reply in now),
                    p50_ms=percentile(ordered, 50),
                    p95_ms=percentile(ordered, 95),
                    p99_ms=percentile(ordered, 99),
                    ready=workers[0] if workers else None,
                    starting=workers[1] if workers else None,
                )
            )
        return found


@dataclass(frozen=True, slots=True)
class Outcome:
    """One test that is over, as it is saved. Times in milliseconds."""

    slug: str
    model: str
    gpu_type: str
    setup: str
    policy: str
    shape: str
    started_ns: int
    seconds: float
    sent: int
    succeeded: int
    failed: int
    failures: dict[str, int]
    offered_rpm: float
    served_rpm: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    queue_p95_ms: float | None
    service_ms: float | None
    """Mean time of one request on its worker, waiting and cold starts not counted."""
    cold_starts: int
    most_workers: int
    cost_u: int
    late_ms_max: float
    """Worst delay of the generator itself. Above some milliseconds, this machine could not offer the load."""
    advice: str | None
    """The setup that would do for the rates of this test, such as 2-10."""


def concluded(course: Course, endpoint: EndpointView, policy: str, started_ns: int) -> Outcome:
    """The figures of a test that is over or was stopped."""
    report = summarise(sorted(course.replies, key=lambda reply: reply.index))
    service_ms = mean_service_ms(course.replies)
    span_s = max(report.duration_s, 1.0)
    return Outcome(
        slug=endpoint.spec.slug,
        model=endpoint.spec.model,
        gpu_type=endpoint.spec.gpu_type,
        setup=endpoint.spec.setup,
        policy=policy,
        shape=course.shape.words,
        started_ns=started_ns,
        seconds=report.duration_s,
        offered_rpm=round(course.shape.mean_rpm, 1),
        served_rpm=round(report.succeeded * 60 / span_s, 1),
        service_ms=service_ms,
        most_workers=course.most_workers,
        cost_u=course.cost_u,
        advice=advised(course.shape, service_ms, endpoint.concurrency),
        **_figures(report),
    )


def _figures(report: LoadReport) -> dict[str, Any]:
    return {
        "sent": report.sent, "succeeded": report.succeeded, "failed": report.failed, "failures": dict(report.failures),
        "p50_ms": report.latency_ms.p50, "p95_ms": report.latency_ms.p95, "p99_ms": report.latency_ms.p99,
        "queue_p95_ms": report.queue_ms.p95, "cold_starts": report.cold_starts, "late_ms_max": report.late_ms_max,
    }  # fmt: skip


def mean_service_ms(replies: Iterable[Reply]) -> float | None:
    """Latency less what was spent waiting, over the requests that no cold start delayed; None without any."""
    spans = [r.latency_ms - r.late_ms - (r.queue_ms or 0) for r in replies if r.ok and not r.cold_start]
    return round(sum(spans) / len(spans), 1) if spans else None


def advised(shape: Shape, service_ms: float | None, concurrency: int) -> str | None:
    """`b-m` by the rule of the contract (design.md section 1, Sizing): RPM of a worker = 60 / latency, b covers the
    lowest rate of the test, m the highest: 20 to 100 RPM at 6 s gives 2-10."""
    if not service_ms:
        return None
    per_worker = 60_000 / service_ms * concurrency
    # A rate that one worker could almost serve needs no second one because of a rounding error in the division.
    baseline = math.ceil(shape.lowest_rpm / per_worker - 1e-6)
    return f"{baseline}-{max(math.ceil(shape.peak_rpm / per_worker - 1e-6), baseline, 1)}"


def differences(before: Outcome, after: Outcome) -> list[tuple[str, float | None, float | None]]:
    """Figure by figure, (name, before, after)."""
    names = (
        "served_rpm",
        "p50_ms",
        "p95_ms",
        "p99_ms",
        "queue_p95_ms",
        "failed",
        "cold_starts",
        "most_workers",
        "cost_u",
    )
    return [(name, getattr(before, name), getattr(after, name)) for name in names]


class Archive:
    """The results of one endpoint, a JSON file each, in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def save(self, outcome: Outcome) -> Path:
        """Write `outcome` and drop the oldest beyond KEPT. Raises OSError."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.directory / f"{outcome.started_ns}.json"
        while path.exists():  # two tests began by the same snapshot of a stale feed
            path = path.with_stem(str(int(path.stem) + 1))
        path.write_text(json.dumps({"version": VERSION, **asdict(outcome)}, indent=1) + "\n", encoding="utf-8")
        for old in self._files()[:-KEPT]:
            old.unlink(missing_ok=True)
        return path

    def load(self) -> list[Outcome]:
        """All results that can be read, newest first. A file of another version or by another hand is left out."""
        found = (read_outcome(path) for path in reversed(self._files()))
        return [outcome for outcome in found if outcome is not None]

    def _files(self) -> Sequence[Path]:
        return (
            sorted(self.directory.glob("[0-9]*.json"), key=lambda path: int(path.stem))
            if self.directory.is_dir()
            else []
        )


def read_outcome(path: Path) -> Outcome | None:
    """The result in `path`; None when it is not one of this version."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    names = {each.name for each in fields(Outcome)}
    if not isinstance(document, dict) or document.pop("version", None) != VERSION or set(document) != names:
        return None
    return Outcome(**document)
