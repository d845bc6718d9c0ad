"""The end of the program on a real terminal: by a signal, with the window, and where it should not begin at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.color import Color

from app.theme import THEMES
from tests.processes import holders
from tests.terminal.command import GPUDECK, ROOT, data, environ, run
from tests.terminal.pseudo import USUAL_MODES, Pseudo, pseudo
from tests.waiting import until_sync

LIGHT = next(theme for theme in THEMES if theme.name == "gpudeck-light")
ALTERNATE_SCREEN, MOUSE, PASTE = 1049, 1000, 2004


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of a running orchestrator without endpoints, which no end of a dashboard may end."""
    place = tmp_path_factory.mktemp("l")
    started = data(place, "up", "--engine", "process", "--gpus", "L40:1", "--port", "0", "--timeout", "90")
    yield place
    left = holders(place)
    ended = run(place, "down")
    assert left == [started["pid"]], "a dashboard ended the orchestrator, or left a process behind"
    assert ended.returncode == 0, ended.stderr


def restored(terminal: Pseudo) -> None:
    """The terminal is as it was found."""
    assert terminal.modes() == USUAL_MODES
    assert terminal.settings() == terminal.before
    pushed, popped = terminal.seen.count(b"\x1b[>"), terminal.seen.count(b"\x1b[<u")
    assert popped >= 1, "kitty's keyboard protocol is still on"
    assert pushed >= 1
    assert "Traceback" not in terminal.text


@pytest.mark.parametrize(
    ("number", "columns", "rows", "shown"),
    [
        (signal.SIGTERM, 100, 30, "Press n to create one."),
        (signal.SIGHUP, 60, 15, "(needs 60x20, has 60x15)"),
    ],
)
def test_a_signal_leaves_the_terminal_as_it_was(
    home: Path, number: signal.Signals, columns: int, rows: int, shown: str
) -> None:
    with pseudo(GPUDECK, environ(home), columns, rows) as terminal:
        terminal.shows(shown)
        assert {ALTERNATE_SCREEN, MOUSE, PASTE} <= terminal.modes()
        assert 25 not in terminal.modes()
        assert terminal.settings() != terminal.before
        terminal.process.send_signal(number)
        assert terminal.ends() == 0
        restored(terminal)


def test_a_signal_before_the_first_picture_leaves_it_too(home: Path) -> None:
    with pseudo(GPUDECK, environ(home)) as terminal:
        until_sync(lambda: ALTERNATE_SCREEN in (terminal.read() or terminal.modes()), 90, "the alternate screen")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.ends() == 0
        restored(terminal)


def test_one_that_was_stopped_and_continued_goes_on_and_leaves_it_too(home: Path) -> None:
    with pseudo(GPUDECK, environ(home)) as terminal:
        terminal.shows("Press n to create one.")
        for time in range(2, 4):
            terminal.process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, terminal.process.pid, os.WSTOPPED)
            terminal.process.send_signal(signal.SIGCONT)
            until_sync(lambda n=time: terminal.text.count("Press n to create one.") >= n, 90, "it to be drawn again")
        terminal.press("?")
        terminal.shows("esc closes")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.ends() == 0
        restored(terminal)


def test_a_closed_window_ends_the_program_and_nothing_else(home: Path) -> None:
    with pseudo(GPUDECK, environ(home)) as terminal:
        terminal.shows("Press n to create one.")
        terminal.press("D")  # a report: a process of its own, in a session of its own
        terminal.shows("Checks")
        terminal.hang_up()
        terminal.ends()
    until_sync(lambda: len(holders(home)) == 1, 90, "its processes to end")
    assert data(home, "status")["ledger_ok"] is True


def test_a_lab_has_the_user_s_theme_and_keys_and_goes_with_its_window(home: Path) -> None:
    """Also what `demo` does: both run the app that `dashboard_app` makes, in a private home."""
    (home / "config" / "keys.toml").write_text('show_help = "H"\n')
    temporary = home / "t"
    temporary.mkdir()
    own = environ(home, TMPDIR=str(temporary), GPUDECK_THEME="light", COLORTERM="truecolor")
    with pseudo((*GPUDECK, "demo", "--lab"), own) as terminal:
        terminal.shows("SIMULATED 60×")
        terminal.press("H")
        terminal.shows("esc closes")
        red, green, blue = Color.parse(LIGHT.background or "").rgb
        assert f"48;2;{red};{green};{blue}m".encode() in terminal.seen, "the light theme's ground"
        assert len(list(temporary.iterdir())) == 1
        terminal.hang_up()
        terminal.ends()
    until_sync(lambda: not holders(temporary), 90, "its orchestrator to end")
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_without_a_screen_is_refused_in_words(home: Path, term: str) -> None:
    with pseudo(GPUDECK, environ(home, TERM=term)) as terminal:
        assert terminal.ends() == 2
        assert f"the dashboard needs a terminal: TERM={term} says that" in terminal.text
        assert "gpudeck status" in terminal.text
        assert b"\x1b" not in terminal.seen


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_stream_that_leads_elsewhere_is_refused_in_words(home: Path, stream: str, tmp_path: Path) -> None:
    redirected = f"exec {sys.executable} -m app {'>' if stream == 'stdout' else '2>'} {tmp_path / 'file'}"
    with pseudo(("/bin/sh", "-c", redirected), environ(home)) as terminal:
        assert terminal.ends() == 2
    said = terminal.text + (tmp_path / "file").read_text()
    assert f"the dashboard needs a terminal: {stream} is none" in said
    assert "\x1b" not in said


def test_a_pipe_on_stdin_is_refused_in_words(home: Path) -> None:
    done = subprocess.run(GPUDECK, env=environ(home), cwd=ROOT, input="q", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "the dashboard needs a terminal: stdin is none" in done.stderr


def test_ctrl_c_at_a_question_ends_the_command(home: Path) -> None:
    create = ("endpoint", "create", "s", "--model", "sketch", "--gpu", "L40", "--workers", "0-1")
    with pseudo([*GPUDECK, *create], environ(home), 100, 30) as terminal:
        terminal.shows("[Y/n]")
        terminal.press("\x03")
        assert terminal.ends() == 130
        assert "gpudeck: interrupted" in terminal.text
    assert data(home, "endpoint", "ls") == []
