"""Bytes per request and query times of a history of ten million requests.

    .venv/bin/python -m tests.bench.ledger_history [REQUESTS] [DAYS] [ENDPOINTS]

Every minute of DAYS days is stored as the orchestrator stores it, one transaction a minute, with latencies of three
shapes; then every panel's query is timed. Ends with exit code 1 when one takes 50 ms or more.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from orchestrator.contract.base import SECOND_NS
from orchestrator.core.history import BUCKETS, Counts, Minute, bucket_of, to_counts
from orchestrator.ledger.metrics import MetricsStore
from orchestrator.ledger.series import DAY_S, HOUR_S

END_S = 1_790_000_000 // DAY_S * DAY_S
LIMIT_MS = 50.0
PANELS = {
    "last hour by the minute": (HOUR_S, 60),
    "last 12 hours by the minute": (12 * HOUR_S, 60),
    "last two days by the minute": (48 * HOUR_S, 60),
    "last five days by ten minutes": (5 * DAY_S, 600),
    "last week by ten minutes": (7 * DAY_S, 600),
    "last month by the hour": (30 * DAY_S, HOUR_S),
    "last 60 days by the hour": (60 * DAY_S, HOUR_S),
    "last year by the day": (365 * DAY_S, DAY_S),
    "ten years by the day": (3_650 * DAY_S, DAY_S),
}


def minute_of(requests: int, chance: random.Random, scale_ms: float) -> Counts:
    """Latencies around `scale_ms` with a long tail; one in ten waited; one in two hundred failed."""
    total, queue = [0] * BUCKETS, [0] * BUCKETS
    failures = sum(chance.random() < 0.005 for _ in range(requests))
    for _ in range(requests - failures):
        waited = chance.expovariate(1 / 400) if chance.random() < 0.1 else 0.02
        served = scale_ms * chance.lognormvariate(0, 0.5)
        total[bucket_of(int((served + waited) * 1e6))] += 1
        queue[bucket_of(int(waited * 1e6))] += 1
    return to_counts(requests, failures, total, queue)


def fill(store: MetricsStore, requests: int, days: int, endpoints: int) -> int:
    """Store `requests` in all; returns how many it really were."""
    chance = random.Random(7)
    minutes = days * 1_440
    each = max(1, requests // (minutes * endpoints))
    kinds = [[minute_of(each, chance, scale) for _ in range(40)] for scale in (120, 900, 6_000)]
    stored = 0
    for number in range(minutes):
        start_s = END_S - (minutes - number) * 60
        counts = {f"endpoint-{e}": chance.choice(kinds[e % 3]) for e in range(endpoints)}
        served = {f"endpoint-{e}-{number // 180}.1": each for e in range(endpoints)}
        store.add([Minute(start_s * SECOND_NS, counts, served)])
        stored += each * endpoints
        store_clock[0] = (start_s + 60) * SECOND_NS
        if number % 500 == 0:
            store.served(["none"]).result()  # let the queue of the thread run empty now and then
    store.served(["none"]).result()
    return stored


store_clock = [0]


def timed_ms(store: MetricsStore, span_s: int, step_s: int) -> tuple[float, int, int]:
    """Median of nine, the step that was answered, the number of points."""
    until_ns = END_S * SECOND_NS
    times = []
    for _ in range(9):
        begin = time.perf_counter()
        found = store.history("endpoint-0", until_ns - span_s * SECOND_NS, until_ns, step_s).result()
        times.append((time.perf_counter() - begin) * 1_000)
    return statistics.median(times), found.step_s, len(found.points)


def main(arguments: list[str]) -> int:
    given = [int(text) for text in arguments]
    requests, days, endpoints = (*given, *(10_000_000, 92, 3)[len(given) :])
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        store = MetricsStore(Path(directory) / "metrics.db", lambda: store_clock[0])
        begin = time.perf_counter()
        stored = fill(store, requests, days, endpoints)
        took_s = time.perf_counter() - begin
        size = store.path.stat().st_size
        write = sys.stdout.write
        write(f"{stored:,} requests, {endpoints} endpoints, {days} days: {size:,} bytes\n")
        write(f"{size / stored:.4f} bytes a request; {took_s / (days * 1_440) * 1e3:.2f} ms a minute stored\n")
        worst = 0.0
        for name, (span_s, step_s) in PANELS.items():
            spent_ms, step, points = timed_ms(store, span_s, step_s)
            worst = max(worst, spent_ms)
            write(f"{name:<30}{spent_ms:7.1f} ms  step {step:>6} s  {points:>5} points\n")
        store.close()
    return 0 if worst < LIMIT_MS else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
