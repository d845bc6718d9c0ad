"""Random histories of a ledger against a model in a dictionary (reliability.md 4.6: I1-I8, I10, I11).

A short run by default; `GPUDECK_EXAMPLES=2000` is the long profile, of 50 steps an example. I9 needs containers and I12
mails: tests/core and tests/e2e have those.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.snapshot import Tier
from orchestrator.core.billing import due_u
from orchestrator.core.writes import (
    AccountOpened,
    CreditAdded,
    Heartbeat,
    IntervalClosed,
    IntervalOpened,
    Posted,
    SavedInterval,
    WorkerEnded,
    Write,
)
from orchestrator.ledger.backups import restore
from orchestrator.ledger.ports import LedgerError
from orchestrator.ledger.store import SqliteLedger
from tests.ledger.memory import MEMORY
from tests.ledger.samples import L40_AUTO_UH, L40_UH, T0, Wall, endpoint, intent

WORKERS_MAX = 4
RATE_MAX_UH = 50_000_000
EXAMPLES = int(os.environ.get("GPUDECK_EXAMPLES", "25"))
STEPS = 50 if "GPUDECK_EXAMPLES" in os.environ else 20


@dataclass
class Running:
    """What the model knows of an open interval."""

    opened: IntervalOpened
    posted_u: int = 0
    upto_ns: int = 0
    last_seen_ns: int = 0
    idle_since_ns: int | None = None


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="gpudeck-machine-", dir=MEMORY))
        self.lives = 0
        self.wall = Wall(T0)
        self.path = self.root / "0.db"
        self.ledger = SqliteLedger(self.path, self.wall)
        self.history: list[tuple[Write, ...]] = []
        self.running: dict[str, Running] = {}
        self.ended: dict[str, tuple[IntervalOpened, int]] = {}
        self.topped_up_u = 0
        self.billed_u = 0
        self.absorbed_u = 0
        self.workers = 0
        self.rows: list[tuple[object, ...]] = []

    def write(self, *writes: Write) -> None:
        self.ledger.write(writes).result()
        self.history.append(writes)

    @initialize()
    def begin(self) -> None:
        self.write(AccountOpened("local", T0), endpoint())

    @rule(seconds=st.integers(0, 5_000), ns=st.integers(0, SECOND_NS - 1))
    def tick(self, seconds: int, ns: int) -> None:
        self.wall.ns += seconds * SECOND_NS + ns

    @rule(amount=st.integers(1, 10**12))
    def top_up(self, amount: int) -> None:
        self.topped_up_u += amount
        self.write(CreditAdded("local", amount, f"key-{len(self.history)}", "top-up", self.wall.ns))

    @precondition(lambda self: len(self.running) < WORKERS_MAX)
    @rule(tier=st.sampled_from(Tier))
    def start(self, tier: Tier) -> None:
        self.workers += 1
        worker = f"w{self.workers}"
        self.write(replace(intent(worker, self.workers), at_ns=self.wall.ns), self._open(worker, tier, 1))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), lag=st.integers(0, 20 * SECOND_NS), idle=st.booleans())
    def post(self, data: st.DataObject, lag: int, idle: bool) -> None:
        running = self._pick(data)
        if running.last_seen_ns == self.wall.ns:
            idle = running.idle_since_ns is not None  # heartbeats of one instant say the same
        upto_ns = max(running.opened.start_ns, self.wall.ns - lag)
        name = running.opened.interval_id
        since = ((name, running.opened.start_ns),) if idle else ()
        self.write(*self._due(running, upto_ns), Heartbeat((name,), self.wall.ns, idle=since))
        running.last_seen_ns = max(running.last_seen_ns, self.wall.ns)
        running.idle_since_ns = running.opened.start_ns if idle else None

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def change_tier(self, data: st.DataObject) -> None:
        running = self._pick(data)
        worker, number = running.opened.interval_id.split(".")
        other = Tier.AUTOSCALE if running.opened.tier is Tier.BASELINE else Tier.BASELINE
        final = self._end(running, self.wall.ns, absorbed=False)
        closing_write = IntervalClosed(running.opened.interval_id, self.wall.ns, "tier_change", False)
        self.write(*final, closing_write, self._open(worker, other, int(number) + 1))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), rate_uh=st.integers(0, RATE_MAX_UH))
    def change_price(self, data: st.DataObject, rate_uh: int) -> None:
        """A new price book: the interval splits at the same instant, the tier stays."""
        running = self._pick(data)
        worker, number = running.opened.interval_id.split(".")
        final = self._end(running, self.wall.ns, absorbed=False)
        closing_write = IntervalClosed(running.opened.interval_id, self.wall.ns, "price_change", False)
        self.write(*final, closing_write, self._open(worker, running.opened.tier, int(number) + 1, rate_uh))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), absorbed=st.booleans(), lag=st.integers(0, 20 * SECOND_NS))
    def end(self, data: st.DataObject, absorbed: bool, lag: int) -> None:
        running = self._pick(data)
        end_ns = max(running.opened.start_ns, running.upto_ns, self.wall.ns - lag)
        final = self._end(running, end_ns, absorbed=absorbed)
        self.write(
            *final,
            IntervalClosed(running.opened.interval_id, end_ns, "exit", absorbed),
            WorkerEnded(running.opened.worker_id, end_ns, "exit", "clean", ""),
        )

    @precondition(lambda self: self.history)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """A batch that arrives twice changes nothing, unless it is news (the endpoint's row is replaced by itself)."""
        self.ledger.write(data.draw(st.sampled_from(self.history))).result()

    @precondition(lambda self: self.running)
    @rule(data=st.data(), excess=st.integers(1, 10**6))
    def overcharge(self, data: st.DataObject, excess: int) -> None:
        """More than is due is refused, with everything else of its batch."""
        opened = self._pick(data).opened
        upto_ns = self.wall.ns + 1
        amount = due_u(opened.rate_uh, upto_ns - opened.start_ns) - self._pick_posted(opened) + excess
        bad = Posted(opened.interval_id, "local", opened.tier, amount, upto_ns, False, self.wall.ns)
        gift = CreditAdded("local", 1, f"gift-{len(self.history)}", "", self.wall.ns)
        with pytest.raises(LedgerError, match="is more than"):
            self.ledger.write((gift, bad)).result()

    @precondition(lambda self: any(r.posted_u and r.upto_ns > r.opened.start_ns for r in self.running.values()))
    @rule(data=st.data(), back_ns=st.integers(1, 20 * SECOND_NS))
    def post_with_a_clock_set_back(self, data: st.DataObject, back_ns: int) -> None:
        """Money up to an earlier instant than has been posted is refused, with everything else of its batch."""
        known = sorted(i for i, r in self.running.items() if r.posted_u and r.upto_ns > r.opened.start_ns)
        running = self.running[data.draw(st.sampled_from(known))]
        upto_ns = running.upto_ns - min(back_ns, running.upto_ns - running.opened.start_ns)
        gift = CreditAdded("local", 1, f"back-{len(self.history)}", "", self.wall.ns)
        bad = Posted(running.opened.interval_id, "local", running.opened.tier, 1, upto_ns, False, self.wall.ns)
        with closing(sqlite3.connect(self.path)) as reader:
            known_at = reader.execute(
                "SELECT 1 FROM journal WHERE interval_id = ? AND upto_ns = ?", (bad.interval_id, upto_ns)
            ).fetchone()
        with pytest.raises(LedgerError, match="other values" if known_at else "a later posting exists"):
            self.ledger.write((gift, bad)).result()

    @rule()
    def back_up_and_restore(self) -> None:
        """A checked copy takes the ledger's place: nothing that was written is missing."""
        made = self.ledger.back_up().result()
        self.ledger.close()
        self.lives += 1
        self.path = restore(made, self.root / f"{self.lives}.db", self.wall.ns).path
        self.ledger = SqliteLedger(self.path, self.wall)

    @rule()
    def crash(self) -> None:
        """The file as it is on disk now, opened by another process's next life."""
        self.lives += 1
        path = self.root / f"{self.lives}.db"
        shutil.copyfile(self.path, path)
        self.ledger.close()
        self.path, self.ledger = path, SqliteLedger(path, self.wall)

    @invariant()
    def agrees_with_the_model(self) -> None:
        if not self.history:
            return
        saved = self.ledger.load().result()
        assert saved.balances_u == {"local": self.topped_up_u - self.billed_u}
        expected = [
            SavedInterval(r.opened, r.posted_u, r.last_seen_ns, r.upto_ns if r.posted_u else 0, r.idle_since_ns)
            for r in self.running.values()
        ]
        assert sorted(saved.intervals, key=lambda i: i.opened.interval_id) == sorted(
            expected, key=lambda i: i.opened.interval_id
        )
        assert len({i.opened.worker_id for i in saved.intervals}) == len(saved.intervals)  # I4
        for interval in saved.intervals:  # I3
            assert 0 <= interval.posted_u <= due_u(interval.opened.rate_uh, self.wall.ns - interval.opened.start_ns)
        assert saved.spent_total_u == {"demo": self.billed_u}
        assert saved.absorbed_total_u == {"demo": self.absorbed_u}

    @invariant()
    def the_bill_is_exact_whatever_the_ticks_were(self) -> None:
        if not self.history:
            return
        bill = self.ledger.bill("local", None, self.wall.ns).result()
        amounts: dict[str, int] = {}
        for line in bill.lines:
            amounts[line.interval_id] = amounts.get(line.interval_id, 0) + line.amount_u
        ended = {i: due_u(o.rate_uh, end_ns - o.start_ns) for i, (o, end_ns) in self.ended.items()}  # I2, I5
        now_due = {i: due_u(r.opened.rate_uh, self.wall.ns - r.opened.start_ns) for i, r in self.running.items()}
        assert amounts == ended | now_due
        assert bill.balance_u == bill.topped_up_u - bill.total_u

    @invariant()
    def nobody_pays_more_than_was_promised(self) -> None:
        """I10: rate times wall time times the most workers."""
        assert self.billed_u + self.absorbed_u <= due_u(RATE_MAX_UH, self.wall.ns - T0) * WORKERS_MAX

    @invariant()
    def the_journal_only_grows_and_balances(self) -> None:
        rows = self._journal(self.path)
        assert rows[: len(self.rows)] == self.rows  # I8
        self.rows = rows
        with closing(sqlite3.connect(self.path)) as reader:
            assert (
                reader.execute("SELECT txn_id FROM entry GROUP BY 1 HAVING SUM(amount_u) <> 0").fetchall() == []
            )  # I1

    def teardown(self) -> None:
        try:
            assert self.ledger.verify().result().problems == ()
            statement = self.ledger.statement("local", None, self.wall.ns).result()
            assert statement.reconciles
            assert statement.ledger_balance_u == self.topped_up_u - self.billed_u
            with closing(SqliteLedger(self.root / "replay.db", self.wall)) as replayed:  # I11
                for batch in self.history:
                    replayed.write(batch).result()
                again, saved = replayed.load().result(), self.ledger.load().result()
            assert replace(again, instance=saved.instance) == saved
        finally:
            self.ledger.close()
            shutil.rmtree(self.root)

    def _pick(self, data: st.DataObject) -> Running:
        return self.running[data.draw(st.sampled_from(sorted(self.running)))]

    def _pick_posted(self, opened: IntervalOpened) -> int:
        return self.running[opened.interval_id].posted_u

    def _open(self, worker: str, tier: Tier, number: int, rate_uh: int | None = None) -> IntervalOpened:
        if rate_uh is None:
            rate_uh = L40_UH if tier is Tier.BASELINE else L40_AUTO_UH
        opened = IntervalOpened(
            f"{worker}.{number}", worker, "demo", "local", "L40", tier, rate_uh, "2025-seed", self.wall.ns, "boot"
        )
        self.running[opened.interval_id] = Running(opened, 0, self.wall.ns, self.wall.ns)
        return opened

    def _due(self, running: Running, upto_ns: int, absorbed: bool = False) -> tuple[Posted, ...]:
        opened = running.opened
        amount = max(0, due_u(opened.rate_uh, upto_ns - opened.start_ns) - running.posted_u)
        if amount == 0:
            return ()
        running.posted_u += amount
        running.upto_ns = max(running.upto_ns, upto_ns)
        if absorbed:
            self.absorbed_u += amount
        else:
            self.billed_u += amount
        return (Posted(opened.interval_id, "local", opened.tier, amount, upto_ns, absorbed, self.wall.ns),)

    def _end(self, running: Running, end_ns: int, *, absorbed: bool) -> tuple[Posted, ...]:
        del self.running[running.opened.interval_id]
        self.ended[running.opened.interval_id] = (running.opened, end_ns)
        return self._due(running, end_ns, absorbed)

    def _journal(self, path: Path) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(path)) as reader:
            return reader.execute(
                "SELECT * FROM journal JOIN entry USING (txn_id) ORDER BY txn_id, account_code"
            ).fetchall()


LedgerMachine.TestCase.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, suppress_health_check=list(HealthCheck)
)
TestLedgerMachine = LedgerMachine.TestCase
