"""`gpudeck demo`: the tour behind the dashboard, or headless with a report."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from app.cli.dashboard import dashboard_app
from app.cli.exits import CliError, Exit
from app.cli.hangup import full_screen
from app.cli.options import Settings
from app.cli.output import print_fields, print_json, say
from app.cli.session import complete
from app.cli.terminal import shortcoming
from app.demo.home import PrivateHome, private_home
from app.demo.pictures import NoPictures, load_pictures
from app.demo.report import Report, Seen, build, rows
from app.demo.scenario import Scenario, Unfit
from app.demo.tour import TourFailed, run_tour
from orchestrator.contract.places import HOME_VARIABLE

if TYPE_CHECKING:
    from app.app import GpudeckApp

PROBE: Final = "probe"
AUDIENCE_PAUSE_S: Final = 5.0
NOTE_S: Final = 8.0

Private = Callable[[], AbstractAsyncContextManager[PrivateHome]]
Tour = Callable[..., Awaitable[Seen]]


def run_demo(settings: Settings, *, headless: bool, engine: str, gpus: str, keep: bool, timeout_s: float) -> None:
    """Raises CliError: 1 when a check of the report failed, 5 when the tour took longer than `timeout_s` seconds."""
    private = partial(private_home, engine=engine, gpus=None if gpus == PROBE else gpus, keep=keep, talk=say)
    scenario = Scenario() if gpus == PROBE else Scenario(gpu_type=gpus.partition(":")[0])
    if headless or settings.json or shortcoming() is not None:
        tour = partial(run_tour, scenario=scenario, any_gpu=gpus == PROBE)
        _print_report(settings, complete(lambda: _headless(private, tour, timeout_s)))
        return
    tour = partial(run_tour, scenario=scenario, any_gpu=gpus == PROBE, disable=False)
    report = complete(lambda: _in_dashboard(private, tour))
    if report is not None:
        _print_report(settings, report)


def _print_report(settings: Settings, report: Report) -> None:
    if settings.json:
        print_json(report.document())
    else:
        print_fields(rows(report))
    if not report.ok:
        failed = ", ".join(name.replace("_", " ") for name, held in report.checks.items() if not held)
        raise CliError(f"the demo did not hold: {failed}", Exit.FAILURE)


async def _headless(private: Private, tour: Tour, timeout_s: float) -> Report:
    start_s = asyncio.get_running_loop().time()

    def narrate(text: str) -> None:
        say(f"{asyncio.get_running_loop().time() - start_s:6.1f} s  {text}")

    try:
        pictures = load_pictures()
        narrate("starting a private orchestrator in a temporary directory")
        async with private() as home:
            async with asyncio.timeout(timeout_s):
                seen = await tour(home.client, pictures=pictures, narrate=narrate)
            narrate("draining and stopping the orchestrator")
            await home.close()
    except TimeoutError:
        raise CliError(f"the demo was not over after {timeout_s:g} s", Exit.TIMEOUT) from None
    except (TourFailed, NoPictures, Unfit) as error:
        raise CliError(str(error)) from error
    narrate("nothing is left running" if not home.left_running else f"still running: {', '.join(home.left_running)}")
    return build(replace(seen, left_running=home.left_running))


async def _in_dashboard(private: Private, tour: Tour) -> Report | None:
    """The dashboard with the tour behind it; None when the user left before the tour was over."""
    pictures = load_pictures()
    say("starting a private orchestrator in a temporary directory …")
    async with private() as home:
        app = dashboard_app(home.client, home=home.directory)
        walking = asyncio.create_task(
            _guide(app, home.directory, partial(tour, home.client, pictures=pictures)), name="tour"
        )
        try:
            with full_screen(app.leave, home.abandon):
                await app.run_async()
        finally:
            walking.cancel()
            with suppress(asyncio.CancelledError):
                await walking
            say("draining and stopping the demo; nothing is left running …")
        await home.close()
    seen = walking.result() if walking.done() and not walking.cancelled() else None
    return build(replace(seen, left_running=home.left_running)) if seen is not None else None


async def _guide(app: GpudeckApp, home: Path, walk: Callable[..., Awaitable[Seen]]) -> Seen | None:
    """Run the tour with its narration as notes on the screen; None when it failed, which is a note as well."""

    def narrate(text: str) -> None:
        app.notify(text, title="Tour", timeout=NOTE_S, markup=False)

    async def pause() -> None:
        await asyncio.sleep(AUDIENCE_PAUSE_S)

    while True:
        if app.snapshot is not None:
            break
        await asyncio.sleep(0.1)
    try:
        # What happens to the workers is on the screen itself: its lanes and events say it better than a note.
        seen = await walk(narrate=narrate, news=lambda _: None, pause=pause)
    except (TourFailed, Unfit, ConnectionError) as error:
        app.notify(str(error), title="Tour", severity="error", timeout=60, markup=False)
        return None
    narrate("That was the tour. The endpoint stays until you quit: look around.")
    app.notify(f"From another terminal: {HOME_VARIABLE}={home} gpudeck ps", title="Tour", timeout=60, markup=False)
    return seen
