"""The dialogs as pictures, and nothing of them outside the terminal at its sizes."""

from __future__ import annotations

import pytest

from app.messages import Dialog
from app.screens.dialogs.new_key import NewKeyDialog
from app.screens.dialogs.scope import ScopeChoice
from orchestrator.contract.snapshot import EngineKind, EngineView
from tests.app import fakes
from tests.app.dialog_stage import SMALL, WIDE, stage
from tests.app.pictures import assert_picture

SIMULATED = fakes.rich(
    engine=EngineView(kind=EngineKind.PROCESS, ok=True, detail="local processes"),
    gpus=fakes.example_gpus(simulated=True),
    simulated_gpus=True,
)


@pytest.mark.parametrize(
    ("name", "dialog", "size", "shown"),
    [
        ("create_80x24", Dialog.CREATE, SMALL, "✔ credit ok"),
        ("create_120x40", Dialog.CREATE, WIDE, "✔ credit ok"),
        ("quit_80x24", Dialog.QUIT, SMALL, "3 requests in flight"),
    ],
)
async def test_picture(name: str, dialog: Dialog, size: tuple[int, int], shown: str) -> None:
    async with stage(dialog, client=fakes.FakeClient(SIMULATED), size=size) as held:
        await held.shows(shown)
        await held.pilot.pause()
        assert_picture(held.app, f"dialog_{name}")


async def test_picture_of_the_new_key_form() -> None:
    async with stage(Dialog.KEYS, client=fakes.FakeClient(SIMULATED)) as held:
        await held.press("n")
        await held.front(NewKeyDialog)
        await held.type("name", "ci-pipeline")
        held.top.query_one(ScopeChoice).focus()
        await held.press("down", "space")
        await held.shows("■ llama-70b")
        assert_picture(held.app, "dialog_new_key_80x24")


@pytest.mark.parametrize("size", [(60, 20), SMALL, WIDE])
@pytest.mark.parametrize("dialog", list(Dialog))
async def test_every_dialog_fits_and_shows_its_buttons(dialog: Dialog, size: tuple[int, int]) -> None:
    async with stage(dialog, "sketch", size=size) as held:
        screen = held.top.region
        assert screen.contains_region(held.top.query_one("#frame").region)
        for button in held.top.query("ActionButton"):
            if button.display:
                assert screen.contains_region(button.region), button
                assert button.region.height == 1
