"""When the core has to look again although nothing happens. Pure.

The live controller ticks every quarter of a second. A simulation that did so would spend a week of virtual time on
600,000 ticks a day that change nothing: it ticks when something happened, and at these instants.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.contract.snapshot import WorkerState
from orchestrator.core.absence import SLEEP_NS
from orchestrator.core.billing import HEARTBEAT_PERIOD_NS, POSTING_LAG_NS, POSTING_PERIOD_NS
from orchestrator.core.endpoint import SETTLED_NS, Endpoint
from orchestrator.core.notice import CALM_NS
from orchestrator.core.reconcile import earliest_wake_ns
from orchestrator.core.state import State


def due_ns(state: State, *, beats: bool) -> int | None:
    """The first instant at which a tick changes something by itself; None when there is none. It may have passed.

    `beats`: heartbeats count. They matter to a life that may end in a crash: what was not seen is not charged.
    """
    instants = [earliest_wake_ns(state.endpoints.values())]
    if state.intervals:
        instants.append(state.posted_ns + POSTING_PERIOD_NS)
        if beats:
            instants.append(state.seen_ns + HEARTBEAT_PERIOD_NS)
    for worker in state.workers.values():
        if worker.state is WorkerState.STARTING:
            instants.append(worker.startup_deadline_ns)
        elif worker.state is WorkerState.DRAINING:
            instants.append(worker.drain_deadline_ns)
    instants += [at_ns for endpoint in state.endpoints.values() for at_ns in _of_troubled(state, endpoint)]
    for account in state.accounts.values():
        if account.calm_since_ns is not None:
            instants.append(account.calm_since_ns + CALM_NS)
    return min((at_ns for at_ns in instants if at_ns is not None), default=None)


def awake(state: State, now_ns: int) -> State:
    """The state after a quiet stretch: the live controller has looked meanwhile, found nothing to do, and listed the
    engine, which told no news. Without this the core would take the stretch for a sleep of the host."""
    if state.ticked_ns and now_ns - state.ticked_ns > SLEEP_NS:
        state = replace(state, ticked_ns=now_ns - SLEEP_NS)
    if now_ns - state.listed_ns > POSTING_LAG_NS:
        state = replace(state, listed_ns=now_ns)
    return state


def _of_troubled(state: State, endpoint: Endpoint) -> list[int]:
    """The next attempt of a crash loop, and its end: a worker that stays ready."""
    if endpoint.problem is None and endpoint.crashes == 0:
        return []
    ready = [w.ready_ns for w in state.workers.values() if w.endpoint == endpoint.slug and w.ready_ns is not None]
    ends = [at_ns + SETTLED_NS for at_ns in ready if at_ns + SETTLED_NS > state.ticked_ns]
    return ends + ([endpoint.retry_ns] if endpoint.retry_ns is not None and endpoint.retry_ns > state.ticked_ns else [])
