"""The web server: a page for those who hold the token, and a dashboard for each page."""

from __future__ import annotations

import asyncio
import importlib.util
import socket as sockets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

from app.web.bridge import Bridge, NotOurs, size_of
from app.web.guard import Guard

BROWSER_TERMINAL: Final = "textual_serve"
"""The package whose static files are the browser's side."""
MESSAGE_BYTES_MAX: Final = 1024**2
HEARTBEAT_S: Final = 20.0
"""A page that answers no ping for half of this is gone, and its dashboard with it."""
HERE: Final = Path(__file__).parent
PAGE_FILES: Final = ("page.css", "page.js")
"""Beside this file; nothing else of this folder is served."""
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "font-src 'self'; img-src 'self' data:; connect-src {socket}; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Style elements are inserted by the terminal in the page; scripts come from here alone."""
UNKNOWN: Final = "gpudeck: open the address that `gpudeck web` printed, with its token.\n"
FULL: Final = "gpudeck: {count} dashboards are open, as many as --sessions allows; close one of them first.\n"


class TerminalMissing(RuntimeError):
    """The browser's terminal is not installed."""


def browser_files() -> Path:
    """Folder of the browser's terminal. Raises TerminalMissing."""
    found = importlib.util.find_spec(BROWSER_TERMINAL)
    folders = list(found.submodule_search_locations or ()) if found else []
    if not folders:
        raise TerminalMissing("the browser's terminal is not installed")
    return Path(folders[0]) / "static"


@dataclass(frozen=True, slots=True)
class WebServer:
    """`command` is run for each page; at most `sessions_max` at once."""

    guard: Guard
    command: Sequence[str]
    environ: Mapping[str, str]
    sessions_max: int
    files: Path

    def application(self) -> web.Application:
        """The aiohttp application. Nothing in it answers anyone whom the guard does not know."""
        app = web.Application(middlewares=[self._only_known], client_max_size=1_024)
        app[OPEN] = set()
        app.router.add_get("/", self._page)
        for name in PAGE_FILES:
            app.router.add_get(f"/{name}", _page_file)
        app.router.add_get("/favicon.ico", _no_icon)
        app.router.add_get("/ws", self._session)
        app.router.add_static("/static", self.files)
        app.on_shutdown.append(_close_sessions)
        return app

    @web.middleware
    async def _only_known(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        host = request.headers.get("Host")
        if not self.guard.knows_host(host):
            response: web.StreamResponse = web.Response(status=403, text="gpudeck: wrong host name.\n")
        elif request.path == "/" and "token" in request.query:
            response = self._exchange(request.query["token"])
        elif not self.guard.knows_ticket(request.cookies.get(self.guard.cookie)):
            response = web.Response(status=401, text=UNKNOWN)
        else:
            try:
                response = await handler(request)
            except web.HTTPException as error:  # aiohttp's own 404 and 405
                response = web.Response(status=error.status, text=f"gpudeck: {error.reason}.\n")
        if not response.prepared:
            for name, value in HEADERS.items():
                response.headers[name] = value.replace("{socket}", f"ws://{host}")
        return response

    def _exchange(self, token: str) -> web.Response:
        """The token for a cookie, and out of the address line: what stands there ends up in histories."""
        if not self.guard.knows_token(token):
            return web.Response(status=401, text=UNKNOWN)
        response = web.Response(status=303, headers={"Location": "/"})
        response.set_cookie(self.guard.cookie, self.guard.ticket, httponly=True, samesite="Strict")
        return response

    async def _page(self, request: web.Request) -> web.Response:
        if len(request.app[OPEN]) >= self.sessions_max:
            return web.Response(status=503, text=FULL.format(count=self.sessions_max))
        page = (HERE / "page.html").read_text(encoding="utf-8")
        address = f"ws://{request.headers['Host']}/ws"
        return web.Response(text=page.replace("{socket}", address), content_type="text/html")

    async def _session(self, request: web.Request) -> web.StreamResponse:
        """One dashboard, for as long as the page is open."""
        if not self.guard.knows_origin(request.headers.get("Origin"), request.headers.get("Host")):
            return web.Response(status=403, text="gpudeck: opened by a page that is not ours.\n")
        opened = request.app[OPEN]
        if len(opened) >= self.sessions_max:
            return web.Response(status=503, text=FULL.format(count=self.sessions_max))
        try:
            width, height = size_of(int(request.query.get("width", "80")), int(request.query.get("height", "24")))
        except (ValueError, NotOurs) as error:
            return web.Response(status=400, text=f"gpudeck: {error}\n")
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=MESSAGE_BYTES_MAX)
        opened.add(socket)
        try:
            await socket.prepare(request)
            await Bridge(self.command, self.environ).run(socket, width, height)
        finally:
            opened.discard(socket)
        return socket


OPEN: Final[web.AppKey[set[web.WebSocketResponse]]] = web.AppKey("open", set)


async def _no_icon(request: web.Request) -> web.Response:
    """A browser asks after a page that could not say there is none: the refusal, which is plain text."""
    return web.Response(status=204)


async def _page_file(request: web.Request) -> web.FileResponse:
    return web.FileResponse(HERE / request.path.removeprefix("/"))


async def _close_sessions(app: web.Application) -> None:
    """The end of the server: every page learns of it, and every dashboard ends."""
    opened = app[OPEN]
    for socket in tuple(opened):  # each leaves the set as it closes
        await socket.close()


async def serve(server: WebServer, listener: sockets.socket, ended: asyncio.Event) -> None:
    """Serve on `listener` until `ended` is set."""
    runner = web.AppRunner(server.application(), access_log=None, handler_cancellation=True, shutdown_timeout=10.0)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        await ended.wait()
    finally:
        await runner.cleanup()
