"""Makes the pictures of the gallery from real runs: real processes and requests, the real TUI, driven by its keys.

    python -m tests.gallery.film [load] [calls] [money] [rest] [lab]      writes assets/screens/*.svg and SCREENS.md

All of it takes some ten minutes. Paths of this machine are shown as if the checkout and its home were in the user's
own.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import UTC
from pathlib import Path
from typing import Any, Final

import httpx
from textual.pilot import Pilot
from textual.screen import Screen

from app.app import GpudeckApp
from app.client import SocketClient
from app.demo.home import private_home
from app.reporting import Reporter, Request, reporter
from app.screens.dashboard import DashboardScreen
from app.screens.dialogs.edit import EditDialog
from app.screens.dialogs.fields import Choice, TextInput
from app.screens.ledger import JournalPanel
from app.screens.playground import PlaygroundScreen
from orchestrator.contract.base import DOLLAR_U
from orchestrator.contract.command import CreateAccount, TopUp
from orchestrator.contract.endpoint import RequestCount
from tests.app.pictures import screen_text
from tests.e2e.host import ROOT, Host, new_id
from tests.gallery.scenes import PAGE, SCENES, page
from tests.gallery.svg import slim
from tests.waiting import until

SIZE: Final = (120, 40)
LOADED_S: Final = 100.0
SPEED: Final = 600
PATIENCE_S: Final = 600.0


class Camera:
    """An app that is driven by keys, and photographed."""

    def __init__(self, app: GpudeckApp, pilot: Pilot[Any]) -> None:
        self.app = app
        self.pilot = pilot

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def shows(self, *said: str) -> None:
        """Wait until all of this is on the screen."""
        await until(lambda: all(each in screen_text(self.app) for each in said), PATIENCE_S, what=str(said))

    async def hold(self, seconds: float) -> None:
        """Let the run go on."""
        await self.pilot.pause(seconds)

    async def open(self, key: str, screen: type[Screen[Any]]) -> None:
        await self.press(key)
        await until(lambda: isinstance(self.app.screen, screen), PATIENCE_S, what=screen.__name__)
        await self.pilot.pause()

    async def home(self) -> None:
        """Back to the dashboard."""
        while not isinstance(self.app.screen, DashboardScreen):
            await self.press("escape")

    def take(self, name: str) -> None:
        """The picture of that name, which must be of the screen it is said to show."""
        scene = next(each for each in SCENES if each.name == name)
        assert isinstance(self.app.screen, scene.screen), (name, self.app.screen)
        scene.file.parent.mkdir(exist_ok=True)
        scene.file.write_text(slim(self.app.export_screenshot(), f"gpudeck · {scene.title}"), encoding="utf-8")
        sys.stdout.write(f"{scene.file.stat().st_size // 1_000:>4} kB  {name}\n")


@asynccontextmanager
async def camera(client: SocketClient, report: Reporter, results: Path) -> AsyncIterator[Camera]:
    app = GpudeckApp(client, zone=UTC, reporter=report, loadtests=results)
    async with app.run_test(size=SIZE) as pilot:
        await until(lambda: isinstance(app.screen, DashboardScreen) and app.snapshot is not None, PATIENCE_S)
        await pilot.pause()
        yield Camera(app, pilot)


def elsewhere(report: Reporter, shown: Mapping[str, str]) -> Reporter:
    """Reports in which paths of this machine are shown as others."""

    async def told(request: Request) -> Any:
        text = json.dumps(await report(request))
        for path, instead in shown.items():
            text = text.replace(path, instead)
        return json.loads(text)

    return told


# --- the load


async def pictures(host: Host, seconds: float) -> None:
    """A wave of drawings: more callers than one worker has time for, then one who calls now and then."""
    picture = (ROOT / "assets" / "images" / "landscape.jpg").read_bytes()
    headers = {"content-type": "image/jpeg", "x-api-key": host.key}
    loop = asyncio.get_running_loop()
    start = loop.time()
    async with httpx.AsyncClient(base_url=host.url, headers=headers, trust_env=False, timeout=120) as http:

        async def draw(number: int) -> None:
            while (passed := loop.time() - start) < seconds:
                busy = (passed + 6) % 22 < 13
                if number == 0 or busy:
                    await http.post("/v1/sketch?operation=pencil", content=picture)
                await asyncio.sleep(0.05 if busy else 1.0)

        await asyncio.gather(*(draw(number) for number in range(6)))


async def questions(host: Host, seconds: float) -> None:
    """A few slow calls at a time, so that two or three workers are busy."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    headers = {"x-api-key": host.key}
    async with httpx.AsyncClient(base_url=host.url, headers=headers, trust_env=False, timeout=120) as http:

        async def ask() -> None:
            while loop.time() < end:
                await http.post("/v1/answers", json={"latency_s": 0.4, "tokens": 20})

        await asyncio.gather(*(ask() for _ in range(3)))


# --- the runs


