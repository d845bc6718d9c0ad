"""How an asynchronous call is told: JSON for its caller, a view for front ends, the payload of a webhook. Pure."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final, Literal, cast
from urllib.parse import urlsplit

from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.deferred import RequestState, RequestView, WebhookView
from orchestrator.deferred.records import Record
from orchestrator.deferred.rules import KEPT_NS

_MS_NS: Final = SECOND_NS // 1_000


def describe(record: Record, base: str) -> dict[str, Any]:
    """The JSON of `/v2/requests/{id}`. `base` is scheme and authority for its URLs; names of fields that Segmind's v2
    has are as there (`status` and `poll_url` among them)."""
    url = f"{base}/v2/requests/{record.id}"
    told: dict[str, Any] = {
        "request_id": record.id,
        "endpoint": record.slug,
        "state": record.state.value,
        "status": record.state.value,
        "poll_url": url,
        "result_url": f"{url}/result" if record.state.over and record.worker_status is not None else None,
        "cancel_url": None if record.state.over else f"{url}/cancel",
        "accepted_at": _iso(record.accepted_ns),
        "started_at": _iso(record.started_ns),
        "ended_at": _iso(record.ended_ns),
        "purged_at": _iso(_purged_ns(record)),
        "queue_ms": _span_ms(record.accepted_ns, record.started_ns),
        "run_ms": _span_ms(record.started_ns, record.ended_ns),
        "total_ms": _span_ms(record.accepted_ns, record.ended_ns),
        "attempts": record.attempts,
        "max_attempts": record.attempts_max,
        "worker_id": record.worker_id,
        "worker_status": record.worker_status,
        "result_bytes": record.result_bytes if record.state.over else None,
        "error": _error(record),
    }
    if record.state is RequestState.QUEUED:
        told["position"] = record.position
        told["waiting_for"] = record.reason
    hook = webhook_of(record)
    if hook is not None:
        told["webhook"] = {"state": hook.state, "attempts": hook.attempts, "problem": hook.problem}
    return told


def view_of(record: Record) -> RequestView:
    return RequestView(
        request_id=record.id,
        endpoint=record.slug,
        account=record.account,
        key_id=record.key_id,
        state=record.state,
        accepted_ns=record.accepted_ns,
        started_ns=record.started_ns,
        ended_ns=record.ended_ns,
        purged_ns=_purged_ns(record),
        attempts=record.attempts,
        attempts_max=record.attempts_max,
        body_bytes=record.body_bytes,
        result_bytes=record.result_bytes,
        position=record.position,
        worker_status=record.worker_status,
        worker_id=record.worker_id,
        code=record.code,
        reason=record.reason,
        webhook=webhook_of(record),
    )


def webhook_of(record: Record) -> WebhookView | None:
    if record.hook_url is None:
        return None
    parts = urlsplit(record.hook_url)
    state = cast("Literal['waiting', 'owed', 'delivered', 'given_up']", record.hook_state)
    return WebhookView(
        origin=f"{parts.scheme}://{parts.netloc}",
        state=state,
        attempts=record.hook_attempts,
        problem=record.hook_problem,
    )


def notification(record: Record) -> bytes:
    """The payload of a webhook. The result itself is not in it: it is fetched with a key, so a URL that was given in
    error tells a stranger no more than that a call ended."""
    told = describe(record, record.base)
    told.pop("webhook", None)  # it would tell of attempts that this one is not among
    document = {"type": f"request.{record.state.value.lower()}", "timestamp": _iso(record.ended_ns), "data": told}
    return json.dumps(document, separators=(",", ":")).encode()


def _error(record: Record) -> dict[str, str] | None:
    if record.code is None:
        return None
    return {"code": record.code, "detail": record.reason or ""}


def _purged_ns(record: Record) -> int | None:
    return None if record.ended_ns is None else record.ended_ns + KEPT_NS


def _span_ms(since_ns: int | None, until_ns: int | None) -> int | None:
    return None if since_ns is None or until_ns is None else max(0, until_ns - since_ns) // _MS_NS


def _iso(at_ns: int | None) -> str | None:
    if at_ns is None:
        return None
    return datetime.fromtimestamp(at_ns / SECOND_NS, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
