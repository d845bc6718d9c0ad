"""Heads as we write them: requests to workers, replies to clients. Pure: bytes from values."""

from __future__ import annotations

from typing import Final

from orchestrator.gateway.head import ReplyHead, RequestHead

SWITCH: Final = b"connection: Upgrade\r\nupgrade: websocket\r\n"
_TENTHS: Final = tuple(b"%d.%d" % divmod(tenths, 10) for tenths in range(1_000))
"""Durations below 100 ms as they are written: formatting one costs more than all the rest of a head."""
_TENTH_NS: Final = 100_000
_MS_NS: Final = 1_000_000


def request_head(head: RequestHead, target: bytes, host_line: bytes, request_id: bytes, peer_line: bytes) -> bytes:
    """The head of the request as the worker gets it: always HTTP/1.1, without key and hop-by-hop fields."""
    back = head.back
    if back is None:
        back = head.back = _back(head)
    return b"".join(
        (head.method, b" ", target, b" HTTP/1.1\r\n", host_line, peer_line, b"x-request-id: ", request_id, back)
    )


def _back(head: RequestHead) -> bytes:
    if head.chunked:
        framing = b"transfer-encoding: chunked\r\n\r\n"
    elif head.content_length >= 0:
        framing = b"content-length: %d\r\n\r\n" % head.content_length
    elif head.method in (b"POST", b"PUT", b"PATCH"):
        framing = b"content-length: 0\r\n\r\n"
    elif head.accept is not None:
        framing = SWITCH + b"\r\n"
    else:
        framing = b"\r\n"
    return b"\r\n".join((b"", *head.kept, framing))


def reply_head(
    reply: ReplyHead,
    *,
    chunked: bool,
    connection: bytes,
    request_id: bytes,
    waited: bytes,
    worker_ns: int,
    balance: bytes,
    body: bytes,
) -> bytes:
    """The head of the reply as the client gets it, and what is there of its body. `waited` are the lines that say who
    served it and how long it waited (`waited_lines`)."""
    front = reply.front
    if chunked:
        front = _front(reply, b"transfer-encoding: chunked\r\n")
    elif front is None:
        # A Content-Length is passed on except where it may not stand.
        lengthy = reply.content_length >= 0 and reply.status != 204
        front = reply.front = _front(reply, b"content-length: %d\r\n" % reply.content_length if lengthy else b"")
    tenths = worker_ns // _TENTH_NS
    duration = _TENTHS[tenths] if 0 <= tenths < 1_000 else b"%.1f" % (worker_ns / _MS_NS)
    return b"".join(
        (front, connection, b"x-request-id: ", request_id, waited, duration, b"\r\nx-remaining-credits: ", balance,
         b"\r\n\r\n", body)
    )  # fmt: skip


def waited_lines(worker_id: str, queue_ns: int, *, cold: bool) -> bytes:
    """From the end of the request's id to the worker's duration. The same for every request that did not wait."""
    queue_ms = queue_ns // _MS_NS
    lines = (
        f"\r\nx-worker-id: {worker_id}\r\nx-queue-ms: {queue_ms}\r\nx-cold-start: {'true' if cold else 'false'}\r\n"
        f"server-timing: queue;dur={queue_ms}, worker;dur="
    )
    return lines.encode("ascii", "replace")


def _front(reply: ReplyHead, framing: bytes) -> bytes:
    kept = b"\r\n".join(reply.kept) + b"\r\n" if reply.kept else b""
    return b"HTTP/1.1 %d %b\r\n%b%b" % (reply.status, reply.reason, kept, framing)


def interim_head(reply: ReplyHead) -> bytes:
    """A 1xx reply, passed on with its end-to-end fields."""
    return _front(reply, b"\r\n")
