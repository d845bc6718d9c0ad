"""Lines through a chart: the $10 and the 10 h of the balance, and phases that not every host tells."""

from __future__ import annotations

import pytest

from app.present.chart import area, ruled
from app.present.detail import cold_starts
from app.present.gpus import rows as gpu_rows
from app.present.lanes import Density
from app.present.money import rows as money_rows
from app.present.text import Tone, text, width
from orchestrator.contract.base import DOLLAR_U
from orchestrator.contract.snapshot import ColdStartView
from tests.app.fakes import account, example_gpus, sketch, worker


@pytest.mark.parametrize(("value", "row"), [(0, 3), (24, 3), (25, 2), (99, 0)])
def test_a_rule_is_in_the_row_of_its_value(value: int, row: int) -> None:
    chart = ruled(area([50] * 20, 20, 4, top=100), value, "ten ", Tone.FAILED, top=100)
    assert [at for at, each in enumerate(chart) if "╌" in text(each)] == [row]
    assert text(chart[row]).startswith("ten ╌")
    assert all(width(each) == 20 for each in chart)


def test_a_rule_beyond_the_chart_changes_nothing() -> None:
    chart = area([50] * 20, 20, 4, top=100)
    assert ruled(chart, 100, "x", Tone.FAILED, top=100) == chart
    assert ruled(chart, -1, "x", Tone.FAILED, top=100) == chart
    assert ruled([], 5, "x", Tone.FAILED, top=100) == []


def test_the_crest_is_not_hidden_by_a_rule() -> None:
    chart = ruled(area([60] * 10, 10, 4, top=100), 60, "", Tone.FAILED, top=100)
    assert "╌" not in text(chart[1])


def test_the_balance_has_its_two_lines() -> None:
    lines = [text(each) for each in money_rows(account(), (642_000_000, 640_000_000), 40, 14, Density.ROOMY)]
    warning = next(at for at, each in enumerate(lines) if each.startswith("10 h ╌"))
    floor = next(at for at, each in enumerate(lines) if each.startswith("$10.00 ╌"))
    assert warning < floor
    idle = account(warning_at_u=0, balance_u=50 * DOLLAR_U)
    lines = [text(each) for each in money_rows(idle, (50 * DOLLAR_U,) * 2, 40, 14, Density.ROOMY)]
    assert not any(each.startswith("10 h") for each in lines)


def starting(**more: int) -> str:
    start = ColdStartView(created_ms=100, started_ms=400, healthy_ms=3_000, **more)
    endpoint = sketch().model_copy(update={"workers": (worker("w1", cold_start=start),)})
    return "\n".join(text(each) for each in cold_starts(endpoint, 80))


def test_gpu_memory_is_a_phase_where_it_is_known_and_came_before_health() -> None:
    assert "GPU memory" in starting(memory_ms=1_000)
    assert "GPU memory" not in starting()
    assert "GPU memory" not in starting(memory_ms=3_400), "a reading a second: it may come too late to tell"
    assert starting(memory_ms=1_000).splitlines()[1].endswith("3.00 s")


def test_a_wide_strip_names_the_container_that_holds_the_card() -> None:
    endpoint = sketch().model_copy(update={"workers": (worker("w1", engine_ref="3f2a91c7d0e4aa55"),)})
    wide = "\n".join(text(each) for each in gpu_rows(example_gpus(), (endpoint,), 130, Density.ROOMY))
    assert "sketch·w1 3f2a91c7d0e4" in wide
    assert "jupyter-lab" in wide
    narrow = "\n".join(text(each) for each in gpu_rows(example_gpus(), (endpoint,), 76, Density.NORMAL))
    assert "3f2a" not in narrow
