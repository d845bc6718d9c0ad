"""`GET /metrics` on a loopback port of its own: scrapes share no limit, queue or connection with requests.

Nothing in it is secret, and nothing may be done through it; still a web page must not read it by DNS rebinding, so the
Host is checked as the gateway does.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable
from typing import Final

from orchestrator.gateway.answers import Refusal, problem_body, problem_fields, render
from orchestrator.gateway.browser import Doorman
from orchestrator.gateway.head import scan_request
from orchestrator.gateway.limits import Access, Limits
from orchestrator.telemetry.exposition import CONTENT_TYPE

log = logging.getLogger(__name__)

HOST: Final = "127.0.0.1"
SCRAPE_S: Final = 10.0
"""From accept to the last byte taken. A scraper that stops reading would hold its page and its descriptor for good."""
SCRAPES_MAX: Final = 32
"""At a time; the oldest makes way. A connection is a descriptor, and the gateway needs those for requests."""
_ID: Final = b"metrics"


class MetricsServer:
    """`page` renders the exposition; it runs in the event loop, once per scrape."""

    def __init__(self, page: Callable[[], bytes], now: Callable[[], int]) -> None:
        self._page = page
        self._now = now
        self._doorman = Doorman(Access())
        self._limits = Limits()
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.StreamWriter, None] = {}
        self.port = 0

    async def start(self, port: int) -> bool:
        """Listen on the loopback `port`; False, with a warning in the log, when it is taken: serving goes on."""
        try:
            self._server = await asyncio.start_server(
                self._serve, HOST, port, limit=self._limits.head_bytes, reuse_address=True
            )
        except OSError as error:
            reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            log.warning(
                "no metrics: port %d on %s %s; choose another one with metrics_port, or 0 for none", port, HOST, reason
            )
            return False
        self.port = int(self._server.sockets[0].getsockname()[1])
        return True

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request a connection: a scraper comes every fifteen seconds."""
        self._open[writer] = None
        if len(self._open) > SCRAPES_MAX:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        try:
            async with asyncio.timeout(SCRAPE_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(head[:-4]))
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            log.debug("a scrape broke off")
        finally:
            self._open.pop(writer, None)
            writer.transport.abort()

    def _answer(self, raw: bytes) -> bytes:
        head_only = raw.startswith(b"HEAD ")
        try:
            head = scan_request(raw, self._limits.fields, self._limits.target_bytes)
            self._doorman.check(head)
            if head.target.partition(b"?")[0] != b"/metrics":
                raise Refusal(404, "no_such_path", "Metrics are at /metrics.")
            if head.method not in (b"GET", b"HEAD"):
                raise Refusal(405, "method_refused", "Metrics are read with GET.", fields=(("allow", "GET, HEAD"),))
        except Refusal as refusal:
            return self._render(refusal.status, problem_fields(refusal), problem_body(refusal, _ID), head_only)
        return self._render(200, [("content-type", CONTENT_TYPE)], self._page(), head_only)

    def _render(self, status: int, fields: list[tuple[str, str]], body: bytes, head_only: bool) -> bytes:
        return render(
            status, fields, body, _ID, connection=b"connection: close\r\n", head_only=head_only, now_ns=self._now()
        )
