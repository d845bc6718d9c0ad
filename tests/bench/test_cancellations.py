"""Three hundred clients that leave, in each of the stages: the programme's short form; and the soak's arithmetic."""

from __future__ import annotations

import pytest

from tests.bench.cancellations import STAGES, run
from tests.bench.soak import slope


async def test_three_hundred_cancellations_leave_nothing() -> None:
    outcome = await run(300, seed=11)
    assert outcome.remains == []
    assert set(outcome.left) == set(STAGES)
    late = [late_s for stage in STAGES for late_s in outcome.late_s[stage]]
    assert len(late) > 60, "many had reached a worker"
    # Not the second that the programme itself allows: this machine may be doing something else for that long. A
    # connection that is not closed stays for its execution timeout, far longer.
    assert max(late) < 20, "a worker sees the end of its connection"


def test_the_slope_of_a_line_is_its_slope() -> None:
    assert slope([(0.0, 100), (1.0, 103), (2.0, 106)]) == pytest.approx(3)
    assert slope([(0.0, 100), (1.0, 90), (2.0, 110), (3.0, 100)]) == pytest.approx(2)
    assert slope([(5.0, 7)]) == 0
