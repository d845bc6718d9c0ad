"""Driving the app in a test: over a scripted client, with every message it posts recorded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC
from typing import Any

from textual.notifications import Notify
from textual.pilot import Pilot

from app.app import GpudeckApp
from app.messages import Dialog, DialogWanted
from app.screens.dashboard import DashboardScreen
from app.screens.dialogs import DIALOGS
from app.widgets.endpoint_table import EndpointTable
from orchestrator.contract.snapshot import Snapshot
from tests.app.fakes import FakeClient
from tests.waiting import until


@asynccontextmanager
async def running(
    *snapshots: Snapshot, size: tuple[int, int] = (120, 40), **more: Any
) -> AsyncIterator[tuple[GpudeckApp, FakeClient, Pilot[Any]]]:
    """The app on a dashboard that has drawn the newest of `snapshots`."""
    client = FakeClient(*snapshots)
    app = GpudeckApp(client, zone=UTC, tick_s=3_600, **more)
    posted: list[Any] = []
    # What dialogs look like and do is tested elsewhere: here it counts that the right one is asked for.
    dialogs = dict(DIALOGS)
    DIALOGS.clear()
    try:
        async with app.run_test(size=size, message_hook=posted.append) as pilot:
            await until(lambda: isinstance(app.screen, DashboardScreen))
            if snapshots:
                await until(lambda: app.snapshot is not None and app.snapshot.seq == snapshots[-1].seq)
            await pilot.pause()
            app.posted = posted  # type: ignore[attr-defined]
            yield app, client, pilot
    finally:
        DIALOGS.update(dialogs)


def dialogs_wanted(app: GpudeckApp) -> list[tuple[Dialog, str | None]]:
    posted: list[Any] = app.posted  # type: ignore[attr-defined]
    unique = {id(message): message for message in posted if isinstance(message, DialogWanted)}
    return [(message.dialog, message.slug) for message in unique.values()]


def notices(app: GpudeckApp) -> str:
    """Titles and texts of the toasts there were: in a test they are not drawn."""
    posted: list[Any] = app.posted  # type: ignore[attr-defined]
    toasts = [message.notification for message in posted if isinstance(message, Notify)]
    return "\n".join(f"{toast.title}: {toast.message}" for toast in toasts)


def chosen(app: GpudeckApp) -> str | None:
    return app.screen.query_one(EndpointTable).cursor
