"""What a bill may contain at most, told by somebody who saw when workers ran, when nobody watched, when all slept."""

from __future__ import annotations

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.snapshot import Tier
from orchestrator.core.billing import due_u
from orchestrator.simulator.deck import START_NS, Deck


def overlap_ns(a: tuple[int, int], b: tuple[int, int]) -> int:
    return max(0, min(a[1], b[1]) - max(a[0], b[0]))


def examine(deck: Deck, *, late_ns: int, skew_ns: int = 0) -> None:
    """Every closed interval that the customer paid, against what happened. Raises AssertionError.

    `late_ns`: how late an end may have been noticed. `skew_ns`: how far the wall clock was set at most; a start or end
    that nobody saw is known by that clock only, and can be as wrong, as far as it stays plausible (core/absence.py).
    """
    ledger = deck.ledger
    paid_u = 0
    for key, end in ledger.closed.items():
        opened = ledger.opened[key]
        amount_u = sum(p.amount_u for p in ledger.posted[key])
        assert amount_u == due_u(opened.rate_uh, end.end_ns - opened.start_ns), "I2"
        if end.absorbed:
            continue
        paid_u += amount_u
        span = (opened.start_ns, end.end_ns)
        started_ns, ended_ns = deck.host.lives[opened.worker_id]
        assert started_ns is not None
        ended_ns = deck.now_ns if ended_ns is None else ended_ns
        early_ns, over_ns = started_ns - span[0], span[1] - ended_ns
        later = deck.closed_in[key] != deck.host.ended_in.get(opened.worker_id)
        end_unseen = later or deck.was_unwatched(ended_ns)
        wrong_ns = range(late_ns + 1, late_ns + skew_ns + 1)
        if (end_unseen and over_ns in wrong_ns) or (deck.was_unwatched(started_ns) and early_ns in wrong_ns):
            continue  # it goes by evidence that is as wrong as the wall clock was
        assert early_ns <= late_ns or span[0] == span[1], (key, "charged before it ran", early_ns, end, opened)
        assert over_ns <= late_ns or span[0] == span[1], (key, "charged after its end", over_ns, end.source)
        for gap in deck.asleep:
            assert overlap_ns(span, gap) == 0, (key, "charged while the host slept (P5)")
        for begin_ns, back_ns, idle_s in deck.away:
            if opened.tier is Tier.AUTOSCALE:
                share_ns = idle_s.get(opened.endpoint, 0) * SECOND_NS
                assert overlap_ns(span, (begin_ns, back_ns)) <= share_ns, (key, "charged for our absence (B4)")
    dearest_uh = max((opened.rate_uh for opened in ledger.opened.values()), default=0)
    assert paid_u <= due_u(dearest_uh * len(deck.gpus), deck.now_ns - START_NS), "I10"


def open_and_running_agree(deck: Deck) -> bool:
    """I9, when nothing is under way: a worker runs if and only if it is charged, a surge worker excepted."""
    charged = {i.opened.worker_id for i in deck.state.intervals.values()}
    surge = {w.id for w in deck.state.workers.values() if w.surge}
    return charged == deck.host.running.keys() - surge
