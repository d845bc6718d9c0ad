"""The lab in front: badge and clock, the keys that change its speed, and the whole of it headless."""

from __future__ import annotations

import json

import pytest

from app.present.condition import FeedState
from app.present.header import title_bar
from app.present.statement_html import render_html
from app.present.statement_text import render_text
from app.present.text import Line
from orchestrator.contract.accounting import Statement
from orchestrator.contract.base import HOUR_NS
from orchestrator.contract.lab import LabView, SetSpeed
from tests.app.cli_runner import gpudeck
from tests.app.driving import running
from tests.app.fakes import rich
from tests.app.pictures import screen_text
from tests.waiting import until

STATEMENT = Statement(
    account="local", month=None, instance="f" * 32, since_ns=0, until_ns=1, taken_at_ns=1, opening_u=0, topped_up_u=0,
    charged_u=0, absorbed_u=0, closing_u=0, later_u=0, ledger_balance_u=0, unposted_u=0, reconciles=True, head=0,
    head_hash="", topups=(), charges=(), lines=(), lines_total=0, next=None,
)  # fmt: skip


def text_of(line: Line) -> str:
    return "".join(span.text for span in line)


def test_the_badge_tells_the_speed_and_the_lab_s_own_time() -> None:
    start_ns = 1_795_500_000 * 1_000_000_000
    lab = rich(lab=LabView(speed=150), started_at_ns=start_ns, taken_at_ns=start_ns + 20 * HOUR_NS)
    shown = text_of(title_bar(lab, FeedState(connected=True), 120, readonly=False))
    assert " SIMULATED 150× " in shown
    assert "day 2 02:00" in shown
    assert "http" not in shown


@pytest.mark.parametrize(
    ("speed", "key", "wanted"), [(60, ">", 150), (60, "<", 10), (600, ">", None), (1, "<", None), (45, ">", 60)]
)
async def test_keys_change_the_speed_of_a_lab(speed: int, key: str, wanted: int | None) -> None:
    names = {">": "greater_than_sign", "<": "less_than_sign"}
    async with running(rich(lab=LabView(speed=speed))) as (app, client, pilot):
        assert f"SIMULATED {speed}×" in screen_text(app)
        await pilot.press(names[key])
        await pilot.pause()
        if wanted is not None:
            await until(lambda: client.sent)
        asked = [command.speed for command in client.sent if isinstance(command, SetSpeed)]
        assert asked == ([] if wanted is None else [wanted])


async def test_without_a_lab_the_keys_do_nothing() -> None:
    async with running(rich()) as (_, client, pilot):
        await pilot.press("greater_than_sign", "less_than_sign")
        await pilot.pause()
        assert not client.sent


def test_statements_of_a_lab_say_so() -> None:
    simulated = STATEMENT.model_copy(update={"simulated": True})
    assert "SIMULATED" in render_text(simulated, []).splitlines()[0]
    assert "SIMULATED" in render_html(simulated, [])
    assert "SIMULATED" not in render_text(STATEMENT, []) + render_html(STATEMENT, [])


async def test_a_lab_headless_from_start_to_end() -> None:
    """A few seconds of it, through the socket, in a home that is gone afterwards."""
    result = await gpudeck("demo", "--lab", "--headless", "--speed", "600", "--timeout", "4", "-o", "json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["simulated"] is True
    assert found["bill"]["simulated"] is True
    assert found["passed_ns"] > 30_000_000_000
    assert any("w1 ready" in event["text"] for event in found["events"])
