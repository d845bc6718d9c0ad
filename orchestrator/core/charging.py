"""Opening, splitting, posting and closing intervals, and what follows from the balance.

Every function edits a `Draft`. Money leaves this module only as `Posted` writes; the balance in `Account` is the sum of
what has been posted, and `live_balance_u` adds what runs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from orchestrator.contract.base import DOLLAR_U, SECOND_NS
from orchestrator.contract.snapshot import Tier, WorkerState
from orchestrator.core import credit
from orchestrator.core.billing import (
    HEARTBEAT_PERIOD_NS,
    POSTING_LAG_NS,
    POSTING_PERIOD_NS,
    Billable,
    Interval,
    assign_tiers,
)
from orchestrator.core.calendar import day_of, month_of
from orchestrator.core.state import Account, Draft
from orchestrator.core.worker import Worker
from orchestrator.core.writes import EndpointSaved, Heartbeat, IntervalClosed, IntervalOpened, Posted

BALANCES_KEPT = 240


def open_interval(draft: Draft, worker: Worker, start_ns: int, tier: Tier) -> None:
    """Begin to charge `worker` at `tier` from `start_ns`."""
    price = draft.rules.prices.price(worker.gpu.type)
    assert price is not None, f"{worker.gpu.type} has no price: admission must have refused it"
    number = worker.intervals + 1
    opened = IntervalOpened(
        interval_id=f"{worker.id}.{number}",
        worker_id=worker.id,
        endpoint=worker.endpoint,
        account=worker.account,
        gpu_type=worker.gpu.type,
        tier=tier,
        rate_uh=price.rate_uh(tier),
        price_book=draft.rules.prices.name,
        start_ns=start_ns,
        boot_id=draft.rules.boot_id,
    )
    draft.intervals[opened.interval_id] = Interval(opened)
    draft.workers[worker.id] = replace(worker, interval_id=opened.interval_id, intervals=number)
    draft.write(opened)


def begin_charging(draft: Draft, worker: Worker) -> None:
    """Open the first interval of a worker, unless it is a surge worker (never billed twice) or has one already."""
    if worker.surge or worker.interval_id is not None or worker.started_ns is None:
        return
    start_ns = worker.started_ns
    if not draft.rules.prices.cold_start_billed:
        if worker.ready_ns is None:
            return
        start_ns = worker.ready_ns
    taken = sum(1 for i in _intervals_of(draft, worker.endpoint) if i.opened.tier is Tier.BASELINE)
    tier = Tier.BASELINE if taken < _baseline(draft, worker.endpoint) else Tier.AUTOSCALE
    open_interval(draft, worker, max(start_ns, worker.intent_ns), tier)


def end_charging(
    draft: Draft, worker: Worker, end_ns: int, source: Literal["exit", "last_seen"], *, absorbed: bool
) -> None:
    """Close the worker's open interval, if any, and post the rest of it."""
    if worker.interval_id is not None:
        _close(draft, draft.intervals[worker.interval_id], end_ns, source, absorbed=absorbed)
        draft.workers[worker.id] = replace(draft.workers[worker.id], interval_id=None)


def retier(draft: Draft, slug: str) -> None:
    """Make exactly min(running, baseline) workers bill at BASELINE; a changed tier splits the interval here and now."""
    workers = [w for w in draft.workers_of(slug) if w.interval_id is not None]
    billables = [
        Billable(w.id, draft.intervals[w.interval_id].opened.tier, w.started_ns or 0, w.serial)
        for w in workers
        if w.interval_id is not None
    ]
    tiers = assign_tiers(billables, _baseline(draft, slug))
    for worker in workers:
        assert worker.interval_id is not None
        interval = draft.intervals[worker.interval_id]
        if interval.opened.tier is tiers[worker.id]:
            continue
        at_ns = max(draft.now_ns, interval.opened.start_ns)
        _close(draft, interval, at_ns, "tier_change", absorbed=worker.ready_ns is None)
        open_interval(draft, draft.workers[worker.id], at_ns, tiers[worker.id])


