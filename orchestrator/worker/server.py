"""Everything the two models have in common: listening, health, access lines, problems, a graceful end."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from orchestrator.worker.problem import Problem

LOG: Final = logging.getLogger("worker")
HEALTH_PATH: Final = "/health"
PATH_SHOWN_MAX: Final = 120


class CannotListen(Exception):
    """The address is taken, not ours, or not allowed."""


class Served(Protocol):
    """A model as the server sees it."""

    name: str
    cancels: bool
    """True when a handler may be cancelled once its client has gone."""
    healthy: bool
    """Set by the model; False after loading makes /health answer 503 again."""

    async def load(self) -> str:
        """Make ready without blocking the loop; returns a line for the log. What it raises ends the program."""
        ...

    def describe(self) -> dict[str, object]: ...

    def routes(self) -> list[web.RouteDef]: ...

    def close(self) -> None: ...


class AccessLine(AbstractAccessLogger):
    """One line per request: method, path, status, bytes, milliseconds. Good health probes are left out: at one a
    second they would push everything else out of the last hundred lines."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        if request.path == HEALTH_PATH and response.status == 200:
            return
        path = ascii(request.path_qs)[1:-1]
        if len(path) > PATH_SHOWN_MAX:
            path = f"{path[:PATH_SHOWN_MAX]}..."
        self.logger.info(
            "%s %s %d %dB %.1fms", request.method, path, response.status, response.body_length, time * 1000
        )


class Server:
    """One model behind HTTP. It listens at once; /health is 503 until the model has loaded."""

    def __init__(self, model: Served, host: str, port: int, grace_s: float) -> None:
        self._model = model
        self._host = host
        self._port = port
        self._grace_s = grace_s
        self._loaded = False

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then finish what is in flight within the grace.

        Raises CannotListen when the address cannot be bound, and whatever loading the model raised.
        """
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        runner = web.AppRunner(
            self._application(),
            handle_signals=False,
            access_log=LOG,
            access_log_class=AccessLine,
            shutdown_timeout=self._grace_s,
            handler_cancellation=self._model.cancels,
            auto_decompress=False,
        )
        await runner.setup()
        stopped = asyncio.ensure_future(stop.wait())
        loading: asyncio.Future[str] = loop.create_future()
        try:
            await self._listen(runner)
            loading = asyncio.ensure_future(self._model.load())
            await asyncio.wait({loading, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if loading.done():
                detail = loading.result()
                self._loaded = True
                LOG.info("%s: ready after %.2f s (%s)", self._model.name, loop.time() - started_s, detail)
                await stopped
            LOG.info("%s: stopping, requests in flight get %g s", self._model.name, self._grace_s)
        finally:
            stopped.cancel()
            loading.cancel()
            await runner.cleanup()
            self._model.close()
        LOG.info("%s: stopped", self._model.name)

    async def _listen(self, runner: web.AppRunner) -> None:
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError as error:
            raise CannotListen(f"cannot listen on {self._host} port {self._port}: {error.strerror}") from error
        host, port = runner.addresses[0][:2]
        shown = f"[{host}]" if ":" in str(host) else host
        LOG.info("%s: listening on http://%s:%d", self._model.name, shown, port)

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._guard])
        application.router.add_get(HEALTH_PATH, self._health)
        application.router.add_get("/", self._about)
        application.router.add_routes(self._model.routes())
        return application

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            if not self._loaded and request.path not in (HEALTH_PATH, "/"):
                raise Problem(503, "loading", "the model is still loading; try again shortly")
            return await handler(request)
        except Problem as problem:
            return problem.response()
        except MemoryError:
            LOG.error("%s: out of memory", self._model.name)
            return Problem(503, "memory", "not enough memory for this request; ask for less").response()
        except web.HTTPException as refusal:
            if refusal.status < 400:
                raise
            code = refusal.reason.lower().replace(" ", "_")
            response = Problem(refusal.status, code, f"{request.method} {refusal.reason}").response()
            if "Allow" in refusal.headers:
                response.headers["Allow"] = refusal.headers["Allow"]
            return response

    async def _health(self, request: web.Request) -> web.Response:
        if not self._loaded:
            return web.json_response({"status": "loading"}, status=503)
        if not self._model.healthy:
            return web.json_response({"status": "unhealthy"}, status=503)
        return web.json_response({"status": "ready"})

    async def _about(self, request: web.Request) -> web.Response:
        return web.json_response({"model": self._model.name, "ready": self._loaded, **self._model.describe()})
