"""The access log: a JSON object a line for every request that is over, written by a thread of its own.

On the request path a record is put into a queue, nothing else. A disk that is slower than the traffic costs lines, not
latency: what does not fit into the queue, or onto the disk, is counted, and the count is a line of its own. Keys,
bodies, queries and addresses are not in it; of a key its id.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from orchestrator.contract.base import SECOND_NS
from orchestrator.gateway.head import RequestHead
from orchestrator.gateway.observing import Ended, traceparent_of

log = logging.getLogger(__name__)

FILE_BYTES_MAX: Final = 32 * 1024**2
FILES_KEPT: Final = 4
"""access.log and its predecessors access.log.1 to .3."""
QUEUE_MAX: Final = 20_000
PAUSE_S: Final = 0.2
"""Lines are written together: at most this late."""
_MS_NS: Final = 1_000_000
_SLUG: Final = re.compile(rb"/v[12]/([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)(?:[/?]|\Z)").match
_PROBES: Final = (b"/healthz", b"/readyz")

Answered = tuple[int, RequestHead | None, bytes, int, int]
"""Instant, head, request id, status, bytes out: an answer of the gateway's own."""


class AccessLog:
    """An `Observer`. The file is 0600 and rotated by size."""

    def __init__(self, path: Path, now: Callable[[], int], file_bytes_max: int = FILE_BYTES_MAX) -> None:
        self._path = path
        self._now = now
        self._file_bytes_max = file_bytes_max
        self._records: deque[Ended | Answered] = deque()
        self._dropped = 0
        self._failing = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gpudeck-access-log", daemon=True)
        self._thread.start()

    def admitted(self, head: RequestHead) -> RequestHead:
        return head

    def ended(self, request: Ended) -> None:
        self._put(request)

    def answered(self, head: RequestHead | None, request_id: bytes, status: int, bytes_out: int) -> None:
        """Probes that find all well are left out: somebody asks every second."""
        if status != 200 or head is None or head.target not in _PROBES:
            self._put((self._now(), head, request_id, status, bytes_out))

    def close(self) -> None:
        """Write what is there and end. Idempotent."""
        self._over.set()
        self._thread.join()

    def _put(self, record: Ended | Answered) -> None:
        if len(self._records) < QUEUE_MAX:
            self._records.append(record)
        else:
            self._dropped += 1

    def _run(self) -> None:
        while not self._over.wait(PAUSE_S):
            self._write()
        self._write()

    def _write(self) -> None:
        lines = []
        dropped, self._dropped = self._dropped, 0
        if dropped:
            lines.append(json.dumps({"time": _iso(self._now()), "dropped": dropped}))
        while self._records:
            lines.append(json.dumps(describe(self._records.popleft()), separators=(",", ":")))
        if not lines:
            return
        lost = dropped + len(lines) - bool(dropped)
        try:
            size = self._append("\n".join([*lines, ""]).encode())
            lost = 0
            if size >= self._file_bytes_max:
                self._rotate()
        except OSError as error:
            if not self._failing:
                log.warning("the access log cannot be written: %s", error)
            self._failing = True
        else:
            self._failing = False
        self._dropped += lost

    def _append(self, data: bytes) -> int:
        """All of it or nothing, for half a line would spoil the one after it; the size of the file. Opened anew each
        time: a log that was moved away or deleted is begun again."""
        descriptor = os.open(self._path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        try:
            before = os.fstat(descriptor).st_size
            if os.write(descriptor, data) < len(data):
                os.ftruncate(descriptor, before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return before + len(data)
        finally:
            os.close(descriptor)

    def _rotate(self) -> None:
        for number in range(FILES_KEPT - 1, 0, -1):
            older = self._path if number == 1 else self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def describe(record: Ended | Answered) -> dict[str, Any]:
    """The object of one line. What a client sent is in it only as far as the gateway has checked its form."""
    if not isinstance(record, Ended):
        at_ns, head, request_id, status, bytes_out = record
        match = _SLUG(head.target) if head is not None else None
        return {
            "time": _iso(at_ns),
            "request_id": request_id.decode("ascii", "replace"),
            "method": None if head is None else head.method.decode("ascii", "replace"),
            "endpoint": None if match is None else match[1].decode("ascii"),
            "status": status,
            "bytes_out": bytes_out,
            "traceparent": None if head is None else _trace(head),
        }
    return {
        "time": _iso(record.at_ns),
        "request_id": record.request_id.decode("ascii", "replace"),
        "method": record.head.method.decode("ascii", "replace"),
        "endpoint": record.slug,
        "account": record.account,
        "key_id": record.key_id,
        "worker": record.worker_id,
        "status": record.status,
        "bytes_in": record.bytes_in,
        "bytes_out": record.bytes_out,
        "queue_ms": round(record.queue_ns / _MS_NS, 3),
        "total_ms": round(record.total_ns / _MS_NS, 3),
        "cold_start": record.cold,
        "traceparent": _trace(record.head),
    }


def _trace(head: RequestHead) -> str | None:
    value = traceparent_of(head.kept)
    return None if value is None else value.decode("ascii")


def _iso(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns / SECOND_NS, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
