"""The program in a real terminal, by keys alone: open, create an endpoint, look, quit and stop everything."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import until_sync

pytestmark = [
    pytest.mark.terminal,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
]

ROOT = Path(__file__).resolve().parents[2]


class Terminal:
    """One tmux session on a server of its own."""

    def __init__(self, home: Path, command: str, columns: int = 120, rows: int = 40) -> None:
        self.name = f"gpudeck-{uuid.uuid4().hex[:8]}"
        self.home = home
        environ = {**os.environ, "GPUDECK_HOME": str(home), "LANG": "C.UTF-8", "TERM": "xterm-256color"}
        for name in ("TMUX", "COLUMNS", "LINES"):
            environ.pop(name, None)  # they would overrule the size of the pane
        self._environ = environ
        self.tmux("new-session", "-d", "-x", str(columns), "-y", str(rows), command)
        self.tmux("set-option", "-g", "remain-on-exit", "on")

    def tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-L", self.name, *arguments],
            env=self._environ,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def screen(self) -> str:
        return self.tmux("capture-pane", "-p")

    def keys(self, *names: str) -> None:
        self.tmux("send-keys", *names)

    def shows(self, *texts: str, timeout_s: float = 40) -> None:
        def there() -> bool:
            screen = self.screen()
            return all(text in screen for text in texts)

        try:
            until_sync(there, timeout_s, what=f"the screen to show {texts}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.screen()}") from None

    def hides(self, text: str, timeout_s: float = 20) -> None:
        until_sync(lambda: text not in self.screen(), timeout_s, what=f"{text} to go")

    def ended(self) -> bool:
        return self.tmux("display-message", "-p", "#{pane_dead}").strip() == "1"

    def close(self) -> None:
        subprocess.run(["tmux", "-L", self.name, "kill-server"], env=self._environ, capture_output=True, check=False)


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("t")


@pytest.fixture
def gpudeck(home: Path) -> Iterator[Terminal]:
    options = "GPUDECK_ENGINE=process GPUDECK_GPUS=L40:3 GPUDECK_PORT=0"
    terminal = Terminal(home, f"env {options} {sys.executable} -m app")
    yield terminal
    terminal.close()
    environ = {**os.environ, "GPUDECK_HOME": str(home)}
    down = [sys.executable, "-m", "app", "down", "--drain"]
    subprocess.run(down, env=environ, cwd=ROOT, capture_output=True, check=False)


def cli(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "GPUDECK_HOME": str(home)}
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments], env=environ, cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_open_create_call_and_drain_by_keys(gpudeck: Terminal, home: Path) -> None:
    gpudeck.shows("gpudeck", "SIMULATED", "live")
    gpudeck.keys("?")
    gpudeck.shows("esc closes", "Moving")
    gpudeck.keys("Escape")
    gpudeck.hides("esc closes")
    gpudeck.keys("n")
    gpudeck.shows("New endpoint", "WORST CASE", "credit ok")
    gpudeck.keys("C-s")
    gpudeck.shows("serving")
    shown = cli(home, "-o", "json", "endpoint", "ls")
    assert shown.returncode == 0, shown.stderr
    assert "sketch" in shown.stdout
    called = cli(home, "call", "sketch", "--image", "assets/images/landscape.jpg", "--out", str(home / "out.png"))
    assert called.returncode == 0, called.stderr
    assert (home / "out.png").read_bytes().startswith(b"\x89PNG")
    gpudeck.keys("q")
    gpudeck.shows("Quit gpudeck", "Drain and stop")
    gpudeck.keys("s")
    until_sync(gpudeck.ended, 60, what="the program to end")
    assert cli(home, "ps").returncode == 69
