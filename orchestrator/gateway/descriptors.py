"""How many connections the process may have: every one is a file descriptor, and one that is missing fails anywhere, as
a worker that seems dead or a ledger that cannot be opened."""

from __future__ import annotations

import errno
import logging
import resource
from typing import Final

RESERVE: Final = 128
"""For what is not a connection of the gateway: ledger, engine, control socket, logs."""
PER_CLIENT: Final = 2
"""A client's connection, and the one to a worker that its request may need."""
CONNECTIONS_MIN: Final = 16
SHORTAGE: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""Errors of connecting that are this host's own, not the worker's."""

log = logging.getLogger(__name__)


def make_room(connections: int) -> int:
    """Raise the soft limit of descriptors towards what `connections` clients need; returns how many there is room for,
    and logs it when that is less."""
    needed = PER_CLIENT * connections + RESERVE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return connections
    room = max(CONNECTIONS_MIN, (soft - RESERVE) // PER_CLIENT)
    log.warning("ulimit -n of %d allows %d client connections, not %d; %d would do", soft, room, connections, needed)
    return room
