"""The dashboard over a real orchestrator that is killed and started again: it says so, waits, and goes on by itself."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from app.app import GpudeckApp
from app.client import SocketClient
from app.present.condition import Kind
from app.widgets.panel import Panel
from orchestrator.contract.snapshot import WorkerState
from tests.app.pictures import screen_text
from tests.e2e.host import Host
from tests.waiting import until

AGE = re.compile(r"✖ disconnected (\d+) s")


@pytest.fixture
async def host(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Host]:
    async with Host(tmp_path_factory.mktemp("r"), "process").running() as running:
        yield running


def age_s(app: GpudeckApp) -> int | None:
    """The age that the screen gives to what it shows; None while it is live."""
    found = AGE.search(screen_text(app))
    return int(found[1]) if found else None


async def shows(app: GpudeckApp, *texts: str) -> None:
    """Wait until all of `texts` are on the screen."""
    try:
        await until(lambda: all(text in screen_text(app) for text in texts), 60, f"the screen to show {texts}")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{screen_text(app)}") from None


def kinds(app: GpudeckApp) -> set[Kind]:
    return {panel.condition.kind for panel in app.screen.query(Panel)}


async def test_a_killed_orchestrator_leaves_an_ageing_picture_that_comes_to_life_without_a_key(host: Host) -> None:
    await host.create("1-1")
    [before] = (await host.until_ready(1)).workers
    client = SocketClient(host.places.socket_file)
    app = GpudeckApp(client)
    async with app.run_test(size=(120, 40)) as pilot:
        await shows(app, "● serving", "● live")
        await host.kill()
        await until(lambda: kinds(app) == {Kind.STALE}, 60, "every panel to be stale")
        await shows(app, "✖ disconnected", "Connection lost: ", "last known", "● serving")
        older = age_s(app)
        assert older is not None
        await until(lambda: (age_s(app) or 0) > older, 60, "the age to grow")

        await host.start()
        assert host.process is not None
        pid = host.process.pid
        await until(lambda: app.snapshot is not None and app.snapshot.pid == pid, 60, "a picture of the new one")
        await until(lambda: kinds(app) == {Kind.LIVE}, 60, "every panel to be live")
        await until(lambda: "● live" in screen_text(app) and "Connection lost" not in screen_text(app), 60, "no marks")

        def adopted() -> bool:
            assert app.snapshot is not None
            [worker] = app.snapshot.endpoints[0].workers
            assert (worker.id, worker.engine_ref) == (before.id, before.engine_ref)
            return worker.state is WorkerState.READY

        await until(adopted, 60, "the worker of before, ready")
        await pilot.press("plus")  # commands go on a connection of their own, which broke too
        await until(lambda: app.snapshot and app.snapshot.endpoints[0].spec.maximum == 2, 60, "the new maximum")
    await client.aclose()
