"""Statements, the journal page by page, and other price books: they equal the ledger, to the micro-dollar."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from app.statements import adds_up
from orchestrator.assets import load_price_book
from orchestrator.contract.base import DOLLAR_U, HOUR_NS, SECOND_NS
from orchestrator.contract.query import AskJournal
from orchestrator.contract.snapshot import Tier
from orchestrator.core.billing import due_u
from orchestrator.core.pricing import Price, PriceBook
from orchestrator.core.writes import CreditAdded
from orchestrator.ledger import pages
from orchestrator.ledger.ports import LedgerError
from orchestrator.ledger.store import SqliteLedger
from tests.ledger.month import NOW_NS, at, history
from tests.ledger.samples import L40_UH, T0, Wall, account, closed, endpoint, intent, interval, opened, posting


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteLedger]:
    with opened(tmp_path_factory.mktemp("month") / "ledger.db", Wall(NOW_NS)) as found:
        for batch in history():
            found.write(batch).result()
        assert found.verify(load_price_book).result().problems == ()
        yield found


def entries_u(ledger: SqliteLedger, code: str) -> int:
    """What an account of the double entry adds up to, read by a stranger."""
    with closing(sqlite3.connect(ledger.path)) as reader:
        row = reader.execute("SELECT SUM(amount_u) FROM entry WHERE account_code = ?", (code,)).fetchone()
    return int(row[0] or 0)


def test_a_statement_is_the_bill_with_its_balances(ledger: SqliteLedger) -> None:
    months = [ledger.statement("research", f"2026-{m:02}", NOW_NS).result() for m in (1, 2, 3, 4)]
    whole = ledger.statement("research", None, NOW_NS).result()
    for found in (*months, whole):
        assert found.reconciles
        assert adds_up(found, found.lines)
        assert found.opening_u + found.topped_up_u - found.charged_u == found.closing_u
        assert found.closing_u + found.later_u == found.ledger_balance_u - found.unposted_u
        assert sum(c.amount_u for c in found.charges) == found.charged_u
        assert sum(c.absorbed_u for c in found.charges) == found.absorbed_u
        assert found.ledger_balance_u == entries_u(ledger, "customer:credit:research")
        bill = ledger.bill("research", found.month, NOW_NS).result()
        shown = [(line.interval_id, line.start_ns, line.end_ns, line.amount_u, line.absorbed) for line in found.lines]
        assert shown == [(x.interval_id, x.start_ns, x.end_ns, x.amount_u, x.absorbed) for x in bill.lines]
        assert (bill.total_u, bill.topped_up_u, bill.balance_u) == (
            found.charged_u, found.topped_up_u, found.closing_u + found.later_u,
        )  # fmt: skip
    for before, after in pairwise(months):
        assert before.closing_u == after.opening_u
    assert sum(m.charged_u for m in months) == whole.charged_u
    assert sum(m.absorbed_u for m in months) == whole.absorbed_u > 0
    assert (months[0].opening_u, months[0].closing_u) == (0, 0)
    assert months[3].closing_u == whole.closing_u
    assert months[1].later_u == whole.closing_u - months[1].closing_u != 0
    assert whole.unposted_u == sum(
        due_u(line.rate_uh, line.span_ns) - due_u(line.rate_uh, line.span_ns - 15 * SECOND_NS)
        for line in whole.lines
        if line.end_ns is None
    )


def test_what_was_charged_by_month_equals_what_was_posted(ledger: SqliteLedger) -> None:
    """Revenue in the double entry is what statements charged and absorbed, less what only runs up."""
    whole = ledger.statement("research", None, NOW_NS).result()
    revenue = entries_u(ledger, "revenue:baseline") + entries_u(ledger, "revenue:autoscale")
    assert revenue == whole.charged_u + whole.absorbed_u - whole.unposted_u
    assert -entries_u(ledger, "platform:absorbed") == whole.absorbed_u


def test_a_line_leads_to_its_evidence(ledger: SqliteLedger) -> None:
    found = ledger.statement("research", "2026-03", NOW_NS).result()
    by_worker = {}
    for line in found.lines:
        by_worker.setdefault(line.worker_id, []).append(line)
    (first,) = by_worker["sketch-0001"]
    assert (first.start_ns, first.started_ns) == (at(1), at(26, 8, 0, 3, month=2) + 127_000_001)
    assert first.ready_ns == first.started_ns + 3_140_000_000
    assert (first.engine_ref, first.gpu_uuid, first.model, first.generation) == (
        f"c0ffee{1:058x}", "GPU-5d8f0001", "sketch", 1,
    )  # fmt: skip
    assert (first.end_source, first.worker_end_source, first.end_cause) == ("exit", "exit", "gpu_lost")
    assert first.worker_ended_ns == first.end_ns
    promoted = by_worker["sketch-0017"]
    assert [(x.tier, x.end_source) for x in promoted] == [(Tier.AUTOSCALE, "tier_change"), (Tier.BASELINE, None)]
    assert promoted[0].end_ns == promoted[1].start_ns
    assert (promoted[1].end_ns, promoted[1].worker_ended_ns) == (None, None)
    (never_ready,) = by_worker["sketch-0018"]
    assert (never_ready.absorbed, never_ready.ready_ns) == (True, None)
    lost = by_worker["llama-70b-0019"]
    assert [(x.absorbed, x.span_ns) for x in lost] == [(False, 70 * 60 * SECOND_NS), (True, 20 * 60 * SECOND_NS)]
    assert {x.price_book for x in found.lines} == {"2025-seed"}


def test_pages_add_up_to_the_whole(ledger: SqliteLedger) -> None:
    whole = ledger.statement("research", None, NOW_NS).result()
    lines, after = [], 0
    while after is not None:
        page = ledger.statement("research", None, NOW_NS, after=after, limit=7).result()
        assert page.lines_total == len(whole.lines)
        assert (page.topups == ()) == (after > 0)
        lines.extend(page.lines)
        after = page.next  # type: ignore[assignment]
    assert tuple(lines) == whole.lines


def test_other_accounts_see_nothing_of_it(ledger: SqliteLedger) -> None:
    other = ledger.statement("other", None, NOW_NS).result()
    assert (other.lines, other.charges, other.closing_u) == ((), (), 50 * DOLLAR_U)
    with pytest.raises(KeyError, match="nobody"):
        ledger.statement("nobody", None, NOW_NS).result()


def test_a_statement_says_when_the_ledger_was_changed(tmp_path: Path) -> None:
    of = interval("a.1")
    with opened(tmp_path / "ledger.db", Wall(T0 + HOUR_NS)) as ledger:
        ledger.write((*account(), endpoint(), intent("a"), of, *closed(of, T0 + HOUR_NS))).result()
        assert ledger.statement("local", None, T0 + HOUR_NS).result().reconciles
    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as stranger:
        stranger.execute("DROP TRIGGER journal_no_update")
        stranger.execute("UPDATE journal SET amount_u = amount_u + 1 WHERE kind = 'topup'")
    with opened(tmp_path / "ledger.db", Wall(T0 + HOUR_NS)) as ledger:
        assert not ledger.statement("local", None, T0 + HOUR_NS).result().reconciles


def test_rates_are_compared_with_their_books(tmp_path: Path) -> None:
    intervals = [interval("a.1"), interval("b.1", "b"), interval("c.1", "c")]
    with opened(tmp_path / "ledger.db", Wall(T0 + HOUR_NS)) as ledger:
        ledger.write((*account(), endpoint())).result()
        for serial, of in enumerate(intervals, 1):
            ledger.write((intent(of.worker_id, serial), of, *closed(of, T0 + HOUR_NS))).result()
        right = ledger.verify(load_price_book).result()
        assert (right.ok, right.rates, right.notes) == (True, 3, ())
        assert right.totals[0].model_dump(include={"topped_up_u", "billed_u", "balance_u"}) == {
            "topped_up_u": 1_000 * DOLLAR_U, "billed_u": 3 * L40_UH, "balance_u": 1_000 * DOLLAR_U - 3 * L40_UH,
        }  # fmt: skip
        changed = PriceBook(name="2025-seed", prices={"L40": Price(baseline_uh=L40_UH + 1, autoscale_uh=1)})
        wrong = ledger.verify(lambda _: changed).result()
        gone = ledger.verify(lambda _: None).result()
        other = ledger.verify(lambda name: PriceBook(name=name, prices={})).result()
    assert wrong.problems == (
        f"3 intervals such as 'a.1' are charged at {L40_UH} an hour, price book '2025-seed' says {L40_UH + 1} for L40"
        " at the baseline tier; changed prices need a book of another name",
    )
    assert (wrong.ok, wrong.drift_u) == (False, 0)
    assert (gone.ok, gone.rates) == (True, 0)
    assert gone.notes == ("price book '2025-seed' is not installed: 3 intervals of L40 were not compared",)
    (note,) = other.notes
    assert note == "price book '2025-seed' has no price for 'L40' any more: 3 intervals of L40 were not compared"


def read_all(ledger: SqliteLedger, **wanted: object) -> list[int]:
    query = AskJournal.model_validate(wanted)
    found: list[int] = []
    while True:
        page = ledger.journal(query).result()
        found.extend(row.txn_id for row in page.rows)
        if page.next is None:
            return found
        query = query.model_copy(update={"cursor": page.next})


def test_every_filter_of_the_journal(ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ledger.journal(AskJournal(limit=5_000)).result().rows
    assert [row.txn_id for row in rows] == list(range(1, len(rows) + 1))
    filters = {
        "account": ("other", lambda row: row.account == "other"),
        "endpoint": ("llama-70b", lambda row: row.endpoint == "llama-70b"),
        "worker": ("sketch-0017", lambda row: row.worker_id == "sketch-0017"),
        "entry": ("absorbed", lambda row: row.entry == "absorbed"),
        "since_ns": (at(14), lambda row: row.at_ns >= at(14)),
        "until_ns": (at(14), lambda row: row.at_ns < at(14)),
    }
    monkeypatch.setattr(pages, "ROWS_READ", 5)
    for name, (value, holds) in filters.items():
        expected = [row.txn_id for row in rows if holds(row)]
        assert 0 < len(expected) < len(rows), name
        for limit in (1, 3, 1_000):
            assert read_all(ledger, **{name: value}, limit=limit) == expected
            assert read_all(ledger, **{name: value}, limit=limit, newest=True) == expected[::-1]
    assert read_all(ledger, worker="w17", endpoint="sketch") == read_all(ledger, worker="sketch-0017")
    assert read_all(ledger, account="nobody") == []


def test_rows_carry_what_they_charge_for(ledger: SqliteLedger) -> None:
    rows = ledger.journal(AskJournal(limit=5_000)).result().rows
    balances: dict[str, int] = {}
    upto: dict[str, int] = {}
    for row in rows:
        balances[row.account] = balances.get(row.account, 0) + row.change_u
        assert row.balance_u == balances[row.account]
        if row.interval_id is None:
            assert (row.entry, row.change_u) == ("topup", row.amount_u)
            continue
        start = upto.get(row.interval_id)
        assert row.from_ns == (row.from_ns if start is None else start)
        upto[row.interval_id] = row.upto_ns or 0
        assert row.change_u == (0 if row.entry == "absorbed" else -row.amount_u)
        assert row.rate_uh is not None
    assert len({row.hash for row in rows}) == len(rows)
    assert rows[-1].hash == ledger.statement("research", None, NOW_NS).result().head_hash


def test_the_same_time_under_another_book(ledger: SqliteLedger) -> None:
    half = PriceBook(name="half", prices={"L40": Price(baseline_uh=1_335_000, autoscale_uh=7_632_000)})
    found = ledger.comparison("research", "2026-03", NOW_NS, half).result()
    charged = ledger.statement("research", "2026-03", NOW_NS).result()
    assert (found.books, found.other_book) == (("2025-seed",), "half")
    rows = {(row.endpoint, row.tier): row for row in found.rows}
    assert rows["llama-70b", Tier.AUTOSCALE].other_u is None
    assert found.unpriced_u == rows["llama-70b", Tier.AUTOSCALE].amount_u
    assert found.amount_u + found.unpriced_u == charged.charged_u
    lines = [line for line in charged.lines if line.gpu_type == "L40" and not line.absorbed]
    per_line = {}
    for line in lines:
        rate = half.prices["L40"].rate_uh(line.tier)
        origin = line.started_ns if line.interval_id.endswith(".1") else line.start_ns
        whole_ns = line.start_ns + line.span_ns
        per_line[line.interval_id] = due_u(rate, whole_ns - origin) - due_u(rate, line.start_ns - origin)
    assert found.other_u == sum(per_line.values())
    assert found.difference_u == found.other_u - found.amount_u < 0
    same = ledger.comparison("research", None, NOW_NS, load_price_book("2025-seed")).result()
    assert (same.difference_u, same.unpriced_u) == (0, 0)
    assert all(row.difference_u == 0 for row in same.rows)


def test_an_older_now_is_an_older_statement(tmp_path: Path) -> None:
    of = interval("a.1")
    with opened(tmp_path / "ledger.db", Wall(T0 + HOUR_NS)) as ledger:
        ledger.write((*account(), endpoint(), intent("a"), of, posting(of, T0 + 60 * SECOND_NS))).result()
        ledger.write((CreditAdded("local", 1, "later", "", T0 + HOUR_NS),)).result()
        found = ledger.statement("local", None, T0 + HOUR_NS).result()
        assert found.charged_u == L40_UH
        assert ledger.statement("local", None, T0 + HOUR_NS // 2).result().charged_u == L40_UH // 2
        with pytest.raises(LedgerError, match="ValueError"):
            ledger.statement("local", "2026-13", T0).result()
