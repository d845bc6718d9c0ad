"""The transport's side of a client's connection: writing, back-pressure, and the reasons not to read from it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from orchestrator.contract.base import SECOND_NS
from orchestrator.gateway import sockets
from orchestrator.gateway.states import HOLD_BUFFER, HOLD_WORKER

if TYPE_CHECKING:
    from orchestrator.gateway.hub import Hub


class Channel(asyncio.Protocol):
    """What a client's connection can do without knowing anything of HTTP."""

    __slots__ = ("_holds", "_since_ns", "_taken_ns", "_unsent", "full", "hub", "peer", "peer_line", "transport")

    transport: asyncio.Transport

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.peer = b""
        """What stands for the client's address (peers.py)."""
        self.peer_line = b""
        """The `x-forwarded-for` line that names it."""
        self.full = False
        """The transport asked us to stop writing."""
        self._unsent = 0
        """Bytes that waited for the client at the last sweep,"""
        self._taken_ns = 0
        """and when that was another number than before."""
        self._holds = 0
        self._since_ns = hub.now()
        """Beginning of what the current state waits for: a head, body bytes, the end of a linger."""

    def write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    def end_writing(self) -> None:
        """Half-close: the client sees an end and may still send."""
        if not self.transport.is_closing():
            self.transport.write_eof()

    def hold_for_buffer(self, held: bool) -> None:
        self._hold(HOLD_BUFFER, held)

    def hold_for_worker(self, held: bool) -> None:
        self._hold(HOLD_WORKER, held)

    def _hold(self, reason: int, held: bool) -> None:
        before = self._holds
        self._holds = before | reason if held else before & ~reason
        if bool(before) != bool(self._holds) and not self.transport.is_closing():
            if self._holds:
                self.transport.pause_reading()
            else:
                self._since_ns = self.hub.coarse_ns
                self.transport.resume_reading()

    def _release_holds(self) -> None:
        if self._holds:
            self._holds = 0
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def _stalled(self, now_ns: int) -> bool:
        """The client has taken nothing of its reply for too long. However slowly it takes it, it gets all of it."""
        unsent = self.transport.get_write_buffer_size()
        if unsent != self._unsent:
            self._unsent, self._taken_ns = unsent, now_ns
        return bool(unsent) and now_ns - self._taken_ns > self.hub.limits.send_stall_s * SECOND_NS

    def _gone_unread(self) -> bool:
        """The client left while it was not being read: the event loop cannot tell."""
        return bool(self._holds) and sockets.peer_gone(self.transport)
