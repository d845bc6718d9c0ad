"""The endpoint's own traffic in `metrics.db`, request by request, so that it can be replayed under other settings.

A block holds the requests of one minute of one endpoint: when each came and how long its worker had it, in tenths of a
millisecond, compressed. At most `core.recorder.REQUESTS_A_MINUTE` are kept of a minute, each for KEPT_NS, and of
an endpoint about the newest REQUESTS_MAX.
"""

from __future__ import annotations

import sqlite3
import zlib
from array import array
from collections.abc import Iterable
from typing import Final

from orchestrator.contract.base import DAY_NS
from orchestrator.core.history import Requests

KEPT_NS: Final = 30 * DAY_NS
REQUESTS_MAX: Final = 1_000_000
UNIT_NS: Final = 100_000
_LIMIT: Final = (1 << 32) - 1

SCHEMA: Final = """
CREATE TABLE requests (
    endpoint INTEGER NOT NULL REFERENCES endpoint (id),
    first_ns INTEGER NOT NULL,
    count INTEGER NOT NULL,
    missed INTEGER NOT NULL,
    block BLOB NOT NULL,
    PRIMARY KEY (endpoint, first_ns)
) STRICT;
CREATE INDEX requests_count ON requests (endpoint, first_ns, count);
"""


def add_requests(connection: sqlite3.Connection, blocks: Iterable[tuple[str, Requests]]) -> None:
    """Append a block for each endpoint, and forget what is too old. Inside the caller's transaction."""
    for slug, requests in blocks:
        if not requests.arrived_ns:
            continue
        connection.execute("INSERT OR IGNORE INTO endpoint (slug) VALUES (?)", (slug,))
        (endpoint,) = connection.execute("SELECT id FROM endpoint WHERE slug = ?", (slug,)).fetchone()
        first_ns = min(requests.arrived_ns)
        connection.execute(
            "INSERT OR REPLACE INTO requests (endpoint, first_ns, count, missed, block) VALUES (?, ?, ?, ?, ?)",
            (endpoint, first_ns, len(requests.arrived_ns), requests.missed, pack(requests)),
        )
        connection.execute(
            "DELETE FROM requests WHERE endpoint = :endpoint AND first_ns < max(:oldest_ns, coalesce(("
            " SELECT first_ns FROM (SELECT first_ns, sum(count) OVER (ORDER BY first_ns DESC) AS total FROM requests"
            " WHERE endpoint = :endpoint) WHERE total >= :most ORDER BY first_ns DESC LIMIT 1), 0))",
            {"endpoint": endpoint, "oldest_ns": first_ns - KEPT_NS, "most": REQUESTS_MAX},
        )


def read_requests(connection: sqlite3.Connection, slug: str, since_ns: int, newest: int) -> Requests:
    """What came from `since_ns` on, at most about the `newest` requests, in order of arrival."""
    found = Requests([], [], 0)
    rows = connection.execute(
        "SELECT first_ns, missed, block FROM requests WHERE endpoint = (SELECT id FROM endpoint WHERE slug = ?)"
        " AND first_ns >= ? ORDER BY first_ns DESC",
        (slug, since_ns),
    )
    for first_ns, missed, block in rows:
        if len(found.arrived_ns) >= newest:
            break
        one = unpack(first_ns, block)
        found.arrived_ns.extend(one.arrived_ns)
        found.service_ns.extend(one.service_ns)
        found.missed += missed
    pairs = sorted(zip(found.arrived_ns, found.service_ns, strict=True))[-newest:]
    return Requests([arrived for arrived, _ in pairs], [service for _, service in pairs], found.missed)


def pack(requests: Requests) -> bytes:
    """Arrivals as steps from the first one, then service times, 32 bits each. Values above 119 h are cut to that."""
    pairs = sorted(zip(requests.arrived_ns, requests.service_ns, strict=True))
    first_ns = pairs[0][0]
    offsets = [(arrived - first_ns) // UNIT_NS for arrived, _ in pairs]
    steps = array("I", [min(b - a, _LIMIT) for a, b in zip([0, *offsets[:-1]], offsets, strict=True)])
    services = array("I", [min(-(-service // UNIT_NS), _LIMIT) for _, service in pairs])
    return zlib.compress(_planes(steps) + _planes(services), 6)


def unpack(first_ns: int, block: bytes) -> Requests:
    """The inverse of `pack`, to a tenth of a millisecond."""
    raw = zlib.decompress(block)
    half = len(raw) // 2
    arrived_ns, at_ns = [], first_ns
    for step in _whole(raw[:half]):
        at_ns += step * UNIT_NS
        arrived_ns.append(at_ns)
    return Requests(arrived_ns, [service * UNIT_NS for service in _whole(raw[half:])], 0)


def _planes(values: array[int]) -> bytes:
    """First bytes of all values, then second ones, ...: high bytes are alike, which compresses to nearly nothing."""
    raw = b"".join(value.to_bytes(4, "little") for value in values)
    return b"".join(raw[plane::4] for plane in range(4))


def _whole(planes: bytes) -> list[int]:
    size = len(planes) // 4
    return [int.from_bytes(planes[n::size], "little") for n in range(size)]
