"""Replies of the gateway itself: RFC 9457 problems, small JSON documents, interim lines. Pure: bytes from values."""

from __future__ import annotations

import json
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final

from orchestrator.contract.base import DOLLAR_U, SECOND_NS

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
TITLES: Final = {status.value: status.phrase for status in HTTPStatus} | {413: "Content Too Large"}


class Refusal(Exception):
    """A request the gateway answers itself with an error. `code` is stable and for machines, `detail` a sentence for a
    person; neither ever holds bytes of the request. `close` ends the connection: its framing cannot be trusted."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        retry_after_s: int | None = None,
        fields: tuple[tuple[str, str], ...] = (),
        close: bool = False,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.fields = fields
        self.close = close


def problem_body(refusal: Refusal, request_id: bytes) -> bytes:
    """The `application/problem+json` document of `refusal`."""
    return json.dumps(
        {
            "type": f"urn:gpudeck:problem:{refusal.code}",
            "title": TITLES.get(refusal.status, "Error"),
            "status": refusal.status,
            "detail": refusal.detail,
            "code": refusal.code,
            "request_id": request_id.decode("ascii"),
        }
    ).encode()


def problem_fields(refusal: Refusal) -> list[tuple[str, str]]:
    """Reply fields that go with `refusal`, `content-type` included."""
    fields = [("content-type", "application/problem+json"), *refusal.fields]
    if refusal.retry_after_s is not None:
        fields.append(("retry-after", str(refusal.retry_after_s)))
    return fields


def render(
    status: int,
    fields: list[tuple[str, str]],
    body: bytes,
    request_id: bytes,
    *,
    connection: bytes,
    head_only: bool,
    now_ns: int,
) -> bytes:
    """A whole reply. `connection` is the rendered Connection line or empty; `head_only` answers HEAD."""
    lines = [f"HTTP/1.1 {status} {TITLES.get(status, 'Error')}", *(f"{name}: {value}" for name, value in fields)]
    lines.append(f"content-length: {len(body)}")
    lines.append(f"date: {formatdate(now_ns // SECOND_NS, usegmt=True)}")
    lines.append("cache-control: no-store")
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n" + connection + b"x-request-id: " + request_id + b"\r\n\r\n"
    return head if head_only else head + body


def json_body(value: Any) -> bytes:
    return json.dumps(value).encode()


def dollars(amount_u: int) -> str:
    """Micro-dollars as a decimal number of dollars: two places at least, six at most, exact."""
    whole, rest = divmod(abs(amount_u), DOLLAR_U)
    places = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if amount_u < 0 else ''}{whole}.{places}"


def credits_body(account: str, balance_u: int) -> bytes:
    """`{"credits": 12.34, "account": "local"}`; the number is written from the integer, never through a float."""
    return f'{{"credits": {dollars(balance_u)}, "account": {json.dumps(account)}}}'.encode()
