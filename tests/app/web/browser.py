"""A real Chromium, driven over the DevTools protocol: open a page, press keys, look at it."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.waiting import until

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-extensions", "--mute-audio",
    "--remote-debugging-port=0", "--window-size=1300,900",
)  # fmt: skip


PATIENCE_S = 90.0


class Declined(Exception):
    """Chromium answered a call with an error."""


class Page:
    """One tab. `statuses` has the HTTP status of every answer it got, by address."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.statuses: dict[str, int] = {}
        self.received: list[str] = []
        """Payloads of WebSocket frames that came in: the screen output of the dashboard."""
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self._socket:
            event = json.loads(message.data)
            if "id" in event:
                answer = self._waiting.pop(event["id"])
                if not answer.done():
                    answer.set_result(event)
            elif event["method"] == "Network.responseReceived":
                response = event["params"]["response"]
                self.statuses[response["url"]] = response["status"]
            elif event["method"] == "Network.webSocketFrameReceived":
                frame = event["params"]["response"]
                data = frame["payloadData"]
                self.received.append(
                    base64.b64decode(data).decode("utf-8", "replace") if frame["opcode"] == 2 else data
                )

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        got = await asyncio.wait_for(answer, PATIENCE_S)
        if "error" in got:
            raise Declined(got["error"])
        return got["result"]

    async def open(self, address: str) -> None:
        for domain in ("Page", "Network", "Runtime"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=address)

    async def evaluate(self, expression: str) -> Any:
        """Its value; None for one that throws. Raises Declined between two pages, where there is nothing to ask."""
        return (await self.call("Runtime.evaluate", expression=expression))["result"].get("value")

    async def becomes(self, expression: str) -> None:
        """Wait until the page that is open then says that `expression` is true."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    if await self.evaluate(expression) is True:
                        return
                except Declined:
                    await asyncio.sleep(0)

    async def press(self, text: str) -> None:
        for kind in ("keyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, text=text if kind == "keyDown" else "", key=text)

    @property
    def output(self) -> str:
        return "".join(self.received)

    async def picture(self, file: Path) -> None:
        file.write_bytes(base64.b64decode((await self.call("Page.captureScreenshot"))["data"]))

    async def close(self) -> None:
        await self._socket.close()
        await self._reader


@asynccontextmanager
async def browser() -> AsyncIterator[Page]:
    """A new Chromium with an empty profile and one tab."""
    assert PROGRAM is not None
    with tempfile.TemporaryDirectory(prefix="gd-chromium-", ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            PROGRAM, *FLAGS, f"--user-data-dir={profile}", "about:blank",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            told = Path(profile) / "DevToolsActivePort"
            await until(lambda: told.exists() and told.read_text().count("\n") >= 1, PATIENCE_S, "Chromium to listen")
            port = int(told.read_text().splitlines()[0])
            async with aiohttp.ClientSession(trust_env=False) as http:
                page = Page(await http.ws_connect(await _first_tab(http, port), max_msg_size=0))
                yield page
                await page.close()
        finally:
            process.terminate()
            await process.wait()


async def _first_tab(http: aiohttp.ClientSession, port: int) -> str:
    """Address of the first tab's debugger. Chromium listens before it has one."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            async with http.get(f"http://127.0.0.1:{port}/json/list") as answer:
                for tab in await answer.json():
                    if tab["type"] == "page":
                        return str(tab["webSocketDebuggerUrl"])
