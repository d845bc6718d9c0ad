"""Time in which nobody could act: what the platform bears of it, and what the evidence of an end is worth.

While the orchestrator is gone, or its engine is silent, nobody can scale a worker down. The customer pays for a
baseline worker, which would have run anyway, and for an autoscaled one as long as it would have been kept: until it had
been idle for the idle timeout (reliability.md B4). While the host sleeps nothing runs at all, and nobody pays (P5).
What the platform bears is posted as absorbed, in an interval of its own, so it is shown.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.snapshot import Tier, WorkerState
from orchestrator.core import charging
from orchestrator.core.billing import POSTING_LAG_NS
from orchestrator.core.state import Draft
from orchestrator.core.worker import Worker
from orchestrator.core.workload import Exit
from orchestrator.core.writes import EndSource, Evidence

SLEEP_NS = 30 * SECOND_NS
"""A tick comes every quarter of a second. A gap longer than this, in a process that lived through it, means that the
host was suspended (or so starved that it might as well have been)."""
HOST_CRASH_CODE = 255
"""Docker reports it, with a FinishedAt of its own start, for containers that a host crash ended (reliability.md 0)."""


def settle(draft: Draft, worker_id: str, until_ns: int, *, ended: bool) -> None:
    """Let the platform bear what an absence that is over at `until_ns` cost beyond the customer's share (B4): of an
    autoscaled worker, the time past its idle timeout; of one that nobody wants any more, all of it.

    `ended`: the worker is no more, so no interval follows. Nothing changes when all of it is the customer's share.
    """
    worker = draft.workers[worker_id]
    if worker.interval_id is None:
        return
    interval = draft.intervals[worker.interval_id]
    endpoint = draft.endpoints.get(worker.endpoint)
    if endpoint is None or not endpoint.enabled:
        share_ns = interval.seen_ns
    elif interval.opened.tier is Tier.BASELINE:
        return
    else:
        share_ns = max(interval.seen_ns, interval.idle_since_ns + endpoint.spec.idle_timeout_s * SECOND_NS)
    if until_ns > share_ns:
        _absorb(draft, worker, share_ns, until_ns, "absence", ended=ended)


def wake(draft: Draft) -> None:
    """If the host slept since the last tick, nobody pays for the gap, whatever the tier (P5). Cold starts get their
    time back."""
    state = draft.state
    since_ns = max(state.ticked_ns, state.woken_ns)
    gap_ns = draft.now_ns - since_ns
    if since_ns == 0 or gap_ns <= SLEEP_NS:
        return
    draft.assign(woken_ns=draft.now_ns)
    for worker in list(draft.workers.values()):
        if worker.state is WorkerState.STARTING:
            worker = replace(worker, startup_deadline_ns=worker.startup_deadline_ns + gap_ns)  # noqa: PLW2901
            draft.workers[worker.id] = worker
        if worker.interval_id is not None:
            seen_ns = draft.intervals[worker.interval_id].seen_ns
            from_ns = min(seen_ns, since_ns) if state.in_doubt else since_ns
            _absorb(draft, worker, from_ns, draft.now_ns, "suspend", ended=False)
    draft.assign(in_doubt=True)  # until the next list: who knows what the sleep has done to them
    draft.note("warning", f"the host slept for {gap_ns / SECOND_NS:.0f} s; nothing is charged for that time")


def doubt(draft: Draft) -> None:
    """An engine that has not told what it holds for longer than postings trail leaves everybody's fate open, even if
    its probe succeeds: an end that is found late must not lie before a posting."""
    if not draft.state.in_doubt and draft.now_ns - draft.state.listed_ns > POSTING_LAG_NS:
        draft.assign(in_doubt=True)


def start_of(draft: Draft, worker: Worker, told_ns: int | None) -> int:
    """When the worker started: as the engine tells it, if that can be (an engine goes by the wall clock, which may have
    been set since we started), else now, in the customer's favour."""
    earliest_ns = max(worker.intent_ns, draft.state.woken_ns)
    if told_ns is None or not earliest_ns - POSTING_LAG_NS <= told_ns <= draft.now_ns + POSTING_LAG_NS:
        return draft.now_ns
    return min(max(told_ns, earliest_ns), draft.now_ns)


def end_of(draft: Draft, worker: Worker, exit_: Exit) -> tuple[int, Evidence]:
    """When the worker ended, and what that rests on.

    Evidence counts if it is of this boot, honest and plausible: not long before the worker was last seen alive (an end
    is noticed up to POSTING_LAG late) and not in the future. Otherwise the last heartbeat does (B2, B3, B5, B6).
    """
    started_ns = worker.started_ns if worker.started_ns is not None else worker.intent_ns
    interval = draft.intervals.get(worker.interval_id) if worker.interval_id is not None else None
    if interval is None:
        at_ns = draft.now_ns if exit_.at_ns is None else exit_.at_ns
        return min(max(at_ns, started_ns), draft.now_ns), "exit" if exit_.at_ns is not None else "last_seen"
    earliest_ns = max(started_ns, interval.seen_ns - POSTING_LAG_NS)
    same_boot = interval.opened.boot_id == draft.rules.boot_id
    honest = exit_.code != HOST_CRASH_CODE
    latest_ns = draft.now_ns + POSTING_LAG_NS  # the engine's clock may have been set by a little since we started
    if exit_.at_ns is not None and same_boot and honest and earliest_ns <= exit_.at_ns <= latest_ns:
        return min(exit_.at_ns, draft.now_ns), "exit"
    return min(max(interval.seen_ns, interval.opened.start_ns), draft.now_ns), "last_seen"


def restarted(draft: Draft, worker: Worker, started_ns: int | None) -> bool:
    """Whether what runs now is another life of the worker than the one that is charged: started after it was last seen
    (somebody restarted the container), or found on another boot of the host."""
    if worker.interval_id is None:
        return False
    interval = draft.intervals[worker.interval_id]
    later = started_ns is not None and started_ns > max(interval.seen_ns, interval.opened.start_ns)
    return later or interval.opened.boot_id != draft.rules.boot_id


def begin_anew(draft: Draft, worker_id: str) -> None:
    """Charge a restarted worker up to where it was last seen, and again from now on: in between nobody knows."""
    worker = draft.workers[worker_id]
    assert worker.interval_id is not None
    interval = draft.intervals[worker.interval_id]
    absorbed = worker.ready_ns is None
    charging.end_charging(draft, worker, interval.seen_ns, "last_seen", absorbed=absorbed)
    charging.open_interval(draft, draft.workers[worker_id], draft.now_ns, interval.opened.tier)


def _absorb(draft: Draft, worker: Worker, from_ns: int, until_ns: int, source: EndSource, *, ended: bool) -> None:
    """Take [from, until) out of the customer's bill. A worker that was never ready is absorbed from its start: nothing
    of it may be billed before its fate is known."""
    assert worker.interval_id is not None
    interval = draft.intervals[worker.interval_id]
    if worker.ready_ns is not None and max(from_ns, interval.posted_to_ns) > interval.opened.start_ns:
        charging.split(draft, worker, from_ns, source, absorbed=False)
        worker = draft.workers[worker.id]
    charging.end_charging(draft, worker, until_ns, source, absorbed=True)
    if not ended:
        charging.open_interval(draft, draft.workers[worker.id], until_ns, interval.opened.tier)
