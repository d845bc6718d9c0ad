"""The dashboard, opened by `gpudeck` on a terminal."""

from __future__ import annotations

from contextlib import suppress

from app.cli.hangup import HangupGuard
from app.cli.lifecycle import shut_down
from app.cli.output import say
from app.cli.session import complete, here
from app.spawn import attach, ensure_orchestrator


def open_dashboard(*, readonly: bool = False) -> None:
    """Attach to the orchestrator or start one, run the TUI, and do what its quit dialog decided."""
    complete(lambda: _dashboard(readonly))


async def _dashboard(readonly: bool) -> None:
    from app.app import GpudeckApp
    from app.preferences import read_preferences
    from app.widgets.picture import prepare

    prepare()
    places = here()
    client = await attach(places)
    if client is None:
        say("starting the orchestrator …")
        client = await ensure_orchestrator(places)
    try:
        with HangupGuard():
            app = GpudeckApp(
                client, readonly=readonly, loadtests=places.loadtests_dir, preferences=read_preferences(places)
            )
            decision = await app.run_async()
        if decision == "drain":
            say("draining …")
            with suppress(ConnectionError):  # it agreed in the dialog and may have ended before this is asked
                await shut_down(client, "drain", timeout_s=600)
        elif decision == "leave":
            say("gpudeck keeps running: `gpudeck` opens the dashboard again, `gpudeck down` stops it")
    finally:
        await client.aclose()
