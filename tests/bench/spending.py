"""How long the cost panel's queries take in a ledger with a long past.

    .venv/bin/python -m tests.bench.spending [INTERVALS] [DAYS]

One endpoint whose autoscaled workers came and went INTERVALS times in DAYS days, beside as many of another one. Ends
with exit code 1 when a panel takes 50 ms or more.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from app.present.history import DAY_S, RANGES, question
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.snapshot import Tier
from orchestrator.core.writes import Write
from orchestrator.ledger.store import SqliteLedger
from tests.ledger.samples import T0, account, closed, endpoint, intent, interval

LIMIT_MS = 50.0
LIFE_NS = 90 * SECOND_NS


def writes(slug: str, intervals: int, days: int) -> list[tuple[Write, ...]]:
    """One worker, one interval of LIFE_NS, in equal distances."""
    gap_ns = days * DAY_S * SECOND_NS // intervals
    made: list[tuple[Write, ...]] = []
    for number in range(intervals):
        start_ns, worker = T0 + number * gap_ns, f"{slug}-{number}"
        of = interval(f"{worker}.1", worker, start_ns, Tier.AUTOSCALE, slug)
        made.append((intent(worker, number + 1, slug), of, *closed(of, start_ns + LIFE_NS)))
    return made


def main() -> int:
    intervals, days = (int(text) for text in (*sys.argv[1:], "30000", "92")[:2])
    now_ns = T0 + days * DAY_S * SECOND_NS
    slow = False
    with tempfile.TemporaryDirectory() as directory:
        ledger = SqliteLedger(Path(directory) / "ledger.db", lambda: now_ns)
        ledger.write((*account(amount_u=10**12), endpoint("demo"), endpoint("other"))).result()
        for slug in ("demo", "other"):
            made = writes(slug, intervals, days)
            for first in range(0, intervals, 500):
                ledger.write([write for each in made[first : first + 500] for write in each]).result()
        for shown in RANGES:
            asked = question("demo", shown, now_ns)
            times_ms = []
            for _ in range(20):
                begun = time.perf_counter()
                window = (asked.since_ns, asked.until_ns, asked.step_s, now_ns)
                found = ledger.spending("demo", "local", *window).result()
                times_ms.append((time.perf_counter() - begun) * 1_000)
            worst = max(times_ms)
            slow |= statistics.median(times_ms) >= LIMIT_MS
            sys.stdout.write(
                f"{shown.name:>5}: {len(found):>3} steps, median {statistics.median(times_ms):6.2f} ms, worst "
                f"{worst:6.2f} ms\n"
            )
        ledger.close()
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