async def live(directory: Path, parts: Collection[str]) -> None:
    """What a deck of real processes can show, after a minute of load unless nothing of that is wanted."""
    host = Host(directory, "process", gpus="L40:5,H100:1", variables={"GPUDECK_FAULTS": "true"})
    os.environ["GPUDECK_PORT"] = str(host.port)  # so that the doctor asks about the gateway that runs
    async with host.running():
        await host.create("1-2", slug="sketch", model="sketch", policy=RequestCount(value=3), idle_timeout_s=8)
        await host.create("1-3", slug="answers", policy=RequestCount(value=1), idle_timeout_s=20)
        await host.create("0-5", slug="nightly", gpu_type="H100")
        await host.accept(CreateAccount(id=new_id(), name="research", mail="lab@example.org"))
        await host.accept(TopUp(id=new_id(), account="research", amount_u=250 * DOLLAR_U))
        await host.until_ready(1, "sketch")
        seconds = LOADED_S if {"load", "money"} & set(parts) else 0.0
        load = asyncio.gather(pictures(host, seconds), questions(host, seconds))
        await asyncio.sleep(seconds / 2)
        shown = {str(directory): "~/.gpudeck", str(ROOT): "~/gpudeck"}
        report = elsewhere(reporter(directory), shown)
        async with camera(SocketClient(host.places.socket_file), report, directory / "loadtests") as film:
            for name, part in PARTS.items():
                if name in parts:
                    await part(film)
                await load


async def under_load(film: Camera) -> None:
    await film.hold(2.5)
    film.take("dashboard")
    await film.press("i")
    await film.shows("A request now")
    await until(lambda: " 0 of " not in screen_text(film.app), PATIENCE_S, what="somebody who waits")
    film.take("inspector")
    await film.home()
    await film.press("enter")
    await film.shows("replies of the last 60 s", "over")
    await film.hold(1.0)
    film.take("endpoint")
    await film.home()
    await film.press("w")
    await film.shows("→")
    film.take("decisions")
    await film.home()
    await film.press("l")
    await film.shows("following")
    await film.hold(2.5)
    film.take("logs")
    await film.home()


async def calls(film: Camera) -> None:
    """Playground, load test, and the form with what it advises."""
    await film.open("p", PlaygroundScreen)
    screen = film.app.screen
    assert isinstance(screen, PlaygroundScreen)
    screen.query_one("#file", TextInput).value = "assets/images/still-life.jpg"
    screen.query_one("#query", TextInput).value = "operation=pencil"
    await film.press("ctrl+s")
    await film.shows("pixels")
    await film.hold(0.5)
    film.take("playground")
    assert screen.heard is not None
    worker_rpm = 60_000 / (screen.heard.worker_ms or 100)
    await film.home()
    await film.press("L")
    await film.shows("Not started")
    form = film.app.screen
    form.query_one("#kind", Choice).pick("ramp")
    # From less than one worker can do to more than the two that there may be, whatever machine this is.
    for name, value in (("rpm", worker_rpm * 0.4), ("to", worker_rpm * 3.4), ("seconds", 30)):
        form.query_one(f"#{name}", TextInput).value = f"{value:.0f}"
    form.query_one("#call", TextInput).value = "operation=pencil"
    await film.press("ctrl+s")
    await film.shows("running, esc stops it")
    await until(lambda: "running, esc" not in screen_text(film.app), PATIENCE_S, what="the load test's end")
    await film.hold(1.0)
    film.take("loadtest")
    await film.press("ctrl+g")
    await film.hold(2.0)
    if not isinstance(film.app.screen, EditDialog):  # what is set is what the test advises
        await film.home()
        await film.open("e", EditDialog)
        film.app.screen.query_one("#maximum", TextInput).value = "4"
        await film.hold(1.0)
    film.take("edit")
    await film.home()


async def money_and_advice(film: Camera) -> None:
    await film.press("F")
    await film.shows("the first that is ready")
    await film.press("enter")
    await film.shows("healed in")
    film.take("faults")
    await film.home()
    await film.press("W")
    await film.shows("★")
    await film.hold(0.5)
    film.take("whatif")
    await film.home()
    await film.press("m")
    await film.shows("agrees with the journal")
    await film.press("v")
    await film.shows("drift 0")
    journal = film.app.screen.query_one(JournalPanel)
    journal.select(next(index for index, row in enumerate(journal.rows) if row.entry == "posting"))
    await film.shows("container")
    film.take("ledger")
    await film.home()


async def the_rest(film: Camera) -> None:
    for key, name, said in (
        ("n", "create", "credit ok"), ("C", "accounts", "research"), ("comma", "settings", "allowed"),
        ("D", "doctor", "in order"), ("question_mark", "help", "esc closes"),
    ):  # fmt: skip
        await film.press(key)
        await film.shows(said)
        await film.hold(0.5)
        film.take(name)
        await film.home()


async def lab(directory: Path) -> None:
    """The hours of a simulated day up to the warning."""
    command = [sys.executable, "-m", "orchestrator.lab", f"--speed={SPEED}"]
    async with (
        private_home(engine="virtual", gpus=None, keep=False, talk=lambda _: None, command=command) as home,
        camera(home.client, reporter(home.directory), directory) as film,
    ):
        await film.shows("lasts")
        await film.hold(0.5)
        film.take("lab")
        await film.press("enter", "r", "r")
        await film.shows("last 24 h", "· over")
        await until(lambda: "reading the history" not in screen_text(film.app), PATIENCE_S, what="the history")
        await film.hold(0.5)
        film.take("history")
        await film.home()


PARTS: Final = {"load": under_load, "calls": calls, "money": money_and_advice, "rest": the_rest}
"""Of the live run, in this order."""
LAB: Final = "lab"


async def main(names: list[str]) -> None:
    wanted = names or [*PARTS, LAB]
    with tempfile.TemporaryDirectory(prefix="gd-") as directory:
        if set(PARTS) & set(wanted):
            await live(Path(directory), wanted)
        if LAB in wanted:
            await lab(Path(directory))
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