def post_due(draft: Draft) -> None:
    """Say that the workers were seen alive, and post what is due up to POSTING_LAG ago, each in its period.

    Neither while the engine is silent: its workers may have ended, and nobody may be charged for what nobody saw.
    """
    if draft.state.ledger_problem is not None or draft.state.in_doubt:
        return
    if draft.now_ns - draft.state.seen_ns >= HEARTBEAT_PERIOD_NS:
        draft.assign(seen_ns=draft.now_ns)
        if draft.intervals:
            draft.write(Heartbeat(tuple(draft.intervals), draft.now_ns))
    if draft.now_ns - draft.state.posted_ns < POSTING_PERIOD_NS:
        return
    draft.assign(posted_ns=draft.now_ns)
    for worker in list(draft.workers.values()):
        if worker.interval_id is not None and worker.ready_ns is not None:
            interval = draft.intervals[worker.interval_id]
            _post(draft, interval, max(interval.opened.start_ns, draft.now_ns - POSTING_LAG_NS), absorbed=False)


def live_balance_u(draft: Draft, account: str) -> int:
    """Posted balance less what has accrued since."""
    accrued = sum(i.accrued_u(draft.now_ns) for i in draft.intervals.values() if i.opened.account == account)
    return draft.accounts[account].balance_u - accrued


def burn_of(draft: Draft, account: str) -> credit.Burn:
    """What the account's enabled endpoints cost per hour: at least, now, at most."""
    baseline = worst = 0
    for endpoint in draft.endpoints.values():
        price = draft.rules.prices.price(endpoint.spec.gpu_type)
        if endpoint.spec.account == account and endpoint.enabled and price is not None:
            baseline += credit.baseline_uh(endpoint.spec, price)
            worst += credit.worst_case_uh(endpoint.spec, price)
    current = sum(i.opened.rate_uh for i in draft.intervals.values() if i.opened.account == account)
    return credit.Burn(baseline, current, worst)


def watch_credit(draft: Draft, elapsed_ns: int) -> None:
    """Warning below 10 h at the smoothed burn, once per downward crossing; all endpoints off below the floor."""
    for account in list(draft.accounts.values()):
        balance = live_balance_u(draft, account.name)
        burn = burn_of(draft, account.name)
        smoothed = credit.smooth_uh(account.burn_uh, max(burn.current_uh, burn.baseline_uh), elapsed_ns)
        low = smoothed > 0 and balance < credit.WARNING_HOURS * smoothed
        if low and not account.warned:
            hours = balance / smoothed
            draft.note("warning", f"account {account.name}: credit lasts {hours:.1f} h at the current burn")
        if balance >= credit.FLOOR_U and account.suspended:
            account = replace(account, suspended=False)  # noqa: PLW2901 - endpoints stay off: no automatic resume
        draft.accounts[account.name] = replace(account, burn_uh=smoothed, warned=low)
        if balance < credit.FLOOR_U:
            _suspend(draft, draft.accounts[account.name])


def roll_calendar(draft: Draft) -> None:
    """Start today's and this month's sums at zero when a UTC day or month begins."""
    before = draft.state.ticked_ns or draft.now_ns
    if day_of(before) == day_of(draft.now_ns):
        return
    new_month = month_of(before) != month_of(draft.now_ns)
    for account in list(draft.accounts.values()):
        month_u = 0 if new_month else account.month_u
        draft.accounts[account.name] = replace(account, today_u=0, month_u=month_u)
    for endpoint in list(draft.endpoints.values()):
        draft.endpoints[endpoint.slug] = replace(endpoint, spend=replace(endpoint.spend, today_u=0))


def sample_balance(draft: Draft) -> None:
    """One value of the first account's balance every five seconds, for the chart."""
    if draft.accounts and draft.now_ns - draft.state.sampled_ns >= 5 * SECOND_NS:
        first = next(iter(draft.accounts))
        series = (*draft.state.balance_series_u, live_balance_u(draft, first))[-BALANCES_KEPT:]
        draft.assign(balance_series_u=series, sampled_ns=draft.now_ns)


