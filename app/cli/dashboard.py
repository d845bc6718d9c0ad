"""The dashboard, opened by `gpudeck` on a terminal."""

from __future__ import annotations

import gc
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from app.cli.hangup import full_screen
from app.cli.lifecycle import shut_down
from app.cli.output import say
from app.cli.session import complete, here
from app.client import SocketClient
from app.spawn import attach, ensure_orchestrator

if TYPE_CHECKING:
    from app.app import GpudeckApp

COLLECTIONS: Final = (700, 10, 100)
"""gc.set_threshold: Python's own, but for full collections, which are a tenth as many."""


def open_dashboard(*, readonly: bool = False) -> None:
    """Attach to the orchestrator or start one, run the TUI, and do what its quit dialog decided."""
    complete(lambda: _dashboard(readonly))


def dashboard_app(
    client: SocketClient, *, home: Path | None = None, loadtests: Path | None = None, readonly: bool = False
) -> GpudeckApp:
    """The TUI with this user's theme, keys and motion, which count in a demo and a lab too. Call it on the terminal
    that it will run on.

    `home` is the GPUDECK_HOME of the orchestrator behind `client`, None means the user's own. Raises CliError for an
    unusable GPUDECK_HOME.
    """
    from app.app import GpudeckApp
    from app.preferences import read_preferences
    from app.reporting import reporter
    from app.widgets.picture import prepare

    prepare()
    # A full collection takes 0.1 s, in which no key is answered, and comes every second or two while snapshots do. What
    # is loaded by now stays for ever, and snapshots hold no cycles: less of it, and more seldom, is enough.
    gc.freeze()
    gc.set_threshold(*COLLECTIONS)
    preferences = read_preferences(here())
    return GpudeckApp(client, readonly=readonly, loadtests=loadtests, preferences=preferences, reporter=reporter(home))


async def _dashboard(readonly: bool) -> None:
    places = here()
    client = await attach(places)
    if client is None:
        say("starting the orchestrator …")
        client = await ensure_orchestrator(places)
    try:
        app = dashboard_app(client, loadtests=places.loadtests_dir, readonly=readonly)
        with full_screen(app.leave):
            decision = await app.run_async()
        if decision == "drain":
            say("draining …")
            with suppress(ConnectionError):  # it agreed in the dialog and may have ended before this is asked
                await shut_down(client, "drain", timeout_s=600)
        elif decision == "leave":
            say("gpudeck keeps running: `gpudeck` opens the dashboard again, `gpudeck down` stops it")
    finally:
        await client.aclose()
