"""An open-loop load generator: requests leave on schedule, whatever the answers do.

A closed loop (send, wait, send) slows down with the system and hides its queue. Here latency counts from the moment a
request was due, so a generator or a connection that is late shows up in the figures instead of vanishing from them.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import httpx

CONNECTIONS_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class Shot:
    """One request and when it is due, in seconds from the start of the run."""

    at_s: float
    body: bytes = b""
    content_type: str = "application/octet-stream"
    query: str = ""
    """Query string without the question mark."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of one shot. `status` is None when no answer came; `error` then says why."""

    index: int
    at_s: float
    """When it was due."""
    late_ms: float
    """How much later than due it left this program."""
    latency_ms: float
    """From due to the last byte of the answer, or to the failure."""
    status: int | None
    worker: str | None = None
    queue_ms: int | None = None
    cold_start: bool = False
    """The request waited for a worker that was starting."""
    error: str | None = None

    @property
    def ok(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Nearest-rank percentiles in milliseconds; None without a sample."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, slots=True)
class LoadReport:
    """A whole run. Latencies are those of successful requests, so that quick failures cannot flatter them."""

    sent: int
    succeeded: int
    failed: int
    duration_s: float
    """From the first due moment to the last answer."""
    per_worker: Mapping[str, int]
    """Successful requests by worker id, in order of first answer."""
    latency_ms: Percentiles
    queue_ms: Percentiles
    cold_starts: int
    """Requests that waited for a worker to start."""
    late_ms_max: float
    """Worst delay of the generator itself; large values say that this machine could not offer the load."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """How often each status or error occurred."""
    replies: tuple[Reply, ...] = field(default=(), repr=False)


def percentile(ordered: Sequence[float], percent: float) -> float | None:
    """Nearest rank: the smallest value that at least `percent` of the sorted sample do not exceed."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def percentiles(sample: Iterable[float]) -> Percentiles:
    """The usual percentiles of a sample in any order, to a tenth of a millisecond."""
    ordered = [round(value, 1) for value in sorted(sample)]
    return Percentiles(*(percentile(ordered, p) for p in (50, 95, 99, 100)))


def summarise(replies: Sequence[Reply]) -> LoadReport:
    """The figures of a run. Pure: the same replies give the same report."""
    good = [reply for reply in replies if reply.ok]
    ends = [reply.at_s + reply.latency_ms / 1_000 for reply in replies]
    by_arrival = sorted(good, key=lambda reply: reply.at_s + reply.latency_ms / 1_000)
    return LoadReport(
        sent=len(replies),
        succeeded=len(good),
        failed=len(replies) - len(good),
        duration_s=round(max(ends) - min(reply.at_s for reply in replies), 3) if replies else 0.0,
        per_worker=dict(Counter(reply.worker for reply in by_arrival if reply.worker is not None)),
        latency_ms=percentiles(reply.latency_ms for reply in good),
        queue_ms=percentiles(reply.queue_ms for reply in good if reply.queue_ms is not None),
        cold_starts=sum(reply.cold_start for reply in good),
        late_ms_max=round(max((reply.late_ms for reply in replies), default=0.0), 1),
        failures=dict(Counter(reply.error or f"HTTP {reply.status}" for reply in replies if not reply.ok)),
        replies=tuple(replies),
    )


def steady(rate_per_s: float, seconds: float, start_s: float = 0.0) -> list[float]:
    """Due moments of a constant rate: the first at `start_s`, none at or after `start_s + seconds`."""
    count = math.ceil(rate_per_s * seconds - 1e-9)
    return [start_s + index / rate_per_s for index in range(count)]


def rising(from_per_s: float, to_per_s: float, seconds: float, start_s: float = 0.0) -> list[float]:
    """Due moments of a rate that grows (or falls) linearly from one figure to the other over `seconds`."""
    slope = (to_per_s - from_per_s) / seconds
    if abs(slope) < 1e-9:
        return steady(from_per_s, seconds, start_s)
    total = (from_per_s + to_per_s) / 2 * seconds
    # The n-th request is due when the area under the rate reaches n: n = from·t + slope·t²/2, solved for t.
    moments = ((math.sqrt(from_per_s**2 + 2 * slope * n) - from_per_s) / slope for n in range(math.ceil(total - 1e-9)))
    return [start_s + moment for moment in moments]


async def run_load(
    url: str,
    key: str,
    requests: Sequence[Shot],
    *,
    timeout_s: float = 120.0,
    connections: int = CONNECTIONS_MAX,
    on_reply: Callable[[Reply], None] | None = None,
) -> LoadReport:
    """POST every shot to `url` with the API key `key` when it is due, wait for all answers, report.

    `timeout_s` bounds one request from sending to its last byte. `on_reply` is called after each answer, in this event
    loop. A failed request is a Reply with an error, never an exception. Cancelling the run drops what is in flight.
    """
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with httpx.AsyncClient(
        # An HTTP proxy from the environment must never see requests to this machine (trust_env).
        trust_env=False,
        limits=limits,
        timeout=httpx.Timeout(timeout_s, pool=None),
        headers={"x-api-key": key},
    ) as client:
        loop = asyncio.get_running_loop()
        start = loop.time()
        replies: list[Reply] = []

        async def fire(index: int, shot: Shot) -> None:
            due = start + shot.at_s
            await asyncio.sleep(due - loop.time())
            reply = await _post(client, url, index, shot, due, timeout_s)
            replies.append(reply)
            if on_reply is not None:
                on_reply(reply)

        async with asyncio.TaskGroup() as group:
            for index, shot in enumerate(requests):
                group.create_task(fire(index, shot))
    return summarise(sorted(replies, key=lambda reply: reply.index))


async def _post(client: httpx.AsyncClient, url: str, index: int, shot: Shot, due: float, timeout_s: float) -> Reply:
    loop = asyncio.get_running_loop()
    late_ms = max(0.0, (loop.time() - due) * 1_000)
    target = f"{url}?{shot.query}" if shot.query else url
    status: int | None = None
    headers = httpx.Headers()
    error: str | None = None
    try:
        async with (
            asyncio.timeout(timeout_s),
            client.stream("POST", target, content=shot.body, headers={"content-type": shot.content_type}) as response,
        ):
            headers = response.headers
            async for _ in response.aiter_raw():
                pass  # what was sent is of no interest here, only that all of it came
            # Only now: a stream that broke half-way has a status and is still no success.
            status = response.status_code
    except TimeoutError:
        error = f"no answer within {timeout_s:g} s"
    except httpx.HTTPError as broken:
        error = type(broken).__name__
    return Reply(
        index=index,
        at_s=shot.at_s,
        late_ms=late_ms,
        latency_ms=(loop.time() - due) * 1_000,
        status=status,
        worker=headers.get("x-worker-id"),
        queue_ms=whole(headers.get("x-queue-ms")),
        cold_start=truthy(headers.get("x-cold-start")),
        error=error,
    )


def whole(text: str | None) -> int | None:
    """A header's number rounded down, None when it is absent or no number."""
    try:
        return None if text is None else int(float(text))
    except (ValueError, OverflowError):
        return None


def truthy(text: str | None) -> bool:
    """Whether a header says yes: anything but absent, empty, `0`, `false` and `no`."""
    return (text or "").strip().lower() not in ("", "0", "false", "no")
