"""Errors a caller sees: application/problem+json (RFC 9457) with a machine code, the field at fault and its limit."""

from __future__ import annotations

import json
from typing import Final

from aiohttp import web

CONTENT_TYPE: Final = "application/problem+json"
TITLES: Final = {
    400: "Bad request",
    404: "Not found",
    405: "Method not allowed",
    413: "Too large",
    415: "Unsupported media type",
    422: "Invalid field",
    501: "Not implemented",
    503: "Not ready",
}


class Problem(Exception):
    """A refusal of the request. `detail` is a sentence that says what to change; `limit` is a number or a text."""

    def __init__(
        self, status: int, code: str, detail: str, *, field: str | None = None, limit: float | str | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.field = field
        self.limit = limit

    def response(self) -> web.Response:
        """The answer to send; JSON escapes every control character that came from outside."""
        document: dict[str, object] = {
            "type": "about:blank",
            "title": TITLES.get(self.status, "Error"),
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }
        if self.field is not None:
            document["field"] = self.field
        if self.limit is not None:
            document["limit"] = self.limit
        headers = {"Retry-After": "1"} if self.status == 503 else None
        return web.Response(
            status=self.status, body=json.dumps(document).encode(), content_type=CONTENT_TYPE, headers=headers
        )


def shown(text: str, length: int = 40) -> str:
    """`text` from outside, quoted, without control codes and cut to `length` characters, for use in a message."""
    return ascii(text if len(text) <= length else f"{text[:length]}…".replace("…", "..."))
