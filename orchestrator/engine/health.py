"""One HTTP health probe, shared by the engines: raw streams, the status line only."""

from __future__ import annotations

import asyncio
import re
from typing import Final

STATUS_LINE_BYTES_MAX: Final = 1_024
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] (\d{3})(?: [^\r\n]*)?\r?\n")
_PATH: Final = re.compile(r"/[\x21-\x7e]*")


async def http_healthy(host: str, port: int, path: str, timeout_s: float) -> bool:
    """True when `GET http://host:port{path}` answers 2xx within `timeout_s` seconds, connecting included.

    Never raises: a refused connection, a silent listener, an answer that is no HTTP, and a path or port that no request
    can have are all False. Reads at most STATUS_LINE_BYTES_MAX bytes and keeps no connection. Proxy variables of the
    environment are not consulted (reliability.md W13).
    """
    if not _PATH.fullmatch(path) or not 0 < port <= 65_535:
        return False
    try:
        async with asyncio.timeout(timeout_s):
            return await _probe(host, port, path)
    except (OSError, ValueError, asyncio.IncompleteReadError):  # TimeoutError is an OSError
        return False


async def _probe(host: str, port: int, path: str) -> bool:
    reader, writer = await asyncio.open_connection(host, port, limit=STATUS_LINE_BYTES_MAX)
    try:
        authority = f"[{host}]" if ":" in host else host
        request = f"GET {path} HTTP/1.1\r\nHost: {authority}:{port}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        writer.write(request.encode("ascii"))
        await writer.drain()
        # readline raises ValueError past the limit, so a flood without a line end cannot hold memory.
        line = await reader.readline()
        match = _STATUS_LINE.fullmatch(line)
        return match is not None and match[1].startswith(b"2")
    finally:
        # The rest of the answer is of no interest; an orderly close would wait for the peer to send it all.
        writer.transport.abort()