def _suspend(draft: Draft, account: Account) -> None:
    """Rule R24: below $10 all of the owner's endpoints are turned off; enabling again passes the gate."""
    enabled = [e for e in draft.endpoints.values() if e.spec.account == account.name and e.enabled]
    if not enabled:
        return
    balance = live_balance_u(draft, account.name) / DOLLAR_U
    draft.note("error", f"account {account.name}: balance ${balance:.2f} is below $10.00, endpoints are turned off")
    draft.accounts[account.name] = replace(account, suspended=True)
    for endpoint in enabled:
        stopped = replace(endpoint, wanted="suspended", since_ns=draft.now_ns)
        draft.endpoints[endpoint.slug] = stopped
        draft.write(EndpointSaved(stopped.spec, stopped.generation, "suspended", None, draft.now_ns))


def _baseline(draft: Draft, slug: str) -> int:
    endpoint = draft.endpoints.get(slug)
    return endpoint.spec.baseline if endpoint is not None else 0


def _intervals_of(draft: Draft, slug: str) -> list[Interval]:
    return [i for i in draft.intervals.values() if i.opened.endpoint == slug]


def _close(
    draft: Draft,
    interval: Interval,
    end_ns: int,
    source: Literal["exit", "last_seen", "tier_change", "price_change"],
    *,
    absorbed: bool,
) -> None:
    end_ns = max(end_ns, interval.opened.start_ns, interval.posted_to_ns)
    _post(draft, interval, end_ns, absorbed=absorbed)
    worker = draft.workers.get(interval.opened.worker_id)
    if worker is not None and not absorbed:
        draft.workers[worker.id] = replace(worker, spent_u=worker.spent_u + interval.due_u(end_ns))
    del draft.intervals[interval.opened.interval_id]
    draft.write(IntervalClosed(interval.opened.interval_id, end_ns, source, absorbed))


def _post(draft: Draft, interval: Interval, upto_ns: int, *, absorbed: bool) -> None:
    """Post due(upto) - posted. An interval is absorbed as a whole or not at all: never-ready workers are not posted
    before their fate is known."""
    amount = max(0, interval.due_u(upto_ns) - interval.posted_u)
    if amount == 0:
        return
    opened = interval.opened
    draft.write(Posted(opened.interval_id, opened.account, opened.tier, amount, upto_ns, absorbed, draft.now_ns))
    draft.intervals[opened.interval_id] = Interval(opened, interval.posted_u + amount, upto_ns)
    endpoint = draft.endpoints.get(opened.endpoint)
    if endpoint is not None:
        spend = endpoint.spend
        if absorbed:
            spend = replace(spend, absorbed_u=spend.absorbed_u + amount)
        else:
            spend = replace(spend, total_u=spend.total_u + amount, today_u=spend.today_u + amount)
        draft.endpoints[opened.endpoint] = replace(endpoint, spend=spend)
    if not absorbed:
        account = draft.accounts[opened.account]
        draft.accounts[opened.account] = replace(
            account,
            balance_u=account.balance_u - amount,
            today_u=account.today_u + amount,
            month_u=account.month_u + amount,
        )


def settle_surge(draft: Draft, slug: str) -> None:
    """Once the replaced worker is gone the surge worker takes its place, and is billed from that instant on."""
    endpoint = draft.endpoints.get(slug)
    if endpoint is None:
        return
    workers = draft.workers_of(slug)
    if len(workers) > endpoint.spec.maximum:
        return
    for worker in workers:
        if worker.surge and worker.state is not WorkerState.STOPPING:
            settled = replace(worker, surge=False)
            draft.workers[worker.id] = settled
            if settled.started_ns is not None:
                open_interval(draft, settled, draft.now_ns, Tier.AUTOSCALE)
                retier(draft, slug)
