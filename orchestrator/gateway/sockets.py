"""What the transports do not offer: asking a paused socket for its peer, and closing with a reset."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import struct
from typing import Final

_RESET: Final = struct.pack("ii", 1, 0)


def peer_line(transport: asyncio.BaseTransport) -> bytes:
    """The `x-forwarded-for` line of the client's address, empty when it is not known."""
    peer = transport.get_extra_info("peername")
    if not isinstance(peer, tuple):
        return b""
    return f"x-forwarded-for: {str(peer[0]).partition('%')[0]}\r\n".encode("ascii", "replace")


def peer_gone(transport: asyncio.BaseTransport) -> bool:
    """Whether the peer has hung up, even with unread bytes before its end. False where the system cannot tell."""
    sock = transport.get_extra_info("socket")
    hangup = getattr(select, "POLLRDHUP", 0)
    if sock is None or not hangup or sock.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(sock.fileno(), hangup)
    return bool(poll.poll(0))


def reset_on_close(transport: asyncio.BaseTransport) -> None:
    """Make the coming close a reset: where a body ends with its connection, an orderly close would look complete."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return
    # A duplicate, because uvloop's socket object offers no setsockopt; the option belongs to the connection.
    with socket.socket(fileno=os.dup(sock.fileno())) as twin:
        twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
