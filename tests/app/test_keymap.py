"""The user's own keys: what counts, and what is said about the rest."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from app.actions import ACTIONS, Where
from app.keymap import KEYS_MAX, MOVING, Keymap, parse_keymap, read_keymap
from app.messages import Dialog
from app.preferences import Preferences
from app.screens.help import HelpScreen
from tests.app.driving import dialogs_wanted, notices, running
from tests.app.fakes import rich
from tests.app.pictures import screen_text
from tests.waiting import until


def test_no_file_changes_nothing(tmp_path: Path) -> None:
    assert read_keymap(tmp_path / "keys.toml") == Keymap()


def test_keys_are_written_as_on_the_keyboard() -> None:
    keymap = parse_keymap(
        'quit = ["Q", "ctrl+q", "f12", "?", "Q"]\nshow_help = "H"\nraise_maximum = ">>"\n', "keys.toml"
    )
    assert keymap.keys["quit"] == ("Q", "ctrl+q", "f12", "question_mark")
    assert keymap.problems == ("keys.toml, line 3: there is no key '>>'; write it as p, P, ?, f5, ctrl+d or shift+up",)


def test_two_actions_may_change_places() -> None:
    keymap = parse_keymap('create_endpoint = "e"\nedit_endpoint = "n"\n', "k")
    assert keymap == Keymap({"create_endpoint": ("e",), "edit_endpoint": ("n",)})


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('\nopen_playgruond = "P"', 2, "did you mean open_playground?"),
        ('# mine\n\nquit = 7', 3, "needs a key"),
        ("quit = []", 1, f"1 to {KEYS_MAX} keys"),
        ('quit = ["q", 7]', 1, "text in quotes"),
        ('quit = "hyperspace"', 1, "there is no key 'hyperspace'"),
        ('quit = "strg+q"', 1, "before a + stand"),
        ('quit = "\\u001b"', 1, "there is no key '\\x1b'"),
        ('quit = "j"', 1, "j moves"),
        ('top_up = "Q"\nquit = "t"', 0, ""),
        ('quit = "n"', 1, "n is the key of create_endpoint"),
        ('top_up = "Z"\nquit = "Z"', 2, "Z is the key of top_up"),
        ("[quit]\nkey = 1", 1, "needs a key"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named_with_its_line(text: str, line: int, says: str) -> None:
    keymap = parse_keymap(text, "keys.toml")
    if not line:
        assert not keymap.problems
        return
    assert len(keymap.problems) == 1
    assert keymap.problems[0].startswith(f"keys.toml, line {line}: ")
    assert says in keymap.problems[0]


def test_a_file_that_is_no_toml_leaves_every_key_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text("quit = \n")
    assert read_keymap(file).keys == {}
    assert "line 1" in read_keymap(file).problems[0]
    file.write_bytes(b"\xff\xfe")
    assert "usual keys" in read_keymap(file).problems[0]


def test_the_usual_keys_do_not_clash() -> None:
    for one, other in combinations(ACTIONS, 2):
        if one.where & other.where or Where.APP in one.where | other.where:
            assert not set(one.keys) & set(other.keys), (one.id, other.id)
    for action in ACTIONS:
        assert not MOVING & set(action.keys), action.id


async def test_the_app_starts_with_the_good_keys_and_says_what_is_wrong_with_the_others() -> None:
    keymap = parse_keymap('create_endpoint = "N"\nquti = "Q"', "keys.toml")
    async with running(rich(), preferences=Preferences(keymap=keymap, problems=keymap.problems)) as (app, _, pilot):
        await until(lambda: "did you mean quit?" in notices(app), what="the notice")
        await pilot.press("n")
        await pilot.press("N")
        await until(lambda: dialogs_wanted(app) == [(Dialog.CREATE, None)])
        assert "N New" in screen_text(app)
        await pilot.press("question_mark")
        await until(lambda: isinstance(app.screen, HelpScreen))
        await until(lambda: "N Create an endpoint" in " ".join(screen_text(app).split()))
