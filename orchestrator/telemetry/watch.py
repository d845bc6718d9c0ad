"""Everything that watches, put together from the settings and opened and closed with the orchestrator."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from orchestrator.core.state import State
from orchestrator.gateway.hub import Hub
from orchestrator.gateway.observing import Observer
from orchestrator.settings import Settings
from orchestrator.telemetry.accesslog import AccessLog
from orchestrator.telemetry.exposition import render
from orchestrator.telemetry.metrics import Metrics
from orchestrator.telemetry.server import MetricsServer
from orchestrator.telemetry.tracing import Both, Tracer, open_tracer

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""How often workers are looked at between scrapes: a worker that was ready lives longer than that."""


class Recording:
    """Access log and spans: observes the gateway from before its first request. Raises TracingUnavailable."""

    def __init__(self, settings: Settings, access_log_file: Path, now: Callable[[], int], version: str) -> None:
        self._tracer: Tracer | None = None
        if settings.otel_endpoint is not None:
            self._tracer = open_tracer(settings.otel_endpoint, version)
        self._log = AccessLog(access_log_file, now) if settings.access_log else None

    @property
    def observer(self) -> Observer | None:
        """None when nobody wants to know anything."""
        if self._tracer is not None and self._log is not None:
            return Both(self._tracer, self._log)
        return self._tracer or self._log

    def attach(self, hub: Hub) -> None:
        hub.observer = self.observer

    async def close(self) -> None:
        """Write and send what is left, in a thread: the collector may not answer."""
        for part in (self._log, self._tracer):
            if part is not None:
                await asyncio.to_thread(part.close)


class Watch:
    """The metrics port, and a look at the workers between scrapes."""

    def __init__(self, metrics: Metrics, state: Callable[[], State], now: Callable[[], int]) -> None:
        self._metrics = metrics
        self._state = state
        self.server = MetricsServer(lambda: render(metrics.collect()), now)
        self._looking: asyncio.Task[None] | None = None

    async def start(self, port: int) -> None:
        """0 for none."""
        if port and await self.server.start(port):
            log.info("metrics on http://127.0.0.1:%d/metrics", self.server.port)
            self._looking = asyncio.get_running_loop().create_task(self._look_for_ever())

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
        await self.server.close()

    async def _look_for_ever(self) -> None:
        while True:
            workers = self._state().workers.values()
            self._metrics.watch((w.id, w.endpoint, w.intent_ns, w.ready_ns) for w in workers)
            await asyncio.sleep(LOOK_S)
