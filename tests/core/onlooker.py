"""What a bill may contain at most, told by somebody who saw when workers ran, when nobody watched, when all slept."""

from __future__ import annotations

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.snapshot import Tier
from orchestrator.core.billing import due_u
from tests.core.world import START_NS, World

DEAREST_UH = 44_640_000
GPUS = 5


def overlap_ns(a: tuple[int, int], b: tuple[int, int]) -> int:
    return max(0, min(a[1], b[1]) - max(a[0], b[0]))


def examine(world: World, *, late_ns: int) -> None:
    """Every closed interval that the customer paid, against what happened. `late_ns`: how late an end may have been
    noticed, or how far the engine's clock may have been off."""
    ledger = world.ledger
    paid_u = 0
    for key, end in ledger.closed.items():
        opened = ledger.opened[key]
        amount_u = sum(p.amount_u for p in ledger.posted[key])
        assert amount_u == due_u(opened.rate_uh, end.end_ns - opened.start_ns), "I2"
        if end.absorbed:
            continue
        paid_u += amount_u
        span = (opened.start_ns, end.end_ns)
        started_ns, ended_ns = world.lives[opened.worker_id]
        assert started_ns is not None
        assert ended_ns is not None
        assert started_ns - late_ns <= span[0] or span[0] == span[1], (
            key,
            "charged before it ran",
            started_ns - span[0],
            end,
            opened,
        )
        assert span[1] <= ended_ns + late_ns or span[0] == span[1], (
            key,
            "charged after its end",
            end.source,
            span[1] - ended_ns,
        )
        for gap in world.asleep:
            assert overlap_ns(span, gap) == 0, (key, "charged while the host slept (P5)")
        for begin_ns, back_ns, idle_s in world.away:
            if opened.tier is Tier.AUTOSCALE:
                share_ns = idle_s.get(opened.endpoint, 0) * SECOND_NS
                assert overlap_ns(span, (begin_ns, back_ns)) <= share_ns, (key, "charged for our absence (B4)")
    assert paid_u <= due_u(DEAREST_UH * GPUS, world.now_ns - START_NS), "I10"


def open_and_running_agree(world: World) -> None:
    """I9, when nothing is under way: a worker runs if and only if it is charged, a surge worker excepted."""
    charged = {i.opened.worker_id for i in world.state.intervals.values()}
    surge = {w.id for w in world.state.workers.values() if w.surge}
    assert charged == set(world.running) - surge
