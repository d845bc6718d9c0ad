"""Pictures of the screens at the sizes that matter. See tests/app/pictures.py for how to renew them."""

from __future__ import annotations

from datetime import UTC

import pytest

from app.app import GpudeckApp
from app.screens.dashboard import DashboardScreen
from app.screens.endpoint_detail import EndpointScreen
from orchestrator.contract.snapshot import RunwayView, Snapshot
from tests.app.fakes import FakeClient, account, bare, example_gpus, rich
from tests.app.pictures import assert_picture
from tests.waiting import until

WARNED = account(
    warned=True, balance_u=131_000_000, runway=RunwayView(baseline_h=22.6, current_h=3.37, worst_case_h=0.9)
)
SIMULATED = rich(simulated_gpus=True, gpus=example_gpus(simulated=True), accounts=(WARNED,))


async def picture(name: str, snapshot: Snapshot, size: tuple[int, int], *keys: str) -> None:
    """Draw `snapshot`, press `keys`, compare."""
    app = GpudeckApp(FakeClient(snapshot), zone=UTC, tick_s=3_600)
    async with app.run_test(size=size) as pilot:
        await until(lambda: isinstance(app.screen, DashboardScreen) and app.snapshot is snapshot)
        await pilot.pause()
        for key in keys:
            await pilot.press(key)
        if "enter" in keys:
            await until(lambda: isinstance(app.screen, EndpointScreen))
        await pilot.pause()
        await pilot.pause()
        assert_picture(app, name)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50)])
async def test_dashboard(size: tuple[int, int]) -> None:
    await picture(f"dashboard-{size[0]}x{size[1]}", rich(), size)


async def test_dashboard_with_low_credit_on_simulated_gpus() -> None:
    await picture("warned-80x24", SIMULATED, (80, 24))


async def test_first_start() -> None:
    await picture("first-start-120x40", bare(), (120, 40))


async def test_endpoint() -> None:
    await picture("endpoint-120x40", rich(), (120, 40), "enter")


async def test_failed_endpoint() -> None:
    await picture("endpoint-failed-80x24", rich(), (80, 24), "G", "enter")
