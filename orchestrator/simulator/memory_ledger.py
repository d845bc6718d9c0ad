"""The ledger as a dictionary: folds writes, checks them, and gives back what a restart would read.

Its checks are those of the rules of money that hold for every write (reliability.md section 4.5): one open interval a
worker, no overlap, never more posted than is due, exactly rate times duration at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from orchestrator.contract.snapshot import EventView
from orchestrator.core import writes as w
from orchestrator.core.billing import due_u


@dataclass
class MemoryLedger:
    """Raises AssertionError where the real ledger would refuse."""

    balances_u: dict[str, int] = field(default_factory=dict)
    endpoints: dict[str, w.EndpointSaved] = field(default_factory=dict)
    workers: dict[str, w.SavedWorker] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    opened: dict[str, w.IntervalOpened] = field(default_factory=dict)
    closed: dict[str, w.IntervalClosed] = field(default_factory=dict)
    intervals_of: dict[str, list[str]] = field(default_factory=dict)
    """By worker, in the order in which they were opened."""
    posted: dict[str, list[w.Posted]] = field(default_factory=dict)
    posted_u: dict[str, int] = field(default_factory=dict)
    """Sum of an interval's postings."""
    seen_ns: dict[str, int] = field(default_factory=dict)
    idle_ns: dict[str, int | None] = field(default_factory=dict)
    commands: list[w.CommandDone] = field(default_factory=list)
    events: list[EventView] = field(default_factory=list)
    serial: int = 0
    watches: dict[str, w.SavedWatch] = field(default_factory=dict)
    mails: dict[w.MailKey, w.MailQueued] = field(default_factory=dict)
    settled: set[w.MailKey] = field(default_factory=set)

    def apply(self, batch: tuple[w.Write, ...]) -> None:
        for one in batch:
            self._apply(one)

    def _apply(self, one: w.Write) -> None:  # noqa: C901 - one branch a write
        match one:
            case w.AccountOpened(account):
                assert account not in self.balances_u, "an account was opened twice"
                self.balances_u[account] = 0
            case w.CreditAdded(account, amount_u):
                self.balances_u[account] += amount_u
            case w.CreditRequired(account, amount_u):
                assert self.balances_u[account] >= amount_u, "the gate of the core let too little credit pass"
            case w.EndpointSaved():
                self.endpoints[one.spec.slug] = one
            case w.EndpointRemoved(slug):
                del self.endpoints[slug]
            case w.WorkerIntended():
                assert one.worker_id not in self.workers, "a worker id was used twice"
                assert one.serial > self.serial
                self.serial = one.serial
                self.workers[one.worker_id] = w.SavedWorker(one, None, None, None)
            case w.WorkerStarted(worker_id, ref, at_ns):
                old = self.workers[worker_id]
                assert old.started_ns is None, "a start was written twice"
                self.workers[worker_id] = w.SavedWorker(old.intent, ref, at_ns, old.ready_ns)
            case w.WorkerReady(worker_id, at_ns):
                old = self.workers[worker_id]
                assert old.ready_ns is None, "readiness was written twice"
                self.workers[worker_id] = w.SavedWorker(old.intent, old.engine_ref, old.started_ns, at_ns)
            case w.WorkerEnded(worker_id):
                assert worker_id not in self.ended
                self.ended.add(worker_id)
            case w.IntervalOpened():
                self._open(one)
            case w.Posted(interval_id, account, _, amount_u, _, absorbed):
                assert interval_id not in self.closed
                assert amount_u > 0
                self._check_posting(one)
                self.posted[interval_id].append(one)
                self.posted_u[interval_id] += amount_u
                if not absorbed:
                    self.balances_u[account] -= amount_u
            case w.IntervalClosed():
                self._close(one)
            case w.Heartbeat(interval_ids, at_ns):
                for interval_id in interval_ids:
                    assert interval_id not in self.closed
                    self.seen_ns[interval_id] = max(at_ns, self.seen_ns[interval_id])
                    self.idle_ns[interval_id] = dict(one.idle).get(interval_id)
            case w.CommandDone():
                self.commands.append(one)
            case w.EventNoted(event):
                self.events.append(event)
            case w.MailSet(account, mail):
                self.watches[account] = replace(self.watches.get(account, w.SavedWatch()), mail=mail)
            case w.CreditWatched(account, warnings, alerted_uh, suspensions):
                old_watch = self.watches.get(account, w.SavedWatch())
                assert warnings >= old_watch.warnings
                assert suspensions >= old_watch.suspensions
                self.watches[account] = replace(
                    old_watch, warnings=warnings, alerted_uh=alerted_uh, suspensions=suspensions
                )
            case w.MailQueued(key):
                assert key not in self.mails, "two mails for one crossing"
                self.mails[key] = one
            case w.MailTried(key, state):
                if state != "queued":
                    self.settled.add(key)
            case _:
                pass

    def _open(self, one: w.IntervalOpened) -> None:
        assert one.interval_id not in self.opened, "an interval id was used twice"
        assert one.worker_id not in self.ended
        for other_id in self.intervals_of.setdefault(one.worker_id, []):
            if other_id not in self.opened:
                continue  # a test took it away
            assert other_id in self.closed, "two open intervals of one worker"
            assert self.closed[other_id].end_ns <= one.start_ns, "intervals of one worker overlap"
        self.intervals_of[one.worker_id].append(one.interval_id)
        self.opened[one.interval_id] = one
        self.posted[one.interval_id] = []
        self.posted_u[one.interval_id] = 0
        self.seen_ns[one.interval_id] = one.start_ns

    def _check_posting(self, one: w.Posted) -> None:
        row, before = self.opened[one.interval_id], self.posted[one.interval_id]
        assert not before or before[-1].upto_ns < one.upto_ns, "a posting goes back in time"
        total = one.amount_u + self.posted_u[one.interval_id]
        assert total <= due_u(row.rate_uh, one.upto_ns - row.start_ns), "more is posted than is due"

    def _close(self, one: w.IntervalClosed) -> None:
        assert one.interval_id not in self.closed
        row = self.opened[one.interval_id]
        assert one.end_ns >= row.start_ns
        total = self.posted_u[one.interval_id]
        assert total == due_u(row.rate_uh, one.end_ns - row.start_ns), "posted is not rate times duration"
        assert {p.absorbed for p in self.posted[one.interval_id]} <= {one.absorbed}
        self.closed[one.interval_id] = one

    def _spent_u(self, worker_id: str) -> int:
        """Billed for the worker's intervals that are closed."""
        closed = [self.closed[i] for i in self.intervals_of.get(worker_id, []) if i in self.closed]
        return sum(self.posted_u[end.interval_id] for end in closed if not end.absorbed)

    def _sums(self, *, absorbed: bool) -> dict[str, int]:
        sums: dict[str, int] = {}
        for interval_id, opened in self.opened.items():
            amount_u = sum(p.amount_u for p in self.posted[interval_id] if p.absorbed is absorbed)
            sums[opened.endpoint] = sums.get(opened.endpoint, 0) + amount_u
        return sums

    def saved(self, now_ns: int) -> w.Saved:
        """What the orchestrator reads at its next start. Sums of the day and the month are left out: nothing is decided
        by them."""
        open_ids = [i for i in self.opened if i not in self.closed]
        return w.Saved(
            instance="f" * 32,
            balances_u=dict(self.balances_u),
            endpoints=tuple(self.endpoints.values()),
            workers=tuple(
                replace(row, spent_u=self._spent_u(key)) for key, row in self.workers.items() if key not in self.ended
            ),
            intervals=tuple(
                w.SavedInterval(
                    self.opened[i],
                    self.posted_u[i],
                    self.seen_ns[i],
                    self.posted[i][-1].upto_ns if self.posted[i] else 0,
                    self.idle_ns.get(i),
                )
                for i in open_ids
            ),
            keys=(),
            commands=tuple(self.commands),
            events=tuple(self.events[-200:]),
            last_serial=self.serial,
            spent_today_u={},
            spent_total_u=self._sums(absorbed=False),
            absorbed_total_u=self._sums(absorbed=True),
            spent_month_u={},
            account_today_u={},
            read_ns=now_ns,
            watches=dict(self.watches),
            mails=tuple(mail for key, mail in self.mails.items() if key not in self.settled),
        )
