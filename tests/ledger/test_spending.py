"""What an endpoint cost over time adds up to its bill, whatever the steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.contract.base import HOUR_NS, SECOND_NS
from orchestrator.core.billing import due_u
from orchestrator.core.writes import IntervalClosed, Write
from orchestrator.ledger.store import SqliteLedger
from tests.ledger.month import NOW_NS, history
from tests.ledger.samples import L40_UH, T0, Wall, account, closed, endpoint, intent, interval, opened, posting

DAY_NS = 24 * HOUR_NS
START = T0 // DAY_NS * DAY_NS


def spending(
    ledger: SqliteLedger, since_ns: int, until_ns: int, step_s: int, *, slug: str = "demo", now_ns: int = T0 + DAY_NS
) -> list[tuple[int, int]]:
    found = ledger.spending(slug, "local", since_ns, until_ns, step_s, now_ns).result()
    return [(point.start_ns, point.amount_u) for point in found]


def test_steps_of_one_worker_are_cut_where_they_end(tmp_path: Path) -> None:
    of = interval("a.1", "a", start_ns=START + 1_800 * SECOND_NS)
    writes: tuple[Write, ...] = (*account(), endpoint(), intent("a"), of, *closed(of, START + 2 * HOUR_NS))
    with opened(tmp_path / "ledger.db") as ledger:
        ledger.write(writes).result()
        assert spending(ledger, START, START + 3 * HOUR_NS, 3_600) == [
            (START, L40_UH // 2), (START + HOUR_NS, L40_UH),
        ]  # fmt: skip
        assert spending(ledger, START + HOUR_NS, START + 3 * HOUR_NS, 3_600) == [(START + HOUR_NS, L40_UH)]
        assert spending(ledger, START + 2 * HOUR_NS, START + 3 * HOUR_NS, 3_600) == []
        assert spending(ledger, START, START + 3 * HOUR_NS, 3_600, slug="other") == []
        assert ledger.spending("demo", "other", START, T0 + DAY_NS, 3_600, T0).result() == ()


@pytest.mark.parametrize("step_s", [60, 420, 3_600, 86_400])
def test_steps_add_up_to_the_micro_dollar(tmp_path: Path, step_s: int) -> None:
    end_ns = START + DAY_NS + 12_345_678_901
    of = interval("a.1", "a", start_ns=START + 7)
    writes: tuple[Write, ...] = (*account(), endpoint(), intent("a"), of, *closed(of, end_ns))
    with opened(tmp_path / "ledger.db") as ledger:
        ledger.write(writes).result()
        points = spending(ledger, START, START + 2 * DAY_NS, step_s, now_ns=end_ns)
    assert sum(amount for _, amount in points) == due_u(L40_UH, end_ns - START - 7)
    assert all(start % (step_s * SECOND_NS) == START % (step_s * SECOND_NS) for start, _ in points)


def test_an_open_worker_counts_to_now_and_an_absorbed_one_not_at_all(tmp_path: Path) -> None:
    running, absorbed = interval("a.1", "a", start_ns=START), interval("b.1", "b", start_ns=START)
    writes: tuple[Write, ...] = (
        *account(), endpoint(), intent("a"), intent("b", 2), running, posting(running, START + 60 * SECOND_NS),
        absorbed, posting(absorbed, START + HOUR_NS, absorbed=True),
        IntervalClosed("b.1", START + HOUR_NS, "exit", True),
    )  # fmt: skip
    with opened(tmp_path / "ledger.db") as ledger:
        ledger.write(writes).result()
        assert spending(ledger, START, START + DAY_NS, 86_400, now_ns=START + HOUR_NS) == [(START, L40_UH)]


def test_a_month_of_history_equals_its_bill(tmp_path: Path) -> None:
    """Tier changes, absences, partly absorbed intervals, several workers: the ledger of the statement's tests."""
    with opened(tmp_path / "ledger.db", Wall(NOW_NS)) as ledger:
        for batch in history():
            ledger.write(batch).result()
        lines = ledger.bill("research", None, NOW_NS).result().lines
        slugs = {line.endpoint for line in lines}
        first = min(line.start_ns for line in lines) // DAY_NS * DAY_NS
        last = NOW_NS + DAY_NS
        for slug in slugs:
            points = ledger.spending(slug, "research", first, last, 3_600, NOW_NS).result()
            billed = sum(line.amount_u for line in lines if line.endpoint == slug and not line.absorbed)
            assert sum(point.amount_u for point in points) == billed
    assert slugs


def test_a_running_worker_brings_what_its_closed_intervals_cost(tmp_path: Path) -> None:
    """Its cost on the screen goes on after a restart, whatever tiers it has had; what was absorbed is not in it."""
    first, second = interval("a.1", "a", start_ns=START), interval("a.2", "a", start_ns=START + HOUR_NS)
    third, fresh = interval("a.3", "a", start_ns=START + 2 * HOUR_NS), interval("b.1", "b", start_ns=START)
    writes: tuple[Write, ...] = (
        *account(), endpoint(), intent("a"), intent("b", 2),
        first, *closed(first, START + HOUR_NS), second, *closed(second, START + 2 * HOUR_NS, absorbed=True),
        third, posting(third, START + 3 * HOUR_NS), fresh,
    )  # fmt: skip
    with opened(tmp_path / "ledger.db") as ledger:
        ledger.write(writes).result()
    with opened(tmp_path / "ledger.db") as ledger:
        workers = ledger.load().result().workers
    assert [(worker.intent.worker_id, worker.spent_u) for worker in workers] == [("a", L40_UH), ("b", 0)]
