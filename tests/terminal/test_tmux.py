"""The program in a real terminal, by keys alone: create an endpoint, call it, load it, read its bill, stop it all."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeVar

import pytest

from app.client import SocketClient
from app.loadtest.outcome import Archive
from orchestrator.contract.frames import SnapshotAnswer
from orchestrator.contract.places import Places, places
from orchestrator.contract.query import AskBill, AskSnapshot, AskVerify, Bill, Query, Verification
from orchestrator.contract.snapshot import Snapshot
from tests.processes import holders
from tests.terminal.command import GPUDECK, ROOT, environ, run
from tests.waiting import until_sync

pytestmark = [
    pytest.mark.terminal,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
]

PATIENCE_S: Final = 60.0
Kind = TypeVar("Kind")


class Terminal:
    """One tmux session on a server of its own."""

    def __init__(self, command: str, environ: dict[str, str], columns: int = 120, rows: int = 40) -> None:
        self.name = f"gpudeck-{uuid.uuid4().hex[:8]}"
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

    def shows(self, *patterns: str) -> None:
        """Wait until every pattern is found on the screen."""

        def there() -> bool:
            screen = self.screen()
            return all(re.search(pattern, screen) for pattern in patterns)

        try:
            until_sync(there, PATIENCE_S, f"the screen to show {patterns}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.screen()}") from None

    def hides(self, pattern: str) -> None:
        until_sync(lambda: not re.search(pattern, self.screen()), PATIENCE_S, f"{pattern} to go")

    def ended(self) -> bool:
        return self.tmux("display-message", "-p", "#{pane_dead}").strip() == "1"

    def close(self) -> None:
        subprocess.run(["tmux", "-L", self.name, "kill-server"], env=self._environ, capture_output=True, check=False)


class Deck:
    """The orchestrator that the program in the terminal has started, asked behind its back."""

    def __init__(self, where: Places) -> None:
        self.where = where

    def ask(self, query: Query, kind: type[Kind]) -> Kind:
        async def asking() -> object:
            client = SocketClient(self.where.socket_file)
            try:
                return await client.ask(query)
            finally:
                await client.aclose()

        answer = asyncio.run(asking())
        assert isinstance(answer, kind), answer
        return answer

    @property
    def snapshot(self) -> Snapshot:
        return self.ask(AskSnapshot(), SnapshotAnswer).snapshot

    @property
    def served(self) -> int:
        return self.snapshot.endpoints[0].traffic.served_total

    @property
    def charged_u(self) -> int:
        return self.ask(AskBill(), Bill).total_u


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("t")


@pytest.fixture
def gpudeck(home: Path) -> Iterator[Terminal]:
    own = environ(home, GPUDECK_ENGINE="process", GPUDECK_GPUS="L40:3", GPUDECK_PORT="0")
    terminal = Terminal(shlex.join(GPUDECK), own)
    yield terminal
    terminal.close()
    run(home, "down", "--drain")


def charged_u(screen: str) -> int:
    """What the ledger's screen says was charged, in micro-dollars."""
    found = re.search(r"− charged \$(\d+)\.(\d{6})", screen)
    assert found is not None, screen
    return int(found[1] + found[2])


@pytest.mark.timeout(400)
def test_create_call_load_read_the_bill_and_stop_by_keys(gpudeck: Terminal, home: Path) -> None:
    deck = Deck(places(environ(home)))
    gpudeck.shows("gpudeck", "SIMULATED", "● live")
    gpudeck.keys("?")
    gpudeck.shows("esc closes", "Moving")
    gpudeck.keys("Escape")
    gpudeck.hides("esc closes")

    gpudeck.keys("n")
    gpudeck.shows("New endpoint", "WORST CASE", "credit ok")
    gpudeck.keys("C-s")
    gpudeck.shows("● serving", "● live")
    [endpoint] = deck.snapshot.endpoints
    assert (endpoint.spec.slug, endpoint.spec.model, endpoint.spec.gpu_type) == ("sketch", "sketch", "L40")

    gpudeck.keys("p")
    gpudeck.shows("Not called yet")
    gpudeck.keys("assets/images/landscape.jpg", "Enter")
    gpudeck.shows("✔ HTTP 200", "image/png", r"\d+ × \d+ pixels", "of w1 at .* is ", "▀▀▀")
    until_sync(lambda: deck.served == 1, PATIENCE_S, "the call to be counted")
    gpudeck.keys("Escape")
    gpudeck.shows("1 Endpoints")

    gpudeck.keys("L")
    gpudeck.shows("Not started")
    gpudeck.keys("90", "Tab", "150", "Tab", "3", "Enter")
    gpudeck.shows(r"✔ (\d+) of \1 ", "ramp 90 → 150 RPM over 3 s", "service ")
    [outcome] = Archive(deck.where.loadtests_dir / "sketch").load()
    assert (outcome.shape, outcome.failed) == ("ramp 90 → 150 RPM over 3 s", 0)
    until_sync(lambda: deck.served == 1 + outcome.sent, PATIENCE_S, "the test's calls to be counted")
    gpudeck.keys("Escape")
    gpudeck.shows("1 Endpoints")
    until_sync(
        lambda: all(key.revoked_ns for key in deck.snapshot.keys), PATIENCE_S, "both screens' keys to be revoked"
    )

    least_u = deck.charged_u
    gpudeck.keys("m")
    gpudeck.shows("2 Journal", "top-up", "✔ agrees with the journal")
    shown_u = charged_u(gpudeck.screen())
    assert 0 < least_u <= shown_u <= deck.charged_u, "the bill on the screen is that of the ledger at that time"
    gpudeck.keys("v")
    gpudeck.shows("drift 0")
    assert deck.ask(AskVerify(), Verification).ok
    gpudeck.keys("Escape")
    gpudeck.shows("1 Endpoints")

    gpudeck.keys("q")
    gpudeck.shows("Quit gpudeck", "Drain and stop")
    gpudeck.keys("s")
    until_sync(gpudeck.ended, PATIENCE_S, "the program to end")
    gpudeck.close()
    until_sync(lambda: holders(home) == [], PATIENCE_S, "nothing to be left running")
