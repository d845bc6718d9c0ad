"""What asynchronous calls are allowed, and what becomes of one after an attempt. Pure.

Decided as a caller would expect, who is not there any more:

- Live calls go first. At most WINDOW asynchronous calls of an endpoint stand in its lane, and each lets live ones
  pass for YIELD_NS; after that its turn is its turn, so neither side can starve the other.
- A disabled or suspended endpoint, one that fails to start, a full queue: the call waits, up to its time to live.
  Nobody has to send it again once the endpoint is back. A deleted endpoint: FAILED, nothing will ever serve it.
- Whether its account may call the endpoint is asked again when its turn comes: FAILED if that is over.
- A worker that is lost is no answer: run again, as long as attempts are left. One that could not be connected to has
  seen nothing: that was no attempt. A worker's own reply is the answer, whatever its status; below 400 the call is
  COMPLETED, else FAILED, and the reply can be fetched either way.
- A time-out is not tried again: the same work would take as long on the next worker, and is paid for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.deferred import RequestState
from orchestrator.gateway.answers import Refusal

ATTEMPTS_DEFAULT: Final = 3
ATTEMPTS_MAX: Final = 10
WAIT_NS: Final = 24 * 3_600 * SECOND_NS
"""Time to live while QUEUED, from acceptance on: FAILED with `expired` after it."""
KEPT_NS: Final = 3_600 * SECOND_NS
"""How long the result can be fetched (design.md section 1, HTTP)."""
WINDOW: Final = 64
"""Asynchronous calls of one endpoint in its lane at a time: enough for the scaling policies to see demand for the most
workers an endpoint may have."""
YIELD_NS: Final = 30 * SECOND_NS
"""How long one in the lane lets live requests pass."""
PART_BYTES: Final = 256 * 1024
"""Bodies and results are kept in parts of this size, so that none is ever whole in memory."""
UNSAVED_BYTES_MAX: Final = 2 * 1024**2
"""Bytes on their way to the disk before whoever sends them has to wait."""
RETRY_PAUSE_NS: Final = SECOND_NS

_KEY: Final = re.compile(rb"[\x21-\x7e]{1,255}").fullmatch
_OWN_FIELDS: Final = frozenset({b"x-webhook-url", b"x-max-attempts"})
"""For us alone: not passed on to the worker."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one endpoint. `requests` not over yet; `bytes` of bodies and of results that are still kept."""

    requests: int = 10_000
    bytes: int = 2 * 1024**3
    result_bytes: int = 256 * 1024**2
    """One result: FAILED with `result_too_large` beyond."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a caller asked for beside the call itself."""

    attempts_max: int = ATTEMPTS_DEFAULT
    idempotency_key: str | None = None
    webhook: str | None = None
    """Not validated here: webhook.py knows what may be addressed."""


class Next(StrEnum):
    """What becomes of a call after an attempt that brought no reply."""

    AGAIN = "again"
    """Another attempt; this one counts."""
    WAIT = "wait"
    """Back into the queue as if nothing had happened: no worker has seen it."""
    FAIL = "fail"


_NOT_SEEN: Final = frozenset(
    {
        "queue_full",
        "queue_timeout",
        "endpoint_disabled",
        "endpoint_failed",
        "credit_exhausted",
        "stopping",
        "out_of_descriptors",
        "worker_unreachable",
    }
)
_LOST: Final = frozenset({"worker_lost", "interrupted", "storage"})


def after(code: str, attempts: int, attempts_max: int) -> Next:
    """What follows a refusal with this code, `attempts` (this one included) of `attempts_max` made."""
    if code in _NOT_SEEN:
        return Next.WAIT
    if code in _LOST and attempts < attempts_max:
        return Next.AGAIN
    return Next.FAIL


def state_of(worker_status: int) -> RequestState:
    return RequestState.COMPLETED if worker_status < 400 else RequestState.FAILED


def window_of(queue_limit: int) -> int:
    """How many may stand in a lane with this limit: never more than half of it, the rest is for live requests."""
    return max(1, min(WINDOW, queue_limit // 2))


def read_wishes(kept: list[bytes], query: bytes) -> tuple[Wishes, list[bytes], bytes]:
    """The wishes in a request's field lines and query, and lines and query (with its `?`) for the worker without them.

    Raises Refusal 400 naming the field: it came twice, or its value is none.
    """
    found: dict[bytes, bytes] = {}
    lines: list[bytes] = []
    for line in kept:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name in _OWN_FIELDS or name == b"idempotency-key":
            if name in found:
                raise Refusal(400, "duplicate_field", f"The field {name.decode('ascii')} came more than once.")
            found[name] = value.strip(b" \t")
        if name not in _OWN_FIELDS:
            lines.append(line)
    webhook, query = _take_webhook(query, found.get(b"x-webhook-url"))
    return Wishes(_attempts(found), _idempotency(found), webhook), lines, query


def _attempts(found: dict[bytes, bytes]) -> int:
    text = found.get(b"x-max-attempts")
    if text is None:
        return ATTEMPTS_DEFAULT
    if not text.isdigit() or len(text) > 2 or not 1 <= int(text) <= ATTEMPTS_MAX:
        raise Refusal(400, "bad_max_attempts", f"x-max-attempts: must be a number from 1 to {ATTEMPTS_MAX}.")
    return int(text)


def _idempotency(found: dict[bytes, bytes]) -> str | None:
    key = found.get(b"idempotency-key")
    if key is None:
        return None
    if not _KEY(key):
        raise Refusal(400, "bad_idempotency_key", "Idempotency-Key: must be 1 to 255 visible ASCII characters.")
    return key.decode("ascii")


def _take_webhook(query: bytes, field: bytes | None) -> tuple[str | None, bytes]:
    """The URL from the field or from `webhook_url=` in the query. The rest of the query stays as it came."""
    rest: list[bytes] = []
    given = [] if field is None else [field]
    for pair in query[1:].split(b"&") if query else []:
        name, _, value = pair.partition(b"=")
        if name == b"webhook_url":
            given.append(_decoded(value))
        else:
            rest.append(pair)
    if len(given) > 1:
        raise Refusal(400, "duplicate_field", "Give one webhook URL: x-webhook-url or webhook_url=, once.")
    if not given:
        return None, query
    if not given[0].isascii() or any(byte <= 32 or byte == 127 for byte in given[0]):
        raise Refusal(400, "webhook_refused", "The webhook URL holds characters that no URL has.")
    return given[0].decode("ascii"), b"?" + b"&".join(rest) if rest else b""


def _decoded(value: bytes) -> bytes:
    """Percent-decoding, once; a plus is a space in a query and has no place in a URL."""
    parts = value.split(b"%")
    out = [parts[0]]
    for part in parts[1:]:
        try:
            out.append(bytes([int(part[:2], 16)]) + part[2:] if len(part) >= 2 else b"\0")
        except ValueError:
            out.append(b"\0")  # refused as no character of a URL
    return b"".join(out).replace(b"+", b" ")
