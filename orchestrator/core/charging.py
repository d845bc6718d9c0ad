"""Opening, splitting, posting and closing intervals, and what follows from the balance.

Every function edits a `Draft`. Money leaves this module only as `Posted` writes; the balance in `Account` is the sum of
what has been posted, and `live_balance_u` adds what runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.snapshot import Tier, WorkerState
from orchestrator.core import credit, notice
from orchestrator.core.billing import (
    HEARTBEAT_PERIOD_NS,
    POSTING_LAG_NS,
    POSTING_PERIOD_NS,
    Billable,
    Interval,
    assign_tiers,
)
from orchestrator.core.calendar import day_of, month_of
from orchestrator.core.events import LaneSeen
from orchestrator.core.state import Account, Draft
from orchestrator.core.worker import Worker
from orchestrator.core.writes import EndpointSaved, EndSource, Heartbeat, IntervalClosed, IntervalOpened, Posted

BALANCES_KEPT = 240


def open_interval(draft: Draft, worker: Worker, start_ns: int, tier: Tier) -> None:
    """Begin to charge `worker` at `tier` from `start_ns`, by the prices in force then."""
    book = draft.rules.prices.book_at(start_ns)
    price = book.price(worker.gpu.type)
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
        price_book=book.name,
        start_ns=start_ns,
        boot_id=draft.rules.boot_id,
    )
    draft.intervals[opened.interval_id] = Interval(opened, seen_ns=start_ns, idle_since_ns=start_ns)
    draft.workers[worker.id] = replace(worker, interval_id=opened.interval_id, intervals=number)
    draft.write(opened)


def begin_charging(draft: Draft, worker: Worker, not_before_ns: int = 0) -> None:
    """Open the first interval of a worker, unless it is a surge worker (never billed twice) or has one already. Whether
    its cold start is billed is up to the prices at its start."""
    if worker.surge or worker.interval_id is not None or worker.started_ns is None:
        return
    start_ns = worker.started_ns
    if not draft.rules.prices.book_at(start_ns).cold_start_billed:
        if worker.ready_ns is None:
            return
        start_ns = worker.ready_ns
    taken = sum(1 for i in _intervals_of(draft, worker.endpoint) if i.opened.tier is Tier.BASELINE)
    tier = Tier.BASELINE if taken < _baseline(draft, worker.endpoint) else Tier.AUTOSCALE
    open_interval(draft, worker, max(start_ns, worker.intent_ns, not_before_ns), tier)


def end_charging(draft: Draft, worker: Worker, end_ns: int, source: EndSource, *, absorbed: bool) -> None:
    """Close the worker's open interval, if any, and post the rest of it."""
    if worker.interval_id is not None:
        _close(draft, draft.intervals[worker.interval_id], end_ns, source, absorbed=absorbed)
        draft.workers[worker.id] = replace(draft.workers[worker.id], interval_id=None)


def split(draft: Draft, worker: Worker, at_ns: int, source: EndSource, *, absorbed: bool) -> None:
    """End the worker's open interval and go on with another one of the same tier at the same instant."""
    assert worker.interval_id is not None
    interval = draft.intervals[worker.interval_id]
    at_ns = max(at_ns, interval.opened.start_ns, interval.posted_to_ns)
    _close(draft, interval, at_ns, source, absorbed=absorbed)
    open_interval(draft, draft.workers[worker.id], at_ns, interval.opened.tier)


def retier(draft: Draft, slug: str) -> None:
    """Make exactly min(running, baseline) workers bill at BASELINE; a changed tier splits the interval here and now.

    Not while the engine is silent: a split charges up to now, and nobody knows which of them still run.
    """
    if draft.state.in_doubt:
        return
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


def post_due(draft: Draft, lanes: Mapping[str, LaneSeen]) -> None:
    """Say that the workers were seen alive, and post what is due up to POSTING_LAG ago, each in its period.

    Neither while the engine is silent: its workers may have ended, and nobody may be charged for what nobody saw.
    """
    beats = draft.now_ns - draft.state.seen_ns >= HEARTBEAT_PERIOD_NS
    if beats:
        draft.assign(seen_ns=draft.now_ns)
        _look(draft, lanes)
    if draft.state.ledger_problem is not None or draft.state.in_doubt:
        return
    if beats and draft.intervals:
        idle = [(key, i.idle_since_ns) for key, i in draft.intervals.items() if i.idle_since_ns < draft.now_ns]
        draft.write(Heartbeat(tuple(draft.intervals), draft.now_ns, idle=tuple(idle)))
    trailing_ns = draft.now_ns - POSTING_LAG_NS
    posts = draft.now_ns - draft.state.posted_ns >= POSTING_PERIOD_NS
    if posts:
        draft.assign(posted_ns=draft.now_ns)
    for worker in list(draft.workers.values()):
        if worker.interval_id is None or worker.ready_ns is None:
            continue
        interval = follow_prices(draft, draft.intervals[worker.interval_id], trailing_ns, absorbed=False)
        if posts:
            _post(draft, interval, max(interval.opened.start_ns, trailing_ns), absorbed=False)


