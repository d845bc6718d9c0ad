"""Bounds of the data plane, and who may reach it from a browser. Every bound has a status of its own when it is hit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orchestrator.settings import Settings


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes are bytes, durations seconds. The defaults are those of design.md and reliability.md section 3.4."""

    head_bytes: int = 16 * 1024
    """Request line and fields of one request: 431 beyond."""
    fields: int = 100
    target_bytes: int = 8 * 1024
    """Request target: 414 beyond."""
    body_bytes: int = 256 * 1024**2
    """One request body: 413 beyond."""
    buffer_bytes: int = 1024**2
    """Most of one request body held in memory while it waits; also the largest body that can be sent a second time."""
    spool_bytes: int = 1024**3
    """What waits beyond that is kept on the disk, for all requests together; beyond this clients are held, and one that
    leaves with full sockets is noticed only when its kernel gives up."""
    spool_directory: str | None = None
    """Where; None is the system's directory for temporary files."""
    collect_bytes: int = 8 * 1024**2
    """Largest JSON body that is read whole to find its `model` field: 413 beyond."""
    reply_head_bytes: int = 64 * 1024
    """Status line and fields of a worker's reply: 502 beyond."""
    interim_replies: int = 8
    """1xx replies of a worker to one request: 502 beyond."""
    connections: int = 4_096
    """Client connections in all: 503 and close beyond. Fewer if the process may not have as many descriptors."""
    connections_per_peer: int = 2_048
    """Of one address, or one /64 of IPv6: nobody alone can take them all."""
    wrong_keys: int = 20
    """Wrong keys of one peer, or uses of one wrong key, in a row: 429 beyond, which never concerns a right key;"""
    wrong_key_pause_s: float = 3.0
    """and the time after which one more is forgiven."""
    head_deadline_s: float = 10.0
    """From the first byte of a request (or from accept) to the end of its fields: 408 beyond."""
    idle_s: float = 75.0
    """Keep-alive of an idle client connection."""
    body_window_s: float = 30.0
    """A body that we are ready to read must bring `body_window_bytes` in every such window: 408 beyond."""
    body_window_bytes: int = 512
    send_stall_s: float = 60.0
    """A client that takes nothing of its reply for this long is cut off."""
    websocket_idle_s: float = 300.0
    """A WebSocket over which neither side sends anything for this long is closed."""
    websocket_close_s: float = 10.0
    """The same once one side has ended."""
    linger_s: float = 2.0
    """How long bytes of a refused request are read and dropped, from when its client has taken all of the answer on, so
    that it sees that and not a reset."""
    connect_s: float = 5.0
    """Opening a connection to a worker."""
    worker_idle_s: float = 4.0
    """Idle connections to workers are closed before common servers close them (uvicorn: 5 s), so that no request is
    written to a connection that is about to end."""
    sweep_s: float = 0.5
    """How often deadlines are looked at: none of them is more exact than this."""


@dataclass(frozen=True, slots=True)
class Access:
    """Browser defence (reliability.md 5.2). `hosts` are names or addresses without a port that may stand in `Host`
    besides localhost, 127.0.0.1 and [::1]; `origins` are whole origins such as `https://app.example`."""

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()


def limits_of(settings: Settings, spool_directory: Path) -> Limits:
    """The defaults, with what the operator chose."""
    return Limits(
        body_bytes=settings.request_body_bytes_max,
        connections=settings.connections_max,
        connections_per_peer=settings.connections_per_peer_max,
        head_deadline_s=settings.header_timeout_s,
        idle_s=settings.keepalive_s,
        websocket_idle_s=settings.websocket_idle_s,
        spool_bytes=settings.spool_bytes_max,
        spool_directory=str(spool_directory),
    )


def access_of(settings: Settings) -> Access:
    """Who may reach the gateway, as the operator chose."""
    return Access(hosts=frozenset(settings.allowed_hosts), origins=frozenset(settings.allowed_origins))
