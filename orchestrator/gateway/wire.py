"""Heads as we write them: requests to workers, replies to clients. Pure: bytes from values."""

from __future__ import annotations

from orchestrator.gateway.head import ReplyHead, RequestHead

_TRUE = b"true"
_FALSE = b"false"


def request_head(head: RequestHead, target: bytes, host_line: bytes, request_id: bytes, peer_line: bytes) -> bytes:
    """The head of the request as the worker gets it: always HTTP/1.1, without key and hop-by-hop fields."""
    if head.chunked:
        framing = b"transfer-encoding: chunked\r\n\r\n"
    elif head.content_length >= 0:
        framing = b"content-length: %d\r\n\r\n" % head.content_length
    elif head.method in (b"POST", b"PUT", b"PATCH"):
        framing = b"content-length: 0\r\n\r\n"
    else:
        framing = b"\r\n"
    kept = b"\r\n".join(head.kept) + b"\r\n" if head.kept else b""
    return b"%b %b HTTP/1.1\r\n%b%bx-request-id: %b\r\n%b%b" % (
        head.method, target, host_line, peer_line, request_id, kept, framing,
    )  # fmt: skip


def reply_head(
    reply: ReplyHead,
    *,
    chunked: bool,
    connection: bytes,
    request_id: bytes,
    worker_line: bytes,
    queue_ns: int,
    worker_ns: int,
    cold: bool,
    balance: bytes,
) -> bytes:
    """The head of the reply as the client gets it. A Content-Length is passed on except where it may not stand."""
    if chunked:
        framing = b"transfer-encoding: chunked\r\n"
    elif reply.content_length >= 0 and reply.status != 204:
        framing = b"content-length: %d\r\n" % reply.content_length
    else:
        framing = b""
    kept = b"\r\n".join(reply.kept) + b"\r\n" if reply.kept else b""
    return (
        b"HTTP/1.1 %d %b\r\n%b%b%bx-request-id: %b\r\n%bx-queue-ms: %d\r\nx-cold-start: %b\r\n"
        b"server-timing: queue;dur=%d, worker;dur=%.1f\r\nx-remaining-credits: %b\r\n\r\n"
    ) % (
        reply.status, reply.reason, kept, framing, connection, request_id, worker_line, queue_ns // 1_000_000,
        _TRUE if cold else _FALSE, queue_ns // 1_000_000, worker_ns / 1_000_000, balance,
    )  # fmt: skip


def interim_head(reply: ReplyHead) -> bytes:
    """A 1xx reply, passed on with its end-to-end fields."""
    kept = b"\r\n".join(reply.kept) + b"\r\n" if reply.kept else b""
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (reply.status, reply.reason, kept)
