"""Workers that are over, with what they cost: the bill's lines, by worker."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import pytest

from orchestrator.ledger.store import SqliteLedger
from tests.ledger.month import NOW_NS, history
from tests.ledger.samples import Wall, opened


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteLedger]:
    with opened(tmp_path_factory.mktemp("books") / "ledger.db", Wall(NOW_NS)) as made:
        for batch in history(over=True):
            made.write(batch).result()
        yield made


@pytest.mark.parametrize("slug", ["sketch", "llama-70b"])
def test_each_worker_cost_what_its_lines_on_the_bill_say(ledger: SqliteLedger, slug: str) -> None:
    found = ledger.ended(slug, "research", 200, NOW_NS).result()
    billed: dict[str, int] = defaultdict(int)
    absorbed: dict[str, int] = defaultdict(int)
    lines: dict[str, set[str]] = defaultdict(set)
    for line in ledger.bill("research", None, NOW_NS).result().lines:
        (absorbed if line.absorbed else billed)[line.worker_id] += line.amount_u
        lines[line.worker_id].add(line.interval_id)
    assert found.total == len(found.workers) >= 3
    for worker in found.workers:
        assert (worker.amount_u, worker.absorbed_u) == (billed[worker.worker_id], absorbed[worker.worker_id])
        assert set(worker.interval_ids) == lines[worker.worker_id]
        assert worker.started_ns <= worker.ended_ns <= NOW_NS
    assert [each.ended_ns for each in found.workers] == sorted((w.ended_ns for w in found.workers), reverse=True)


def test_the_newest_come_first_and_all_are_counted(ledger: SqliteLedger) -> None:
    everything = ledger.ended("sketch", "research", 200, NOW_NS).result()
    newest = ledger.ended("sketch", "research", 2, NOW_NS).result()
    assert newest.workers == everything.workers[:2]
    assert newest.total == everything.total


def test_nobody_elses_and_none_that_runs(ledger: SqliteLedger) -> None:
    assert ledger.ended("sketch", "other", 200, NOW_NS).result().workers == ()
    running = {line.worker_id for line in ledger.bill("research", None, NOW_NS).result().lines if line.end_ns is None}
    over = {worker.worker_id for worker in ledger.ended("sketch", "research", 200, NOW_NS).result().workers}
    assert not running & over
