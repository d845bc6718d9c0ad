"""Ports for tests that must name one before anybody listens on it."""

from __future__ import annotations

import random
import socket
from pathlib import Path

FIRST = 10_000
RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")

_CHANCE = random.SystemRandom()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses, and that nobody gets by chance until the test does.

    The kernel gives away ports of its own range (32,768 and up) all the time: to every connection, to who listens on
    port 0, to containers. One of those that is free now may be taken a moment later, so this one lies below.
    """
    end = int(RANGE.read_text().split()[0]) if RANGE.exists() else 32_768
    while True:
        port = _CHANCE.randrange(FIRST, end)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
