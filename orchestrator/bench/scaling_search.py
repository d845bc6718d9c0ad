"""Which p95 waits `auto` is asked for to meet each rival at the rival's own point: a search of the allowed ones. Pure.

All of them would be most of the whole measurement, and nearly all decide nothing. First come a few, far apart. Then,
for every rival, the one in the middle between the wish that would be chosen and the next cheaper one, which is worse in
some wait; and so on until the two are close enough. Where no wish keeps a rival's point, the search goes on around the
one that comes nearest.

Longer wishes do not always cost less, so a cheaper one that happens to keep the point may be overlooked. What is found
was measured in full all the same: a row's saving may be more than is shown, never less. Nor is every wish tried before
a point counts as not reached.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from orchestrator.bench.scaling_score import Row, Rung, ladder

COARSE: Final = 32
"""Of the allowed wishes so many-th are measured first."""
CLOSE: Final = 8
"""Steps between wishes that are close enough where nothing is promised."""


def wishes_to_measure(
    row: Row, rivals: Mapping[str, int], allowed: Sequence[str], *, coarse: int = COARSE
) -> list[str]:
    """Of `allowed`, from the shortest wish to the longest, those that `row` needs next; none when all points of the
    rivals are found. `rivals` says for each how many steps apart is close enough: 1 for neighbours."""
    measured = [at for at, name in enumerate(allowed) if name in row.measured]
    if not measured:
        return [name for at, name in enumerate(allowed) if at % coarse == 0 or at == len(allowed) - 1]
    needed: set[int] = set()
    for rival, close in rivals.items():
        rungs = ladder(row, rival, [allowed[at] for at in measured])
        for one, other in _gaps(rungs, allowed, measured):
            if abs(one - other) <= close:
                continue
            between = [at for at in range(min(one, other) + 1, max(one, other)) if at not in measured]
            needed.update(sorted(between, key=lambda at: (abs(2 * at - one - other), -at))[:1])
    return [allowed[at] for at in sorted(needed)]


def _gaps(rungs: Sequence[Rung], allowed: Sequence[str], measured: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of positions between which a better choice may lie."""
    first = next((at for at, rung in enumerate(rungs) if not rung.excess_s), None)
    if first:
        return [(allowed.index(rungs[first].name), allowed.index(rungs[first - 1].name))]
    nearest = rungs[0] if first == 0 else min(rungs, key=lambda rung: max(rung.excess_s.values()))
    at = allowed.index(nearest.name)
    shorter = max((each for each in measured if each < at), default=-1)
    longer = min((each for each in measured if each > at), default=len(allowed))
    return [(at, longer)] if first == 0 else [(shorter, at), (at, longer)]
