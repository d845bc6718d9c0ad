"""The gallery shows every screen, names files that are there, and its pictures are small and whole."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from app.actions import Where
from app.screens.live import LiveScreen
from tests.app.pictures import FOLDER
from tests.gallery.scenes import ASSETS, PAGE, SCENES, Scene, page
from tests.gallery.svg import slim

BYTES_MAX = 120_000


def test_the_page_is_what_the_scenes_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()
    assert len({scene.name for scene in SCENES}) == len(SCENES)


def test_every_screen_has_a_picture() -> None:
    shown = {scene.screen.WHERE for scene in SCENES if issubclass(scene.screen, LiveScreen)}
    assert shown == set(Where) - {Where.APP}


def test_every_picture_there_is_has_a_sentence() -> None:
    assert {file.stem for file in (ASSETS / "screens").iterdir()} == {scene.name for scene in SCENES}
    for scene in SCENES:
        assert scene.sentence.endswith(".")


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_a_picture_is_small_whole_and_loads_nothing(scene: Scene) -> None:
    text = scene.file.read_text(encoding="utf-8")
    assert len(text.encode()) < BYTES_MAX
    root = ElementTree.fromstring(text)
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
        "svg",
        "style",
        "rect",
        "text",
        "circle",
        "g",
        "path",
    }
    assert "url(" not in text
    assert "@" not in text.partition("</style>")[0]
    words = " ".join("".join(element.itertext()) for element in root.iter() if element.tag.endswith("text"))
    assert scene.title in words
    assert "gpudeck" in words


@pytest.mark.parametrize("name", ["dashboard-120x40", "ledger-80x24", "loadtest-120x40"])
def test_a_slim_picture_says_everything_that_the_whole_one_does(name: str) -> None:
    whole = (FOLDER / f"{name}.svg").read_text(encoding="utf-8")
    slimmed = slim(whole, "a <title>")
    assert len(slimmed.encode()) < len(whole.encode()) / 3
    root = ElementTree.fromstring(slimmed)
    texts = ["".join(element.itertext()) for element in root.iter() if element.tag.endswith("text")]
    assert texts[0] == "a <title>"
    said = set(re.findall(r"[\w$.%]+", " ".join(texts).replace("\N{NO-BREAK SPACE}", " ")))
    wanted = set(re.findall(r"[\w$.%]+", (FOLDER / f"{name}.txt").read_text(encoding="utf-8")))
    assert wanted <= said


def test_another_svg_is_no_picture_of_a_terminal() -> None:
    with pytest.raises(ValueError, match="no picture of a terminal"):
        slim('<svg viewBox="0 0 1 1"/>', "x")
