"""The bill, to the micro-dollar."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contract.base import DOLLAR_U, HOUR_NS, SECOND_NS
from orchestrator.contract.snapshot import Tier
from orchestrator.core.billing import due_u
from orchestrator.core.writes import CreditAdded, IntervalClosed, Posted
from orchestrator.ledger.periods import day_start_ns, month_bounds_ns, month_start_ns
from orchestrator.ledger.ports import LedgerError
from tests.ledger.samples import L40_AUTO_UH, L40_UH, T0, Wall, account, closed, endpoint, intent, interval, opened
from tests.ledger.samples import posting as post

DAY_NS = 24 * HOUR_NS


def instant(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp()) * SECOND_NS  # type: ignore[arg-type,misc]


def test_an_l40_for_a_day_in_random_postings_costs_64_08_dollars(tmp_path: Path) -> None:
    chance = random.Random(7)
    of = interval("a.1")
    with opened(tmp_path / "ledger.db", Wall(T0 + DAY_NS)) as ledger:
        ledger.write((*account(), endpoint(), intent("a"), of)).result()
        posted, writes = 0, list[Posted]()
        for upto in sorted({T0 + chance.randrange(1, DAY_NS) for _ in range(200)}):
            write = post(of, upto, posted)
            posted += write.amount_u
            writes.append(write)
        for first in range(0, len(writes), 10):
            ledger.write(writes[first : first + 10])
        ledger.write(closed(of, T0 + DAY_NS, posted)).result()
        bill = ledger.bill("local", None, T0 + DAY_NS).result()
        assert ledger.verify().result().model_dump(include={"ok", "drift_u"}) == {"ok": True, "drift_u": 0}
    assert bill.total_u == bill.lines[0].amount_u == 64_080_000
    assert bill.balance_u == bill.topped_up_u - 64_080_000 == 1_000 * DOLLAR_U - 64_080_000


def test_open_intervals_are_billed_as_due_now(tmp_path: Path) -> None:
    of = interval("a.1")
    with opened(tmp_path / "ledger.db") as ledger:
        ledger.write((*account(), endpoint(), intent("a"), of, post(of, T0 + 10 * SECOND_NS))).result()
        bill = ledger.bill("local", None, T0 + HOUR_NS).result()
        early = ledger.bill("local", None, T0).result()
    (line,) = bill.lines
    assert (line.end_ns, line.seconds, line.amount_u, line.tier) == (None, 3600.0, L40_UH, Tier.BASELINE)
    assert bill.balance_u == 1_000 * DOLLAR_U - L40_UH
    assert early.lines[0].seconds == 10.0
    assert early.total_u == L40_UH * 10 // 3600, "what was posted is never shown as less"


def test_absorbed_time_is_shown_and_not_charged(tmp_path: Path) -> None:
    of, half = interval("a.1"), interval("b.1", "b")
    with opened(tmp_path / "ledger.db", Wall(T0 + HOUR_NS)) as ledger:
        ledger.write((*account(), endpoint(), intent("a", 1), intent("b", 2), of, half)).result()
        ledger.write(closed(of, T0 + HOUR_NS, absorbed=True)).result()
        billed = post(half, T0 + HOUR_NS // 4)
        ledger.write((billed, *closed(half, T0 + HOUR_NS, billed.amount_u, absorbed=True))).result()
        bill = ledger.bill("local", None, T0 + HOUR_NS).result()
        saved = ledger.load().result()
        assert ledger.verify().result().problems == ()
    assert [(line.interval_id, line.amount_u, line.absorbed, line.seconds) for line in bill.lines] == [
        ("a.1", L40_UH, True, 3600.0),
        ("b.1", L40_UH // 4, False, 900.0),
        ("b.1", L40_UH * 3 // 4, True, 2700.0),
    ]
    assert (bill.total_u, bill.absorbed_u) == (L40_UH // 4, L40_UH + L40_UH * 3 // 4)
    assert bill.balance_u == saved.balances_u["local"] == 1_000 * DOLLAR_U - L40_UH // 4
    assert saved.absorbed_total_u == {"demo": L40_UH + L40_UH * 3 // 4}
    assert saved.spent_total_u == {"demo": L40_UH // 4}


def test_months_add_up_exactly(tmp_path: Path) -> None:
    """Four intervals over three months at rates that divide into nothing, one absorbed in part, one still open."""
    start, now = instant(2025, 11, 30, 23, 17, 5), instant(2026, 2, 3, 4, 5, 6) + 123_456_789
    rates = (2_670_001, 15_264_007, 999_983, 7)
    ids = "abcd"
    intervals = [
        interval(f"{i}.1", i, start + n * HOUR_NS + 77, rate_uh=rate)
        for n, (i, rate) in enumerate(zip(ids, rates, strict=True))
    ]
    with opened(tmp_path / "ledger.db", Wall(now)) as ledger:
        ledger.write((*account(amount_u=10_000 * DOLLAR_U, at_ns=start), endpoint())).result()
        ledger.write((CreditAdded("local", 5, "second", "", instant(2026, 1, 1)),)).result()
        for n, of in enumerate(intervals):
            ledger.write((intent(of.worker_id, n + 1), of)).result()
        ledger.write(closed(intervals[0], instant(2026, 1, 15) + 3)).result()
        part = post(intervals[1], instant(2025, 12, 31, 23, 59, 59) + 1)
        ledger.write((part, *closed(intervals[1], instant(2026, 1, 2) + 5, part.amount_u, absorbed=True))).result()
        ledger.write(closed(intervals[2], instant(2026, 1, 1))).result()
        assert ledger.verify().result().problems == ()
        whole = ledger.bill("local", None, now).result()
        months = [
            ledger.bill("local", m, now).result() for m in ("2025-10", "2025-11", "2025-12", "2026-01", "2026-02")
        ]
        nothing = ledger.bill("local", "2026-03", now).result()
    assert [len(bill.lines) for bill in months] == [0, 1, 5, 3, 1]
    assert sum(bill.total_u for bill in months) == whole.total_u
    assert sum(bill.absorbed_u for bill in months) == whole.absorbed_u > 0
    assert sum(bill.topped_up_u for bill in months) == whole.topped_up_u == 10_000 * DOLLAR_U + 5
    assert {bill.balance_u for bill in months} == {whole.balance_u} == {whole.topped_up_u - whole.total_u}
    assert (nothing.lines, nothing.total_u, nothing.topped_up_u) == ((), 0, 0)
    for of in intervals:
        lines = [line for bill in months for line in bill.lines if line.interval_id == of.interval_id]
        ends = [line.end_ns for line in lines]
        assert [line.start_ns for line in lines[1:]] == ends[:-1], "the cuts of an interval meet"
    january = {line.interval_id: line for line in months[3].lines if not line.absorbed}
    assert january["d.1"].end_ns == instant(2026, 2, 1)
    assert january["d.1"].amount_u == due_u(7, instant(2026, 2, 1) - intervals[3].start_ns) - due_u(
        7, instant(2026, 1, 1) - intervals[3].start_ns
    )
    assert months[4].lines[0].end_ns is None
    assert (months[2].lines[0].end_source, january["a.1"].end_source) == (None, "exit")


def test_an_unknown_account_is_a_key_error(tmp_path: Path) -> None:
    with opened(tmp_path / "ledger.db") as ledger:
        with pytest.raises(KeyError, match="nobody"):
            ledger.bill("nobody", None, T0).result()
        ledger.write(account()).result()
        with pytest.raises(LedgerError, match="ValueError"):
            ledger.bill("local", "2026-13", T0).result()
        assert ledger.bill("local", None, T0).result().lines == ()


def test_sums_belong_to_the_day_of_their_posting(tmp_path: Path) -> None:
    """A posting at 23:59:59 is yesterday's, one at 00:00:00 today's; last month's are neither."""
    midnight = instant(2026, 1, 2)
    of = interval("a.1", start_ns=instant(2025, 12, 31, 23), tier=Tier.AUTOSCALE)
    other = interval("b.1", "b", start_ns=midnight - 10 * SECOND_NS, slug="second")
    with opened(tmp_path / "ledger.db", Wall(midnight + HOUR_NS)) as ledger:
        ledger.write((*account(), endpoint(at_ns=T0), endpoint("second", at_ns=T0))).result()
        ledger.write((intent("a"), intent("b", 2, "second"), of, other)).result()
        amounts: list[Posted] = []
        for upto, at in (
            (instant(2025, 12, 31, 23, 30), instant(2025, 12, 31, 23, 59, 59)),
            (instant(2026, 1, 1, 12), instant(2026, 1, 1)),
            (instant(2026, 1, 1, 13), midnight - 1),
            (instant(2026, 1, 2), midnight),
        ):
            amounts.append(post(of, upto, sum(a.amount_u for a in amounts), at_ns=at))
            ledger.write((amounts[-1],)).result()
        ledger.write((*closed(other, midnight - SECOND_NS), IntervalClosed("a.1", midnight, "exit", False))).result()
        saved = ledger.load().result()
        assert ledger.verify().result().problems == ()
    last_month, first, second, today = (a.amount_u for a in amounts)
    others = L40_UH * 9 // 3600
    assert last_month == L40_AUTO_UH // 2
    assert saved.spent_today_u == {"demo": today, "second": 0}
    assert saved.spent_total_u == {"demo": last_month + first + second + today, "second": others}
    assert saved.account_today_u == {"local": today}
    assert saved.spent_month_u == {"local": first + second + today + others}


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2199, 12, 31)))  # noqa: DTZ001 - made UTC below
def test_periods_contain_their_instants(naive: datetime) -> None:
    day = naive.replace(tzinfo=UTC)
    at_ns = int(day.timestamp()) * SECOND_NS
    start, end = month_bounds_ns(f"{day:%Y-%m}")
    assert start <= at_ns < end
    assert month_start_ns(at_ns) == month_start_ns(end - 1) == start
    assert day_start_ns(at_ns) == int(day.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()) * SECOND_NS
