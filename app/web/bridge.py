"""One browser's dashboard: a child process that speaks the protocol of Textual's web driver over its pipes.

From the child, after the line `__GANGLION__`, come packets: a letter (D screen output, M a JSON object, P a file), four
bytes of length, big-endian, and that many bytes. To it go D (keys) and M (resize, blur, focus, quit).
"""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from aiohttp import WSCloseCode, WSMsgType, web

PRELUDE: Final = b"__GANGLION__\n"
PRELUDE_LINES_MAX: Final = 20
PACKET_BYTES_MAX: Final = 16 * 1024**2
CELLS_MAX: Final = 1_000
QUIT_S: Final = 5.0
"""For a dashboard whose page was closed to end by itself."""
FAREWELL_S: Final = 660.0
"""For one that was told to drain to see the end of it, which takes at most ten minutes."""
DRIVER: Final = {
    "TEXTUAL_DRIVER": "textual.drivers.web_driver:WebDriver",
    "TEXTUAL_COLOR_SYSTEM": "truecolor",
    "TERM": "xterm-256color",
    "GPUDECK_GRAPHICS": "blocks",
}
"""Added to the child's environment; the last because kitty's and Sixel's pictures are not for the browser, whatever
the terminal can do in which the server was started."""


class NotOurs(ValueError):
    """The browser's side sent something that our page never sends."""


def packet(letter: bytes, payload: bytes) -> bytes:
    """One packet for the child."""
    return letter + len(payload).to_bytes(4, "big") + payload


def size_of(width: object, height: object) -> tuple[int, int]:
    """Columns and rows, each 1..CELLS_MAX. Raises NotOurs."""
    if isinstance(width, int) and isinstance(height, int) and 1 <= width <= CELLS_MAX and 1 <= height <= CELLS_MAX:
        return width, height
    raise NotOurs(f"size: columns and rows are whole numbers of 1 to {CELLS_MAX}")


def from_browser(text: str) -> tuple[bytes | None, list[Any] | None]:
    """What the page's message means: a packet for the child, and an answer for the page. Raises NotOurs."""
    try:
        kind, *rest = json.loads(text)
    except (ValueError, TypeError) as error:
        raise NotOurs(f"not a message of the page: {error}") from error
    value = rest[0] if rest else None
    if kind == "stdin" and isinstance(value, str):
        return packet(b"D", value.encode("utf-8", errors="replace")), None
    if kind == "resize" and isinstance(value, dict):
        width, height = size_of(value.get("width"), value.get("height"))
        return _meta({"type": "resize", "width": width, "height": height}), None
    if kind in ("blur", "focus"):
        return _meta({"type": kind}), None
    if kind == "ping":
        return None, ["pong", value]
    raise NotOurs("not a message of the page: unknown kind")


def _meta(document: Mapping[str, object]) -> bytes:
    return packet(b"M", json.dumps(document).encode())


class Bridge:
    """Runs `command` for one WebSocket and carries everything between the two until either ends."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self._command = command
        self._environ = environ

    async def run(self, socket: web.WebSocketResponse, width: int, height: int) -> None:
        """Returns when the child is gone. Its stderr is ours: nothing it says is lost or kept in memory."""
        environ = {**self._environ, **DRIVER, "COLUMNS": str(width), "ROWS": str(height)}
        process = await asyncio.create_subprocess_exec(*self._command, stdin=PIPE, stdout=PIPE, env=environ)
        out = asyncio.create_task(_screen(process, socket), name="web-screen")
        keys = asyncio.create_task(_keys(process, socket), name="web-keys")
        try:
            await asyncio.wait((out, keys), return_when=asyncio.FIRST_COMPLETED)
            if keys.done() and isinstance(keys.exception(), NotOurs):
                await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=str(keys.exception()).encode()[:120])
        finally:
            ended_itself = out.done() and not out.cancelled() and out.exception() is None
            for task in (out, keys):
                task.cancel()
            try:
                outcomes = await asyncio.gather(out, keys, return_exceptions=True)
                await socket.close()
            finally:  # the page and the server may end at the same time, which cuts these short
                await bury(process, FAREWELL_S if ended_itself else QUIT_S)
        for outcome in outcomes:
            # A page that is closed shows as a broken connection here or there: that is how sessions end.
            if isinstance(outcome, Exception) and not isinstance(outcome, ConnectionError | NotOurs):
                raise outcome


async def _screen(process: Process, socket: web.WebSocketResponse) -> None:
    """Screen output to the browser until the child says that it ends. A browser that reads slowly slows it down."""
    stdout = process.stdout
    assert stdout is not None, "stdout is a pipe"
    for _ in range(PRELUDE_LINES_MAX):
        line = await stdout.readline()
        if line == PRELUDE:
            break
    else:
        line = b""
    if not line:
        await socket.send_bytes(b"gpudeck ended before it drew anything; the terminal of `gpudeck web` says why.\r\n")
        return
    with suppress(asyncio.IncompleteReadError):  # the end of the child is the end of the picture
        while True:
            letter = await stdout.readexactly(1)
            size = int.from_bytes(await stdout.readexactly(4), "big")
            if size > PACKET_BYTES_MAX:
                raise ConnectionError(f"a packet of {size} bytes from the dashboard, at most {PACKET_BYTES_MAX}")
            payload = await stdout.readexactly(size)
            if letter == b"D":
                await socket.send_bytes(payload)
            elif letter == b"M" and json.loads(payload).get("type") == "exit":
                return


async def _keys(process: Process, socket: web.WebSocketResponse) -> None:
    """What the browser sends to the child, until the page is closed. Raises NotOurs."""
    stdin = process.stdin
    assert stdin is not None, "stdin is a pipe"
    async for message in socket:
        if message.type is not WSMsgType.TEXT:
            raise NotOurs("not a message of the page: binary")
        for_child, for_page = from_browser(message.data)
        if for_child is not None:
            stdin.write(for_child)
            await stdin.drain()
        if for_page is not None:
            await socket.send_json(for_page)


async def bury(process: Process, patience_s: float) -> None:
    """Ask the child to end, then make it. Cut short (the server itself ends), make it at once: nobody else would."""
    assert process.stdin is not None, "stdin is a pipe"
    try:
        with suppress(ConnectionError):
            if process.returncode is None:
                process.stdin.write(_meta({"type": "quit"}))
                await process.stdin.drain()
        for act, grace_s in ((None, patience_s), (process.terminate, QUIT_S), (process.kill, None)):
            if act is not None and process.returncode is None:
                with suppress(ProcessLookupError):
                    act()
            with suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await process.wait()
                    break
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
