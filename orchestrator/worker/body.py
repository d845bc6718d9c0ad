"""Reading request bodies with a bound, and JSON out of them."""

from __future__ import annotations

import json
from typing import Final

from aiohttp import web

from orchestrator.worker.problem import Problem

BODY_BYTES_MAX: Final = 25 * 1024 * 1024


def too_large(field: str = "body") -> Problem:
    return Problem(
        413,
        "body_too_large",
        f"{field}: at most {BODY_BYTES_MAX} bytes (25 MiB)",
        field=field,
        limit=BODY_BYTES_MAX,
    )


def refuse_early(request: web.BaseRequest) -> None:
    """Raises Problem 413 from the declared length, before a byte is read, and 415 for a compressed body."""
    if (request.content_length or 0) > BODY_BYTES_MAX:
        raise too_large()
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if encoding != "identity":
        raise Problem(415, "content_encoding", "content-encoding: send the body uncompressed", field="content-encoding")


async def read_body(request: web.BaseRequest) -> bytes:
    """The whole body. Raises Problem 413 as soon as it exceeds BODY_BYTES_MAX, whatever its declared length."""
    refuse_early(request)
    received = bytearray()
    async for chunk in request.content.iter_any():
        received += chunk
        if len(received) > BODY_BYTES_MAX:
            raise too_large()
    return bytes(received)


def parse_object(body: bytes) -> dict[str, object]:
    """A JSON object. Raises Problem 400 saying where it stops being JSON."""
    try:
        document = json.loads(body)
    except UnicodeDecodeError as error:
        raise Problem(400, "invalid_json", f"body: not UTF-8 at byte {error.start}", field="body") from error
    except json.JSONDecodeError as error:
        detail = f"body: not JSON at line {error.lineno}, column {error.colno}: {error.msg}"
        raise Problem(400, "invalid_json", detail, field="body") from error
    except RecursionError as error:
        raise Problem(400, "invalid_json", "body: nested too deeply", field="body") from error
    except ValueError as error:  # an integer longer than sys.int_info allows
        raise Problem(400, "invalid_json", "body: a number is too long", field="body") from error
    if not isinstance(document, dict):
        raise Problem(400, "invalid_json", "body: send a JSON object", field="body")
    return document