def follow_prices(draft: Draft, interval: Interval, upto_ns: int, *, absorbed: bool) -> Interval:
    """Split the interval at each change of prices before `upto_ns`, at its very instant, whenever that is noticed; a
    date set in the past counts from the last posting on. Returns the open interval."""
    for switch_ns in draft.rules.prices.switches(interval.opened.start_ns, upto_ns):
        at_ns = max(switch_ns, interval.posted_to_ns)
        if interval.opened.start_ns < at_ns < upto_ns:
            worker = draft.workers[interval.opened.worker_id]
            split(draft, worker, at_ns, "price_change", absorbed=absorbed)
            interval = draft.intervals[draft.workers[worker.id].interval_id or ""]
    return interval


def _look(draft: Draft, lanes: Mapping[str, LaneSeen]) -> None:
    """Note for each interval that its worker is alive, and since when it is idle: now, while it is not."""
    for worker in draft.workers.values():
        if worker.interval_id is None:
            continue
        lane = lanes.get(worker.endpoint)
        slot = lane.slots.get(worker.id) if lane is not None else None
        interval = draft.intervals[worker.interval_id]
        idle_since_ns = draft.now_ns
        if slot is not None and slot.in_flight == 0 and worker.ready_ns is not None:
            idle_since_ns = slot.idle_since_ns
        elif slot is None and draft.state.in_doubt:
            idle_since_ns = interval.idle_since_ns  # not in the ring yet: it may be gone, and serves nobody
        seen_ns = interval.seen_ns if draft.state.in_doubt else draft.now_ns
        draft.intervals[worker.interval_id] = replace(interval, seen_ns=seen_ns, idle_since_ns=idle_since_ns)


def live_balance_u(draft: Draft, account: str) -> int:
    """Posted balance less what has accrued since."""
    accrued = sum(i.accrued_u(draft.now_ns) for i in draft.intervals.values() if i.opened.account == account)
    return draft.accounts[account].balance_u - accrued


def burn_of(draft: Draft, account: str) -> credit.Burn:
    """What the account's enabled endpoints cost per hour: at least, now, at most."""
    baseline = worst = 0
    for endpoint in draft.endpoints.values():
        price = draft.book.price(endpoint.spec.gpu_type)
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
        if balance >= credit.FLOOR_U and account.suspended:
            account = replace(account, suspended=False)  # noqa: PLW2901 - endpoints stay off: no automatic resume
        draft.accounts[account.name] = notice.watch_warning(draft, account, balance, burn, smoothed)
        if balance < credit.FLOOR_U:
            _suspend(draft, draft.accounts[account.name])


def resume_watch(draft: Draft) -> None:
    """After a restart: the burn as it is, not smoothed up from zero, which would look like a recovery."""
    for account in list(draft.accounts.values()):
        burn = burn_of(draft, account.name)
        low = live_balance_u(draft, account.name) < credit.FLOOR_U
        off = any(e.wanted == "suspended" for e in draft.endpoints.values() if e.spec.account == account.name)
        burn_uh = max(burn.current_uh, burn.baseline_uh)
        draft.accounts[account.name] = replace(account, burn_uh=burn_uh, suspended=low and off)
    notice.send_pending(draft)


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
    balance_u = live_balance_u(draft, account.name)
    draft.accounts[account.name] = notice.tell_suspension(draft, account, balance_u, [e.spec for e in enabled])
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
    source: EndSource,
    *,
    absorbed: bool,
) -> None:
    end_ns = max(end_ns, interval.opened.start_ns, interval.posted_to_ns)
    interval = follow_prices(draft, interval, end_ns, absorbed=absorbed)
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
    draft.intervals[opened.interval_id] = replace(
        interval, posted_u=interval.posted_u + amount, posted_to_ns=max(upto_ns, interval.posted_to_ns)
    )
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
    """Once the replaced worker is gone the surge worker takes its place, and is billed from that instant on. At most
    one is above the maximum at a time: after a restart it is the newest."""
    endpoint = draft.endpoints.get(slug)
    if endpoint is None:
        return
    workers = draft.workers_of(slug)
    surge = sorted((w for w in workers if w.surge), key=lambda w: w.serial)
    above = min(1, max(0, len(workers) - endpoint.spec.maximum))
    for worker in surge[: max(0, len(surge) - above)]:
        if worker.state is not WorkerState.STOPPING:
            settled = replace(worker, surge=False)
            draft.workers[worker.id] = settled
            begin_charging(draft, settled, not_before_ns=draft.now_ns)
            retier(draft, slug)
