"""Theme, motion and where they are kept."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from textual.widgets import Input

from app.preferences import THEMES, Preferences, read_preferences
from app.theme import THEMES as PALETTES
from orchestrator.contract.places import HOME_VARIABLE, Places, places
from orchestrator.settings import Settings, SettingsError, load_settings
from tests.app.driving import notices, running
from tests.app.fakes import rich
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Places:
    found = places({HOME_VARIABLE: str(tmp_path)})
    found.config.mkdir()
    return found


def test_defaults_are_those_of_the_settings(home: Places) -> None:
    liked = read_preferences(home, {})
    assert (liked.theme, liked.reduced_motion, liked.problems) == ("dark", False, ())
    assert (Settings().theme, Settings().reduced_motion) == (liked.theme, liked.reduced_motion)
    assert [f"gpudeck-{name}" for name in THEMES] == [palette.name for palette in PALETTES]


def test_environment_over_file_and_both_as_config_show_has_them(home: Places) -> None:
    home.settings_file.write_text('theme = "light"\nreduced_motion = true\n')
    assert read_preferences(home, {}).theme == "light"
    assert read_preferences(home, {}).reduced_motion
    environ = {"GPUDECK_THEME": "contrast", "GPUDECK_REDUCED_MOTION": "false"}
    liked = read_preferences(home, environ)
    shown = load_settings(home.settings_file, environ, {}).settings
    assert (liked.theme, liked.reduced_motion) == (shown.theme, shown.reduced_motion) == ("contrast", False)


def test_what_cannot_be_read_is_said_and_left_at_its_default(home: Places) -> None:
    home.settings_file.write_text('theme = "solarized"\nreduced_motion = "perhaps"\n')
    (home.config / "keys.toml").write_text('nothing = "x"\n')
    liked = read_preferences(home, {})
    assert (liked.theme, liked.reduced_motion) == ("dark", False)
    assert [problem.split(":")[0] for problem in liked.problems] == ["theme", "reduced_motion", "keys.toml, line 1"]
    home.settings_file.write_text('[keys]\nquit = "Q"\n')
    [said, _] = read_preferences(home, {}).problems
    assert said == "config.toml: keys are read from keys.toml beside it, not from [keys]"
    with pytest.raises(SettingsError, match=r"keys, from .*: the keys of the dashboard are in keys.toml"):
        load_settings(home.settings_file, {}, {})
    home.settings_file.write_text("theme = ")
    assert "config.toml" in read_preferences(home, {}).problems[0]


def test_a_chosen_theme_is_kept_until_the_setting_changes(home: Places) -> None:
    read_preferences(home, {}).remember_theme("light")
    assert read_preferences(home, {}).theme == "light"
    home.settings_file.write_text('theme = "contrast"\n')
    assert read_preferences(home, {}).theme == "contrast"
    (home.state / "theme.json").write_text("[]")
    assert read_preferences(home, {}).theme == "contrast"


async def test_the_key_goes_round_the_themes_and_the_last_one_is_kept(home: Places) -> None:
    async with running(rich(), preferences=read_preferences(home, {})) as (app, _, pilot):
        seen = []
        for _ in THEMES:
            await pilot.press("T")
            seen.append(app.theme)
        assert seen == ["gpudeck-light", "gpudeck-contrast", "gpudeck-dark"]
        await pilot.press("T")
    assert read_preferences(home, {}).theme == "light"


async def test_a_theme_that_cannot_be_kept_is_used_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    async with running(rich(), preferences=Preferences(theme_file=tmp_path / "file" / "theme.json")) as (app, _, pilot):
        await pilot.press("T")
        await until(lambda: "Not kept" in notices(app))
        assert app.theme == "gpudeck-light"


@pytest.mark.parametrize(("reduced", "rate", "level"), [(True, 1.0, "none"), (False, 4.0, "full")])
async def test_reduced_motion(reduced: bool, rate: float, level: str) -> None:
    async with running(rich(), preferences=Preferences(reduced_motion=reduced)) as (app, client, pilot):
        assert client.per_second == rate
        assert app.animation_level == level
        await pilot.press("slash")
        field = app.screen.query_one(Input)
        await until(lambda: field.has_focus)
        await until(lambda: field.cursor_blink is not reduced)


MONOCHROME = """
import asyncio, sys
from app.app import GpudeckApp
from tests.app.fakes import FakeClient, rich

async def main():
    app = GpudeckApp(FakeClient(rich()), tick_s=3600)
    async with app.run_test(size=(120, 40)) as pilot:
        while app.snapshot is None:
            await pilot.pause()
        await pilot.pause()
        sys.stdout.write(app.export_screenshot())

asyncio.run(main())
"""


def test_without_colour_every_state_still_has_its_sign_and_its_word() -> None:
    environ = {**os.environ, "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-c", MONOCHROME],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=90,
    )
    svg = done.stdout
    styles = svg[svg.index("<style>") : svg.index("</style>")]
    fills = {part[:6] for part in styles.split("fill: #")[1:]} - {"c5c8c6"}  # the frame's title, which is not ours
    assert len(fills) > 3
    assert all(value[:2] == value[2:4] == value[4:] for value in fills), fills
    text = "".join(re.sub(r"<[^>]*>", "", svg[svg.index("</style>") :]).replace("&#160;", " ").split())
    for state in ("●serving", "○idle", "✖failed", "◐w7", "●w1Bbusy"):
        assert state in text, state
