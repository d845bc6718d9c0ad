"""The end of a dashboard that a page had."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest
from aiohttp import ClientSession, web

from app.spawn import process_runs
from app.web.bridge import Bridge, bury
from tests.ports import free_port
from tests.waiting import until

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)


async def test_a_dashboard_does_not_outlive_a_server_that_ends_while_it_waits_for_it() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", STUBBORN, stdin=PIPE, stdout=PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"up\n"
    burial = asyncio.create_task(bury(process, patience_s=60))
    done, _ = await asyncio.wait({burial}, timeout=0.05)
    assert not done, "it waits for the child to end by itself"
    burial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await burial
    async with asyncio.timeout(30):
        assert await process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("turns", [1, 2, 3, 5])
async def test_a_dashboard_does_not_outlive_a_page_and_a_server_that_end_together(tmp_path: Path, turns: int) -> None:
    """aiohttp cancels the handler for the page's end, and again for its own: the second comes while the first is being
    seen to."""
    file, running = tmp_path / "pid", list[asyncio.Task[None]]()
    script = f"import os, pathlib, time; pathlib.Path({str(file)!r}).write_text(str(os.getpid())); time.sleep(600)"

    async def session(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        running.append(asyncio.create_task(Bridge([sys.executable, "-c", script], {}).run(socket, 80, 24)))
        await asyncio.wait(running)
        return socket

    server = web.Application()
    server.router.add_get("/ws", session)
    runner, port = web.AppRunner(server), free_port()
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        async with ClientSession() as http, http.ws_connect(f"http://127.0.0.1:{port}/ws"):
            await until(lambda: file.exists() and file.read_text(), what="the dashboard's process")
            running[0].cancel()
            for _ in range(turns):
                await asyncio.sleep(0)
            running[0].cancel()
            with pytest.raises(asyncio.CancelledError):
                await running[0]
    finally:
        await runner.cleanup()
    await until(lambda: not process_runs(int(file.read_text())), what="the end of the dashboard")
