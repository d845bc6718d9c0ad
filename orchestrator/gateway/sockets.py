"""What the transports do not offer: asking a paused socket for its peer, and closing with a reset."""

from __future__ import annotations

import asyncio
import ctypes
import os
import select
import socket
import struct
from typing import Final

KEEPALIVE_S: Final = 30
_RESET: Final = struct.pack("ii", 1, 0)
_ATTACH_FILTER: Final = 26
_PASS_NOTHING: Final = struct.pack("HBBI", 0x06, 0, 0, 0)
"""One instruction of the kernel's packet filter: return, with no byte of the packet (filter.txt, BPF_RET)."""


def peer_address(transport: asyncio.BaseTransport) -> str:
    """The client's address without a zone, empty when it is not known."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]).partition("%")[0] if isinstance(peer, tuple) else ""


def peer_line(address: str) -> bytes:
    """The `x-forwarded-for` line of `address`."""
    return f"x-forwarded-for: {address}\r\n".encode("ascii", "replace") if address else b""


def notice_dead_peers(sock: socket.socket) -> None:
    """Have the kernel ask silent peers for a sign of life: set on a listening socket, its connections inherit it."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", KEEPALIVE_S), ("TCP_KEEPINTVL", KEEPALIVE_S // 3), ("TCP_KEEPCNT", 3)):
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def take_no_more(listener: socket.socket) -> None:
    """Have the kernel make no more connections for a listening socket; those that it has made wait to be accepted.
    Without this some would always be made between the last accept and the close, which resets them. Who knocks
    meanwhile hears nothing, knocks again after a second, and is refused by then. Raises OSError where the system has
    no such filter."""
    program = ctypes.create_string_buffer(_PASS_NOTHING, len(_PASS_NOTHING))
    count = len(_PASS_NOTHING) // 8
    listener.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("@HP", count, ctypes.addressof(program)))


def has_callers(listener: socket.socket) -> bool:
    """Whether a connection waits to be accepted."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    return bool(poll.poll(0))


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
