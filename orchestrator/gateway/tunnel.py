"""A request that has become a WebSocket: bytes pass both ways as they are, each side no faster than the other reads.

It holds its worker like any request, from dispatch until both sides have ended: scaling, draining and idle time-outs
see it in flight. The execution time-out does not cut it, for it has answered; a limit on silence does. A side that ends
is ended for the other one too, in its own time: TCP's half-close passes through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.contract.base import SECOND_NS
from orchestrator.gateway.answers import Refusal
from orchestrator.gateway.websocket import AWAY_TO_CLIENT, AWAY_TO_WORKER, FrameCounter

if TYPE_CHECKING:
    from orchestrator.gateway.exchange import Exchange
    from orchestrator.gateway.inbound import ClientConnection
    from orchestrator.gateway.upstream import WorkerConnection


class Tunnel:
    """The client connection's Task and the worker connection's tunnel. Ends once, through `_over`."""

    __slots__ = (
        "_client", "_client_ended", "_exchange", "_from_client", "_from_worker", "_heard_ns", "_since_ns", "_worker",
        "_worker_ended", "arrived_ns", "dispatched_ns",
    )  # fmt: skip

    def __init__(self, client: ClientConnection, worker: WorkerConnection, exchange: Exchange, now_ns: int) -> None:
        self._client = client
        self._worker = worker
        self._exchange = exchange
        self._since_ns = now_ns
        self._heard_ns = now_ns
        self._from_client = FrameCounter()
        self._from_worker = FrameCounter()
        self._client_ended = False
        self._worker_ended = False
        self.arrived_ns = exchange.arrived_ns
        self.dispatched_ns = exchange.dispatched_ns

    # --- the client's side

    def body(self, span: bytes) -> None:
        self._heard_ns = self._client.hub.coarse_ns
        self._from_client.feed(span)
        self._worker.send(span)

    def body_end(self) -> None:
        """The client sends no more."""
        self._heard_ns = self._client.hub.coarse_ns
        self._client_ended = True
        if self._worker_ended:
            self._finish(failed=False)
        else:
            self._worker.end_writing()

    def client_full(self, full: bool) -> None:
        self._worker.hold(full)

    def client_gone(self) -> None:
        self._worker.drop()
        self._over(failed=False)

    # --- the worker's side

    def reply(self, data: bytes) -> None:
        self._heard_ns = self._client.hub.coarse_ns
        self._from_worker.feed(data)
        self._client.write(data)

    def reply_end(self) -> None:
        """The worker sends no more."""
        self._heard_ns = self._client.hub.coarse_ns
        self._worker_ended = True
        if self._client_ended:
            self._finish(failed=False)
        else:
            self._client.end_writing()

    def worker_full(self, full: bool) -> None:
        self._client.hold_for_worker(full)

    def worker_lost(self) -> None:
        """Its connection is closed: in good order if its end had come before."""
        self._over(failed=not self._worker_ended)
        if self._worker_ended:
            self._client.close()
        else:
            self._client.abort()

    # --- ends of our own

    def cut(self, refusal: Refusal, *, failed: bool) -> None:
        """The gateway stops."""
        self._send_away()

    def sweep(self, now_ns: int) -> None:
        limits = self._client.hub.limits
        ending = self._client_ended or self._worker_ended
        limit_s = limits.websocket_close_s if ending else limits.websocket_idle_s
        if now_ns - self._heard_ns > limit_s * SECOND_NS:
            self._send_away()

    def _send_away(self) -> None:
        """Tell both sides that we go, in their own protocol, where that can be done between two frames. A message cut
        in its middle must not look like the end of anything."""
        if not (self._from_worker.between and self._from_client.between):
            self._worker.drop()
            self._over(failed=False)
            self._client.abort()
            return
        if not self._from_worker.closed and not self._worker_ended:
            self._client.write(AWAY_TO_CLIENT)
        if not self._from_client.closed and not self._client_ended:
            self._worker.send(AWAY_TO_WORKER)
        self._finish(failed=False)

    def _finish(self, *, failed: bool) -> None:
        self._over(failed=failed)
        self._worker.close()
        self._client.close()

    def _over(self, *, failed: bool) -> None:
        self._worker.tunnel = None
        self._exchange.tunnel_over(self._client.hub.now(), self._since_ns, failed=failed)
